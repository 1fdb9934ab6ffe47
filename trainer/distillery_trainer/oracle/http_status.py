"""From an HTTP status and the provider's own code to the error that says what to do next.

Only the status and machine-readable codes decide, never words of a message: a text about an "author" is no error of
authorisation.
"""

import email.utils
import math
import time
from collections.abc import Mapping

import httpx2

from distillery_trainer.oracle.errors import OracleError, RefusedError, RetryError, TerminalError

MAX_DETAIL = 500
LONGEST_WAIT_S = 3600.0

_TERMINAL_STATUS = {
    401: "the key is not accepted",
    402: "no credit",
    403: "not allowed",
    404: "no such model or address",
    405: "no such model or address",
    410: "no such model or address",
}
_TERMINAL_CODES = {
    "API_KEY_INVALID": "the key is not accepted",
    "API_KEY_EXPIRED": "the key is not accepted",
    "invalid_api_key": "the key is not accepted",
    "BILLING_DISABLED": "no credit",
    "FAILED_PRECONDITION": "not allowed",
    "billing_not_active": "no credit",
    "billing_hard_limit_reached": "no credit",
    "insufficient_quota": "the quota is used up",
    "model_not_found": "no such model or address",
    "quota_per_day": "the quota is used up",
}
_RETRY_STATUS = {408: "no answer in time", 409: "conflict", 425: "too early", 429: "too many requests"}


def error_of(status: int, codes: set[str], message: str, retry_after_s: float | None = None) -> OracleError:
    """The error for an HTTP status that is not 200.

    Args:
        status: the HTTP status.
        codes: machine-readable codes of the body.
        message: what the server said, kept as the detail.
        retry_after_s: how long it asked to wait.
    """
    detail = f"HTTP {status} {message}".strip()[:MAX_DETAIL]
    known = sorted(codes & _TERMINAL_CODES.keys())
    if known:
        return TerminalError(_TERMINAL_CODES[known[0]], detail)
    if status in _TERMINAL_STATUS:
        return TerminalError(_TERMINAL_STATUS[status], detail)
    if status in _RETRY_STATUS or status >= 500:
        return RetryError(_RETRY_STATUS.get(status, "a fault of the server"), detail, retry_after_s)
    if status < 400:
        return TerminalError("no such model or address", f"{detail}; redirects are not followed")
    return RefusedError("the request was not accepted", detail)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a `Retry-After` header asks for, a number or a date; None where it is absent or unreadable."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_WAIT_S)


def from_transport(error: httpx2.HTTPError) -> RetryError:
    """The error for a connection that failed. Only where it never stood is it sure that nothing was paid."""
    never_sent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
    reason = "no answer in time" if isinstance(error, httpx2.TimeoutException) else "the connection failed"
    return RetryError(reason, type(error).__name__, may_be_paid=not never_sent)
