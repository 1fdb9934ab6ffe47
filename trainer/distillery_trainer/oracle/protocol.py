"""What every oracle takes and gives: a question about one article, and its raw reply with what it used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from distillery_trainer.oracle.errors import OracleError
from distillery_trainer.oracle.usage import Usage


@dataclass(frozen=True, slots=True)
class Request:
    """One question about one article.

    `key` names it in the ledger and in batches. `instruction` is the prompt's static part, the same for all articles,
    so that providers can cache it; `message` is the article between its delimiters and what follows it. `repeat`
    counts the times that the same article is asked about, from 0.
    """

    key: str
    article_id: str
    instruction: str
    message: str
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that came whole, not yet parsed; `usage` is None where the provider reported none.

    `model` is the model as the provider names it, which may be more exact than what was asked for.
    """

    raw: str
    usage: Usage | None
    model: str


@dataclass(frozen=True, slots=True)
class Settings:
    """How an oracle is asked; every field is part of a question's key.

    `temperature`: None sends none. `thinking_tokens`: the budget for thinking, 0 for none, which comes on top of
    `max_output_tokens`; None leaves thinking to the provider, within `max_output_tokens`. `extra`: further fields of
    the body of each request, for OpenAI-compatible servers.
    """

    temperature: float | None = 0.0
    max_output_tokens: int = 1024
    thinking_tokens: int | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def most_output_tokens(self) -> int:
        """What a call can use of output, thinking included."""
        return self.max_output_tokens + (self.thinking_tokens or 0)


class Oracle(Protocol):
    """Asks one question at a time. Several may be under way at once, all in one event loop."""

    async def ask(self, request: Request) -> Reply:
        """The reply to one question.

        Raises:
            RetryError: ask again later.
            TerminalError: asking anything more is of no use.
            RefusedError: this article got no usable reply, and others may.
        """

    async def close(self) -> None:
        """Closes connections."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a finished batch has for each key that it knows: a reply or why there is none.

    `is_gone`: there were replies, but the provider keeps them no longer.
    """

    replies: Mapping[str, Reply | OracleError]
    state: str
    is_gone: bool = False


class BatchOracle(Protocol):
    """Asks many questions in one job that the provider works off by itself."""

    async def submit(self, name: str, requests: Sequence[Request]) -> str:
        """Starts a job under a name of ours and gives the provider's name for it. Raises as `Oracle.ask` does."""

    async def find(self, name: str) -> str | None:
        """The provider's name of the job that was started under a name of ours, or None if there is none."""

    async def fetch(self, remote: str) -> BatchResult | None:
        """What a job has brought, or None while it is at work."""

    async def close(self) -> None:
        """Closes connections."""
