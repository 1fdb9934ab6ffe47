"""Live calls: pays for one call a question, several at once, each question until it is answered or tried enough."""

import asyncio
import time
from collections import deque
from collections.abc import Coroutine

from distillery_trainer.labelling.budget import Budget, Reservation
from distillery_trainer.labelling.driver import CircuitBreaker, Pace, Say, Stop, progress_line
from distillery_trainer.labelling.estimate import likely_usage
from distillery_trainer.oracle.protocol import NO_ORACLE_THERE, Call, Oracle, OracleError, Reply, RetryError
from distillery_trainer.oracle.rates import Rates

LONG_WAIT_S = 10.0


class LiveDriver:
    """Makes live calls within a budget, rate limits and a number of calls at once.

    Args:
        oracle: who is asked.
        budget: reserves and books what calls cost.
        rates: requests and tokens a minute.
        breaker: stops on an oracle of no use.
        pace: how many calls at once, how long each, how often and how long to try.
        dimensions: of the filter, for the size of replies.
        say: callback for long waits.
    """

    def __init__(
        self,
        oracle: Oracle,
        budget: Budget,
        rates: Rates,
        breaker: CircuitBreaker,
        pace: Pace,
        dimensions: int,
        say: Say,
    ) -> None:
        self._oracle = oracle
        self._budget = budget
        self._rates = rates
        self._breaker = breaker
        self._pace = pace
        self._dimensions = dimensions
        self._say = say
        self._ended = self._total = 0
        self._begun_s = time.monotonic()
        self._stop: Stop | None = None
        self._stopping = asyncio.Event()
        self._found = asyncio.Event()
        self._room = asyncio.Condition()

    async def resume(self, asking: str) -> Stop | None:  # noqa: ARG002 - live calls end with their process
        """Has nothing to bring in."""
        return None

    async def run(self, calls: list[Call]) -> Stop | None:
        """Makes all calls, or gives why it stopped; calls under way are always waited for, for they are paid.

        The first call goes alone until something at the address has answered, if only with an error.
        """
        queue, self._ended, self._total, self._begun_s = deque(calls), 0, len(calls), time.monotonic()
        first = asyncio.ensure_future(self._work(queue))
        signs = [asyncio.ensure_future(event.wait()) for event in (self._found, self._stopping)]
        await asyncio.wait([first, *signs], return_when=asyncio.FIRST_COMPLETED)
        for sign in signs:
            sign.cancel()
        others = min(self._pace.concurrency, len(calls)) - 1
        workers = [first, *(self._work(queue) for _ in range(others))]
        for failure in await asyncio.gather(*workers, return_exceptions=True):
            if failure is not None:  # a fault of ours; the other workers have brought in their calls
                raise failure
        return self._stop

    def progress(self) -> str:
        """Questions done, rate and time left."""
        elapsed_s = time.monotonic() - self._begun_s
        return progress_line(self._ended, self._total, self._budget.under_way, self._budget.paid_usd, elapsed_s)

    def interrupt(self) -> None:
        """Lets no further call begin."""
        self._halt(Stop("interrupted", "the same command goes on"))

    async def _work(self, queue: deque[Call]) -> None:
        while queue and self._stop is None:
            try:
                await self._ask(queue.popleft())
            except BaseException as error:  # whatever it was, no further call may begin
                self._halt(Stop("interrupted", f"{type(error).__name__}: {error}"))
                async with self._room:
                    self._room.notify_all()
                raise
            self._ended += 1

    async def _ask(self, call: Call) -> None:
        used = likely_usage(call, self._dimensions)
        for attempt in range(self._pace.patience.attempts):
            await self._unless_stopped(self._rates.take(used.input_tokens + used.output_tokens))
            reservation = await self._reserve(call)
            if reservation is None:
                return
            result = await self._reply(call)
            await self._end(reservation, result)
            if not isinstance(result, RetryError) or attempt + 1 == self._pace.patience.attempts:
                return
            if result.after_s is not None:
                self._rates.pause(result.after_s)
                if result.after_s >= LONG_WAIT_S:
                    self._say(f"asked to wait {result.after_s:.0f} s: {result}")
            await self._unless_stopped(asyncio.sleep(self._pace.patience.wait_s(attempt, result)))

    async def _reserve(self, call: Call) -> Reservation | None:
        """Reserves the call's maximum as soon as there is room; None where there never will be, or all is to stop."""
        async with self._room:
            while self._stop is None:
                reserved = self._budget.begin([call])
                if reserved:
                    return reserved[0]
                if self._budget.stop or not self._budget.under_way:
                    self._halt(self._budget.refusal(call))
                else:
                    await self._room.wait()
        return None

    async def _reply(self, call: Call) -> Reply | OracleError:
        """Makes the call, which is paid: its reply, or the error that it ended with."""
        try:
            async with asyncio.timeout(self._pace.timeout_s):
                return await self._oracle.ask(call)
        except TimeoutError:
            return RetryError("no answer in time", f"within {self._pace.timeout_s:g} s", may_be_paid=True)
        except OracleError as error:
            return self._breaker.as_reply_if_valid(error)

    async def _end(self, reservation: Reservation, result: Reply | OracleError) -> None:
        if not (isinstance(result, RetryError) and result.reason in NO_ORACLE_THERE):
            self._found.set()
        found = self._breaker.note(self._budget.end([(reservation, result)]))
        if stop := self._budget.stop or found:
            self._halt(stop)
        async with self._room:
            self._room.notify_all()

    def _halt(self, stop: Stop) -> None:
        self._stop = self._stop or stop
        self._stopping.set()

    async def _unless_stopped(self, waiting: Coroutine[object, object, object]) -> None:
        """Waits, but not longer than until all is to stop."""
        waits = [asyncio.ensure_future(waiting), asyncio.ensure_future(self._stopping.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
