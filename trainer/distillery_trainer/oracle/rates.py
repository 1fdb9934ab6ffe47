"""Calls kept to so many requests and tokens a minute, and held back for all when a server asks to wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable

MINUTE_S = 60.0


class Rates:
    """Spaces calls evenly, so that no minute has more of them, or of their tokens, than allowed.

    Args:
        requests: a minute at most; None for no limit.
        tokens: a minute at most, of input and output; None for no limit.
        now, sleep: the clock, in seconds.
    """

    def __init__(
        self,
        requests: float | None = None,
        tokens: float | None = None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._request_s = MINUTE_S / requests if requests else 0.0
        self._token_s = MINUTE_S / tokens if tokens else 0.0
        self._now = now
        self._sleep = sleep
        self._next_request = self._next_token = self._paused_until = float("-inf")

    async def take(self, tokens: int) -> None:
        """Waits until a call of so many tokens may begin, and counts it."""
        while True:
            await self._wait_until(self._paused_until)
            start = max(self._now(), self._next_request, self._next_token)
            self._next_request = start + self._request_s
            self._next_token = start + tokens * self._token_s
            await self._wait_until(start)
            if self._paused_until <= self._now():
                return

    def pause(self, seconds: float) -> None:
        """Lets no call begin for so long; those under way go on."""
        self._paused_until = max(self._paused_until, self._now() + seconds)

    async def _wait_until(self, moment: float) -> None:
        if (wait := moment - self._now()) > 0:
            await self._sleep(wait)
