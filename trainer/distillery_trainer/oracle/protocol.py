"""Protocol of oracles: a call in; a raw reply with its tokens out, or one of three errors that say what to do next.

OracleError
├── RetryError     call again later: too many requests, a fault of the server, no answer in time
├── TerminalError  stop: a wrong key, no credit, a quota used up, a model or address that is not there
└── RefusedError   this article only: the provider blocked it, cut its reply short, or cannot take it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from distillery_runtime.errors import DistilleryError

# Reasons of a `RetryError` that, from the first call on, mean that there is no oracle at that address.
CANNOT_CONNECT = "cannot connect"
CONNECTION_FAILED = "the connection failed"
UNREADABLE = "an unreadable response"
NO_ORACLE_THERE = frozenset({CANNOT_CONNECT, CONNECTION_FAILED, UNREADABLE})


@dataclass(frozen=True, slots=True)
class Call:
    """One call to an oracle: a question about one article.

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
class Usage:
    """Tokens of one call: `cached_tokens` are part of the input, `thinking_tokens` part of the output."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    thinking_tokens: int = 0


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


class OracleError(DistilleryError):
    """An oracle gave no usable reply.

    `reason` is a few words that can be counted, `detail` what the provider wrote. `raw`, `usage` and `model` are of a
    text that came all the same, and was paid: if it is of the schema it is a reply, whatever the provider says of it.
    """

    def __init__(
        self, reason: str, detail: str = "", raw: str = "", usage: Usage | None = None, model: str = ""
    ) -> None:
        self.reason = reason
        self.detail = detail
        self.raw = raw
        self.usage = usage
        self.model = model
        super().__init__(f"{reason}: {detail}" if detail else reason)


class RetryError(OracleError):
    """Asking again may help, after `after_s` seconds where the server named a time.

    `may_be_paid`: the call may have been worked off although no reply came, as after a time-out.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        after_s: float | None = None,
        may_be_paid: bool = False,
        raw: str = "",
        usage: Usage | None = None,
        model: str = "",
    ) -> None:
        super().__init__(reason, detail, raw, usage, model)
        self.after_s = after_s
        self.may_be_paid = may_be_paid


class TerminalError(OracleError):
    """Every further call would fail alike."""


class RefusedError(OracleError):
    """There is no usable reply for this article."""


class Oracle(Protocol):
    """Makes live calls. Several may be under way at once, all in one event loop."""

    async def ask(self, call: Call) -> Reply:
        """Makes a call, which is paid, and gives the reply.

        Raises:
            RetryError: call again later.
            TerminalError: every further call would fail alike.
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
    """Makes many calls in one batch that the provider works off by itself."""

    async def submit(self, name: str, calls: Sequence[Call]) -> str:
        """Starts a batch, which is paid, under a name of ours and gives the provider's name for it.

        Raises as `Oracle.ask` does.
        """

    async def find(self, name: str) -> str | None:
        """The provider's name of the batch that was started under a name of ours, or None if there is none."""

    async def fetch(self, remote: str) -> BatchResult | None:
        """What a batch has brought, or None while it is at work."""

    async def close(self) -> None:
        """Closes connections."""
