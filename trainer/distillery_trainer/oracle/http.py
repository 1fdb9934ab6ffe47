"""HTTP to oracles: connections with one TLS context, and from a failure's status and codes to the error to raise.

Only the status and machine-readable codes decide, never words of a message: a text about an "author" is no error of
authorisation. How many connections are open at once is for the driver to bound.
"""

import email.utils
import functools
import ipaddress
import math
import os
import ssl
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx2

from distillery_trainer.oracle.protocol import (
    CANNOT_CONNECT,
    CONNECTION_FAILED,
    OracleError,
    RefusedError,
    RetryError,
    TerminalError,
)

LONGEST_CONNECT_S = 10.0  # a server that is there accepts within it, however long its reply takes
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
_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_TIMED_OUT = {408, 504, 524}  # of a server in between; the one behind it may have worked on, and be paid
_RETRY_STATUS = {408: "no answer in time", 409: "conflict", 425: "too early", 429: "too many requests"}


@functools.cache
def tls() -> ssl.SSLContext:
    """The process's TLS context, with the environment's certificates or certifi's."""
    return httpx2.create_ssl_context()


def asynchronous(base_url: str = "", timeout_s: float = 120.0, key: str | None = None) -> httpx2.AsyncClient:
    """A client for one event loop; `key` is sent as a bearer token, where there is one.

    A server on this machine is reached directly, whatever proxy the environment names.
    """
    return httpx2.AsyncClient(
        base_url=base_url,
        timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, LONGEST_CONNECT_S)),
        verify=tls(),
        limits=httpx2.Limits(max_connections=None),
        headers={"Authorization": f"Bearer {key}"} if key else {},
        trust_env=not is_loopback(base_url),
    )


def is_loopback(url: str) -> bool:
    """Whether an address is one of this machine's own."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


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
        reason = _RETRY_STATUS.get(status, "a fault of the server")
        return RetryError(reason, detail, retry_after_s, may_be_paid=status in _TIMED_OUT)
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


def from_transport(error: httpx2.HTTPError, url: str) -> RetryError:
    """The error for a connection that failed. Only where it never stood is it sure that nothing was paid.

    Args:
        error: what the client raised.
        url: where the oracle should be, for the detail.
    """
    place = f"{url} ({type(error).__name__}: {_cause(error)}){_proxy(url)}"[:MAX_DETAIL]
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.UnsupportedProtocol | httpx2.ProxyError):
        return RetryError(CANNOT_CONNECT, place)
    if isinstance(error, httpx2.TimeoutException):
        never_sent = isinstance(error, httpx2.PoolTimeout)
        return RetryError("no answer in time", type(error).__name__, may_be_paid=not never_sent)
    return RetryError(CONNECTION_FAILED, place, may_be_paid=True)


def _cause(error: BaseException) -> str:
    """The system's own words, which stand at the bottom of a chain of wrappers: "Connection refused"."""
    said = str(error)
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        if isinstance(found, ConnectionError) and found.errno:  # asyncio writes "Connect call failed" into it
            said = os.strerror(found.errno)
        elif isinstance(found, OSError) and found.strerror:
            said = found.strerror
        found = found.__cause__ or found.__context__
    return said or "no more is known"


def _proxy(url: str) -> str:
    """The proxy variables of the environment that such a connection goes by, without their values: they hold keys."""
    names = [] if is_loopback(url) else [n for n in _PROXIES if os.environ.get(n) or os.environ.get(n.lower())]
    return f", by the proxy of {', '.join(names)}" if names else ""


def count(record: Mapping[str, object], *path: str) -> int | None:
    """A count at a path of nested objects, or None where there is no whole number of at least 0."""
    value: object = record
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return value
