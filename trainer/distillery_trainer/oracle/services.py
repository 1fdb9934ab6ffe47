"""The oracles by name: where they are, which key they want, what they cost, how they are asked to keep to a schema."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2

from distillery_runtime.errors import InputError, Problem
from distillery_trainer.oracle.credentials import read_key
from distillery_trainer.oracle.http import is_loopback
from distillery_trainer.oracle.prices import FREE, Price, find_price
from distillery_trainer.oracle.protocol import BatchOracle, Call, Oracle, Settings
from distillery_trainer.oracle.providers.openai_compatible import PATH, ChatOracle, ReplyFormat, body_fields, call_body

if TYPE_CHECKING:
    from distillery_trainer.oracle.providers.gemini import GeminiOracle

GEMINI, RECORDED = "gemini", "recorded"


@dataclass(frozen=True, slots=True)
class ChatService:
    """An OpenAI-compatible server: its address, the variables that may hold its key, and how it is asked.

    `is_free`: a program that people run on hardware of their own, where no token has a price.
    """

    base_url: str
    key_variables: tuple[str, ...]
    needs_key: bool
    reply_format: ReplyFormat = "json_schema"
    limit_field: str = "max_tokens"
    is_free: bool = False


CHAT_SERVICES = {
    "openai": ChatService("https://api.openai.com/v1", ("OPENAI_API_KEY",), True, limit_field="max_completion_tokens"),
    "deepseek": ChatService("https://api.deepseek.com", ("DEEPSEEK_API_KEY",), True, "json_object"),
    "openrouter": ChatService("https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",), True),
    "vllm": ChatService("http://localhost:8000/v1", ("VLLM_API_KEY",), False, is_free=True),
    "ollama": ChatService("http://localhost:11434/v1", ("OLLAMA_API_KEY",), False, is_free=True),
    "llamacpp": ChatService("http://localhost:8080/v1", ("LLAMA_API_KEY",), False, is_free=True),
    "lmstudio": ChatService("http://localhost:1234/v1", ("LMSTUDIO_API_KEY",), False, is_free=True),
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
        InputError: no model is named, the base URL is no address, or a setting or batch mode is not the service's.
    """
    problems = _check_url(access.base_url) if access.base_url is not None else []
    if not access.model.strip():
        problems.append(Problem("--model", "not given", f"the name of a model of {access.base_url or access.service}"))
    if access.service != GEMINI and access.settings.thinking_tokens is not None:
        expected = "none; see --extra for what the server itself has"
        problems.append(Problem("--thinking-tokens", f"{access.service} has no such setting", expected))
    if access.service not in CHAT_SERVICES and access.settings.extra:
        problems.append(Problem("--extra", f"not for {access.service}", f"one of {', '.join(CHAT_SERVICES)}"))
    if access.service != GEMINI and is_batch:
        problems.append(Problem("--batch", f"{access.service} has no batch mode here", GEMINI))
    if problems:
        raise InputError("trainer label", problems)


def choose_model(service: str, base_url: str | None, given: str | None, of_the_filter: str) -> str:
    """The model that is asked: the one given, or the filter's own where Google is asked; empty where none is named."""
    if given is not None:
        return given
    return of_the_filter if service == GEMINI and base_url is None else ""


def price_of(access: Access, given: str | None) -> Price:
    """What an oracle's tokens cost: as given, nothing on hardware of one's own, otherwise as the table has it.

    Raises:
        InputError: what was given is no price, or none is known.
    """
    if access.service == RECORDED:
        return FREE
    if given is None and is_free(access.service, access.base_url):
        return replace(FREE, as_of=f"free: {_place(access)}; --price if it is paid by the token")
    return find_price(access.model, given, access.base_url or access.service)


def is_free(service: str, base_url: str | None) -> bool:
    """Whether no token is paid, as far as can be known: a server program for hardware of one's own, or this machine."""
    chat = CHAT_SERVICES.get(service)
    return chat is not None and (chat.is_free or is_loopback(base_url or chat.base_url))


def address_and_body(access: Access, schema: Mapping[str, object], call: Call) -> tuple[str, dict[str, object]]:
    """The address and the body of a call, which is not made; no key is needed, and none is in it."""
    if access.service == GEMINI:
        from distillery_trainer.oracle.providers import gemini  # here, as below

        body = gemini.call_body(call, gemini.generation_config(access.settings, schema))
        base = f"{(access.base_url or gemini.GOOGLE).rstrip('/')}/{gemini.API_VERSION}"
        return f"{base}/models/{access.model}:generateContent", body
    service = CHAT_SERVICES[access.service]
    fields = body_fields(access.model, access.settings, schema, service.reply_format, service.limit_field)
    return f"{(access.base_url or service.base_url).rstrip('/')}/{PATH}", call_body(call, fields)


def _place(access: Access) -> str:
    chat = CHAT_SERVICES[access.service]
    return f"{access.service} runs on your own hardware" if chat.is_free else f"{access.base_url} is on this machine"


def _check_url(url: str) -> list[Problem]:
    expected = "http:// or https:// and a host, up to what stands before /chat/completions"
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        httpx2.URL(url)  # which will connect there, and refuses controls and names that no host can have
    except (ValueError, httpx2.InvalidURL):  # a port that is no number, a bracket that is not closed
        is_whole = False
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if not (is_whole and is_plain) or parts.query or parts.fragment:
        return [Problem("--base-url", repr(url), expected)]
    if url.rstrip("/").endswith(f"/{PATH}"):
        return [Problem("--base-url", repr(url), url.rstrip("/").removesuffix(f"/{PATH}"))]
    return []


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
    from distillery_trainer.oracle.providers.gemini import GeminiBatches  # here: google-genai takes a second to import

    return GeminiBatches(_gemini(access, schema))


def _gemini(access: Access, schema: Mapping[str, object]) -> "GeminiOracle":
    from distillery_trainer.oracle.providers.gemini import GeminiOracle  # here, as above

    variables = (access.key_variable,) if access.key_variable else GEMINI_KEYS
    key = read_key(variables, needed=True) or ""
    return GeminiOracle(access.model, access.settings, schema, key, access.base_url, access.timeout_s)
