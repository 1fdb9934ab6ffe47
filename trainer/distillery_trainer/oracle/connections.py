"""HTTP connections to oracles, with one TLS context; how many are open at once is for the driver to bound.

Reading the certificates takes 50 ms, and google-genai would read them three times.
"""

import functools
import ssl

import httpx2


@functools.cache
def tls() -> ssl.SSLContext:
    """The process's TLS context, with the environment's certificates or certifi's."""
    return httpx2.create_ssl_context()


def asynchronous(base_url: str = "", timeout_s: float = 120.0, key: str | None = None) -> httpx2.AsyncClient:
    """A client for one event loop; `key` is sent as a bearer token, where there is one."""
    return httpx2.AsyncClient(
        base_url=base_url,
        timeout=timeout_s,
        verify=tls(),
        limits=httpx2.Limits(max_connections=None),
        headers={"Authorization": f"Bearer {key}"} if key else {},
    )
