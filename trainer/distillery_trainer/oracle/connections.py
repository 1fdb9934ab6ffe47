"""HTTP connections to oracles, with one TLS context; how many are open at once is for the driver to bound.

Reading the certificates takes 50 ms, and google-genai would read them three times.
"""

import functools
import ipaddress
import ssl
from urllib.parse import urlsplit

import httpx2

LONGEST_CONNECT_S = 10.0  # a server that is there accepts within it, however long its reply takes


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
