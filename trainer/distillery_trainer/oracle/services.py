"""The oracles by name: where they are, which key they want, how they are asked to keep to a schema."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distillery_runtime.errors import InputError, Problem
from distillery_trainer.oracle.credentials import read_key
from distillery_trainer.oracle.openai_compatible import ChatOracle, ReplyFormat
from distillery_trainer.oracle.protocol import BatchOracle, Oracle, Settings

if TYPE_CHECKING:
    from distillery_trainer.oracle.gemini import GeminiOracle

GEMINI, RECORDED = "gemini", "recorded"


@dataclass(frozen=True, slots=True)
class ChatService:
    """An OpenAI-compatible server: its address, the variables that may hold its key, and how it is asked."""

    base_url: str
    key_variables: tuple[str, ...]
    needs_key: bool
    reply_format: ReplyFormat = "json_schema"
    limit_field: str = "max_tokens"


CHAT_SERVICES = {
    "openai": ChatService("https://api.openai.com/v1", ("OPENAI_API_KEY",), True, limit_field="max_completion_tokens"),
    "deepseek": ChatService("https://api.deepseek.com", ("DEEPSEEK_API_KEY",), True, "json_object"),
    "vllm": ChatService("http://localhost:8000/v1", ("VLLM_API_KEY",), False),
    "ollama": ChatService("http://localhost:11434/v1", ("OLLAMA_API_KEY",), False),
}
GEMINI_KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
SERVICES = (GEMINI, *CHAT_SERVICES, RECORDED)


@dataclass(frozen=True, slots=True)
class Access:
    """Which oracle is asked, and how it is reached.

    `base_url` and `key_variable` replace the service's own. `timeout_s` bounds each connection and read.
    """

    service: str
    model: str
    settings: Settings
    base_url: str | None = None
    key_variable: str | None = None
    timeout_s: float = 120.0


def check_access(access: Access, is_batch: bool) -> None:
    """Refuses what a service does not have, before anything is asked.

    Raises:
        InputError: a budget for thinking or batch mode where there is none, or extra fields for Gemini.
    """
    problems = []
    if access.service != GEMINI and access.settings.thinking_tokens is not None:
        expected = "none; see --extra for what the server itself has"
        problems.append(Problem("--thinking-tokens", f"{access.service} has no such setting", expected))
    if access.service not in CHAT_SERVICES and access.settings.extra:
        problems.append(Problem("--extra", f"not for {access.service}", f"one of {', '.join(CHAT_SERVICES)}"))
    if access.service != GEMINI and is_batch:
        problems.append(Problem("--batch", f"{access.service} has no batch mode here", GEMINI))
    if problems:
        raise InputError("trainer label", problems)


def open_oracle(access: Access, schema: Mapping[str, object]) -> Oracle:
    """The oracle for live calls; its key comes from the environment.

    Raises:
        InputError: the key is not there.
    """
    if access.service == GEMINI:
        return _gemini(access, schema)
    service = CHAT_SERVICES[access.service]
    variables = (access.key_variable,) if access.key_variable else service.key_variables
    needed = access.key_variable is not None or (service.needs_key and access.base_url is None)
    return ChatOracle(
        access.model,
        access.settings,
        schema,
        read_key(variables, needed),
        access.base_url or service.base_url,
        service.reply_format,
        service.limit_field,
        access.timeout_s,
    )


def open_batches(access: Access, schema: Mapping[str, object]) -> BatchOracle:
    """Gemini's batch mode; raises as `open_oracle` does."""
    from distillery_trainer.oracle.gemini_batch import GeminiBatches  # here: google-genai takes a second to import

    return GeminiBatches(_gemini(access, schema))


def _gemini(access: Access, schema: Mapping[str, object]) -> "GeminiOracle":
    from distillery_trainer.oracle.gemini import GeminiOracle  # here, as above

    variables = (access.key_variable,) if access.key_variable else GEMINI_KEYS
    key = read_key(variables, needed=True) or ""
    return GeminiOracle(access.model, access.settings, schema, key, access.base_url, access.timeout_s)
