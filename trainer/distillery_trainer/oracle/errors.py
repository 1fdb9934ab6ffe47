"""Why an oracle gave no usable reply, sorted by what to do next.

OracleError
├── RetryError     ask again later: too many requests, a fault of the server, no answer in time
├── TerminalError  stop: a wrong key, no credit, a quota used up, a model or address that is not there
└── RefusedError   this article only: the provider blocked it, cut its reply short, or cannot take it
"""

from distillery_runtime.errors import DistilleryError
from distillery_trainer.oracle.usage import Usage

# Reasons of a `RetryError` that, from the first call on, mean that there is no oracle at that address.
CANNOT_CONNECT = "cannot connect"
CONNECTION_FAILED = "the connection failed"
UNREADABLE = "an unreadable response"
NO_ORACLE_THERE = frozenset({CANNOT_CONNECT, CONNECTION_FAILED, UNREADABLE})


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
