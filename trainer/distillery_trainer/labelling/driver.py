"""Drivers: their interface, and what the live and the batch driver share: pace, patience, progress lines, stopping."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, Protocol

from distillery_trainer.labelling.ledger import Outcome
from distillery_trainer.oracle.protocol import NO_ORACLE_THERE, Call, OracleError, Reply, RetryError

Say = Callable[[str], None]
Reason = Literal[
    "budget", "above the maximum", "refused by the provider", "no answers", "unusable replies", "canary", "ledger",
    "interrupted",
]  # fmt: skip
FEWEST_USABLE = 0.5
CHECK = "check that a server with OpenAI's or Gemini's API runs there, and --base-url"


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
class BatchLimits:
    """How large a batch may be, and how long to wait between two looks at it."""

    max_calls: int = 5000
    max_bytes: int = 500_000_000
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
    batch_limits: BatchLimits = field(default_factory=BatchLimits)
    news_s: float = 8.0


class Driver(Protocol):
    """Gets answers to questions into the ledger."""

    async def resume(self, asking: str) -> Stop | None:
        """Brings in what earlier processes began of an asking and is still to be had."""

    async def run(self, calls: list[Call]) -> Stop | None:
        """Makes all calls, or gives why it stopped before. What is answered, and what was paid, is in the ledger."""

    def interrupt(self) -> None:
        """Lets no further call begin."""

    def progress(self) -> str:
        """How far `run` or `resume` is, in one line."""


class CircuitBreaker:
    """Stops before money is spent on an oracle that answers nothing, or nonsense.

    Args:
        patience: when it is enough.
        is_usable: whether a raw reply is of the schema.
    """

    def __init__(self, patience: Patience, is_usable: Callable[[str], bool]) -> None:
        self._patience = patience
        self._is_usable = is_usable
        self._fruitless = self._unreached = 0
        self._has_answered = False
        self._usable: deque[bool] = deque(maxlen=patience.window)

    def as_reply_if_valid(self, result: Reply | OracleError) -> Reply | OracleError:
        """A text that is of the schema is a reply, whatever the provider says of it; any other result as it came."""
        if isinstance(result, OracleError) and result.raw and self._is_usable(result.raw):
            return Reply(result.raw, result.usage, result.model)
        return result

    def note(self, outcomes: Iterable[Outcome]) -> Stop | None:
        """Takes note of how calls ended, in order, and gives why to stop, if it is time."""
        stops = [self._note_one(outcome) for outcome in outcomes]
        return next((stop for stop in stops if stop is not None), None)

    def _note_one(self, outcome: Outcome) -> Stop | None:
        cause = ": ".join(part for part in (outcome.reason, outcome.detail) if part)
        if outcome.kind == "stopped":
            return Stop("refused by the provider", cause)
        if outcome.kind == "failed":
            self._fruitless += 1
            self._unreached = self._unreached + 1 if outcome.reason in NO_ORACLE_THERE else 0
            if self._unreached >= (self._patience.lost if self._has_answered else self._patience.unreached):
                return Stop("no answers", f"{self._unreached} calls in a row: {cause}; {CHECK}")
            if self._fruitless >= self._patience.fruitless:
                return Stop("no answers", f"{self._fruitless} calls in a row, the last with {cause}")
            return None
        self._fruitless = self._unreached = 0
        self._has_answered = True
        self._usable.append(outcome.kind == "reply" and self._is_usable(outcome.raw))
        if len(self._usable) == self._patience.window and sum(self._usable) < FEWEST_USABLE * len(self._usable):
            return Stop("unusable replies", f"{len(self._usable) - sum(self._usable)} of the last {len(self._usable)}")
        return None


@asynccontextmanager
async def reporting(
    line: Callable[[], str], say: Say, every_s: float, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> AsyncIterator[None]:
    """Reports a progress line at regular intervals while the block runs.

    Args:
        line: gives the progress line.
        say: callback for it.
        every_s: how often.
        sleep: the clock, in seconds.
    """

    async def repeat() -> None:
        while True:
            await sleep(every_s)
            say(line())

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
