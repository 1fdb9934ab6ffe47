"""What the live and the batch driver have in common: pace, patience, progress lines, and why they stop."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, Protocol

from distillery_trainer.oracle.protocol import Call, RetryError

Say = Callable[[str], None]
Reason = Literal[
    "budget", "above the maximum", "refused by the provider", "no answers", "unusable replies", "canary", "ledger",
    "interrupted",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stop:
    """Why no more calls are made, before all questions had an answer."""

    reason: Reason
    detail: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a question is asked in one go, how long to wait between, and when to give up altogether.

    `fruitless`: so many calls in a row without an answer end the run. `unreached`: so many in a row that find no oracle
    at its address, before any answer; `lost`: the same after one, when the server is likely to come back. `window`: of
    so many replies at least half must be usable.
    """

    attempts: int = 5
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    fruitless: int = 40
    unreached: int = 3
    lost: int = 24
    window: int = 50

    def wait_s(self, attempt: int, error: RetryError) -> float:
        """How long to wait after the given attempt, counted from 0: what the server asked, or twice as long each time.

        Up to a half is left out at random, so that calls that failed together do not come back together.
        """
        longest = min(self.first_wait_s * 2**attempt, self.longest_wait_s)
        return error.after_s if error.after_s is not None else longest * random.uniform(0.5, 1.0)  # noqa: S311


@dataclass(frozen=True, slots=True)
class JobSize:
    """How large a job may be, and how long to wait between two looks at it."""

    most_requests: int = 5000
    most_bytes: int = 500_000_000
    poll_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an oracle is asked: calls at once, requests and tokens a minute, and for how long a call may take.

    `news_s`: seconds between two progress lines.
    """

    concurrency: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout_s: float = 120.0
    patience: Patience = field(default_factory=Patience)
    job_size: JobSize = field(default_factory=JobSize)
    news_s: float = 8.0


class Driver(Protocol):
    """Gets answers to questions into the ledger."""

    async def resume(self, asking: str) -> Stop | None:
        """Brings in what earlier processes began of an asking and is still to be had."""

    async def run(self, requests: list[Call]) -> Stop | None:
        """Asks all questions, or says why it stopped before. What is answered, and what was paid, is in the ledger."""

    def interrupt(self) -> None:
        """Lets no further call begin."""

    def progress(self) -> str:
        """How far `run` or `resume` is, in one line."""


@asynccontextmanager
async def reporting(
    tell: Callable[[], str], say: Say, every_s: float, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> AsyncIterator[None]:
    """Reports a progress line at regular intervals while the block runs.

    Args:
        tell: gives the line.
        say: callback for it.
        every_s: how often.
        sleep: the clock, in seconds.
    """

    async def repeat() -> None:
        while True:
            await sleep(every_s)
            say(tell())

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def progress_line(done: int, total: int, under_way: int, paid_usd: float, elapsed_s: float) -> str:
    """Questions done, what the ledger has paid, and, as soon as they can be told, the rate and the time left."""
    line = f"{done:,} of {total:,} questions, {under_way} calls under way, ${paid_usd:.4f} paid"
    if not done or elapsed_s <= 0:
        return f"{line}, {duration(elapsed_s)} so far"
    rate = done / elapsed_s
    return f"{line}, {60 * rate:.0f} a minute, {duration((total - done) / rate)} left"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
