"""Batch calls: pays for calls in batches that fit the budget, matched by key, and found again after a kill.

A batch gets a name of ours, which is written down before it is submitted. The next process asks the provider for it:
the replies of a batch that was paid are never lost, and one that was never started costs nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from distillery_trainer.labelling.budget import Budget, Reservation
from distillery_trainer.labelling.database import LedgerError
from distillery_trainer.labelling.driver import BatchLimits, CircuitBreaker, Patience, Say, Stop, duration
from distillery_trainer.labelling.ledger import Ledger, OpenBatch
from distillery_trainer.oracle.protocol import (
    CANNOT_CONNECT,
    BatchOracle,
    BatchResult,
    Call,
    OracleError,
    RefusedError,
    Reply,
    RetryError,
    TerminalError,
)

Result = TypeVar("Result")
NEVER_STARTED = RetryError("the batch was never started")
UNPAID_STATES = ("failed",)


class _BatchRefusedError(OracleError):
    """The provider took no batch: none of its calls was made."""


class BatchDriver:
    """Makes batch calls, one batch after the other.

    Args:
        oracle: who is asked.
        ledger: where batches are written down.
        budget: reserves and books what calls cost.
        breaker: stops on an oracle of no use.
        patience: how often and how long to try to reach the provider.
        limits: of each batch.
        say: callback for progress messages.
    """

    def __init__(
        self,
        oracle: BatchOracle,
        ledger: Ledger,
        budget: Budget,
        breaker: CircuitBreaker,
        patience: Patience,
        limits: BatchLimits,
        say: Say,
    ) -> None:
        self._oracle = oracle
        self._ledger = ledger
        self._budget = budget
        self._breaker = breaker
        self._patience = patience
        self._limits = limits
        self._say = say
        self._name_at_work, self._done, self._total, self._begun_s = "", 0, 0, time.monotonic()
        self._stop: Stop | None = None
        self._stopping = asyncio.Event()

    async def resume(self, asking: str) -> Stop | None:
        """Brings in the batches that earlier processes began."""
        for batch in self._ledger.open_batches(asking):
            found = self._ledger.calls_of(batch.name)
            reserved = {key: Reservation(number, most) for key, (number, most) in found.items()}
            self._budget.adopt(list(reserved.values()))
            try:
                await self._take_up(batch, reserved)
            except OracleError as error:
                self._halt(error)
            if self._stop is not None:
                break
        return self._stop

    async def run(self, calls: list[Call]) -> Stop | None:
        """Makes all calls, batch by batch, or gives why it stopped."""
        left, self._done, self._total = list(calls), 0, len(calls)
        while left and self._stop is None:
            taken = self._fitting(left)
            reserved = self._budget.begin(taken, name := self._name()) if taken else None
            if reserved is None:
                self._stop = self._budget.refusal(left[0])
                break
            left = left[len(taken) :]
            try:
                await self._work_off(name, taken, dict(zip((call.key for call in taken), reserved, strict=True)))
            except OracleError as error:
                self._halt(error)
            self._done += len(taken)
        return self._stop

    def progress(self) -> str:
        """Questions done, and the batch at work for how long; nobody knows how long a provider's queue is."""
        done = f"{self._done:,} of {self._total:,} questions" if self._total else "jobs that were begun before"
        batch = f"batch {self._name_at_work}: {self._budget.under_way:,} questions under way"
        waited = duration(time.monotonic() - self._begun_s)
        return f"{done}, ${self._budget.paid_usd:.4f} paid; {batch} for {waited}"

    def interrupt(self) -> None:
        """Lets no further batch begin; the one at work is found again by the next process."""
        self._stop = self._stop or Stop("interrupted", "the same command goes on")
        self._stopping.set()

    async def _work_off(self, name: str, calls: list[Call], reserved: dict[str, Reservation]) -> None:
        self._name_at_work, self._begun_s = name, time.monotonic()
        self._say(f"batch {name}: {len(calls)} questions ...")
        try:
            remote = await self._patiently(lambda: self._submit_once(name, calls))
        except _BatchRefusedError as error:
            self._finish(name, reserved, dict.fromkeys(reserved, TerminalError(error.reason, error.detail)))
            return
        try:
            self._ledger.submitted(name, remote)
        except LedgerError as error:  # the next process finds the batch by its name
            self._stop = self._stop or Stop("ledger", str(error))
        await self._wait_for(name, remote, reserved)

    async def _submit_once(self, name: str, calls: list[Call]) -> str:
        """Submits a batch, which is paid, unless an attempt that seemed to fail has done so.

        Only what `submit` itself refuses is known not to have begun: an error of `find` leaves that open.
        """
        if remote := await self._oracle.find(name):
            return remote
        try:
            return await self._oracle.submit(name, calls)
        except (TerminalError, RefusedError) as error:
            raise _BatchRefusedError(error.reason, error.detail) from error

    async def _take_up(self, batch: OpenBatch, reserved: dict[str, Reservation]) -> None:
        self._name_at_work, self._begun_s = batch.name, time.monotonic()
        remote = batch.remote or await self._patiently(lambda: self._oracle.find(batch.name))
        if remote is None:
            self._finish(batch.name, reserved, dict.fromkeys(reserved, NEVER_STARTED))
            return
        self._say(f"batch {batch.name}: begun before, {len(reserved)} questions ...")
        await self._wait_for(batch.name, remote, reserved)

    async def _wait_for(self, name: str, remote: str, reserved: dict[str, Reservation]) -> None:
        while (result := await self._patiently(lambda: self._oracle.fetch(remote))) is None:
            if self._stop is not None:
                return
            await self._pause(self._limits.poll_s)
        self._settle(name, reserved, result)
        if not result.replies:
            is_refused = result.state in UNPAID_STATES
            gone = ", which the provider keeps no longer" if result.is_gone else ""
            detail = f"batch {name} {result.state} without a reply{gone}"
            self._stop = self._stop or Stop("refused by the provider" if is_refused else "no answers", detail)

    def _settle(self, name: str, reserved: dict[str, Reservation], result: BatchResult) -> None:
        """Matches a batch's replies with its calls by key; a call without one may have been paid."""
        state = f"{result.state}, its replies are kept no longer" if result.is_gone else result.state
        missing = RetryError("missing from the batch", state, may_be_paid=result.state not in UNPAID_STATES)
        self._say(f"batch {name}: {state}, {len(result.replies)} of {len(reserved)} questions came back")
        results = {key: self._breaker.as_reply_if_valid(result.replies.get(key, missing)) for key in reserved}
        self._finish(name, reserved, results)

    def _finish(self, name: str, reserved: dict[str, Reservation], results: dict[str, Reply | OracleError]) -> None:
        outcomes = self._budget.end([(reserved[key], result) for key, result in results.items()], name)
        found = self._breaker.note(outcomes)
        self._stop = self._stop or self._budget.stop or found

    async def _patiently(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        for attempt in range(self._patience.attempts - 1):
            try:
                return await ask()
            except RetryError as error:
                if error.reason == CANNOT_CONNECT and attempt + 1 >= self._patience.unreached:
                    raise
                await self._pause(self._patience.wait_s(attempt, error))
        return await ask()

    async def _pause(self, seconds: float) -> None:
        """Waits, but not longer than until all is to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _fitting(self, calls: list[Call]) -> list[Call]:
        """The calls from the first on that one batch and the budget have room for."""
        room, size = self._budget.left_usd, 0
        taken: list[Call] = []
        for call in calls[: self._limits.max_calls]:
            most = self._budget.most_usd(call)
            room -= most
            size += len(call.instruction.encode()) + len(call.message.encode())
            if (most > 0 and room < 0) or (taken and size > self._limits.max_bytes):
                break
            taken.append(call)
        return taken

    def _name(self) -> str:
        return f"distillery-{self._ledger.id}-{self._ledger.last_call() + 1}"

    def _halt(self, error: OracleError) -> None:
        is_final = isinstance(error, TerminalError)
        self._stop = self._stop or Stop("refused by the provider" if is_final else "no answers", str(error))
