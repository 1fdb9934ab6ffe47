"""The batch driver: questions in jobs that fit the budget, matched by key, and found again after a kill.

A job gets a name of ours, which is written down before it is submitted. The next process asks the provider for it: the
replies of a job that was paid are never lost, and one that was never started costs nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from distillery_trainer.labelling.budget import Budget, Reservation
from distillery_trainer.labelling.driving import JobSize, Patience, Say, Stop, duration
from distillery_trainer.labelling.ledger import Ledger, OpenJob
from distillery_trainer.labelling.ledger_tables import LedgerError
from distillery_trainer.labelling.watch import Watch
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


class _JobRefusedError(OracleError):
    """The provider took no job: none of its questions was asked."""


class BatchDriver:
    """Asks a batch oracle, one job after the other.

    Args:
        oracle: who is asked.
        ledger: where jobs are written down.
        budget: reserves and books what calls cost.
        watch: says when to stop.
        patience: how often and how long to try to reach the provider.
        size: of jobs.
        say: callback for progress messages.
    """

    def __init__(
        self,
        oracle: BatchOracle,
        ledger: Ledger,
        budget: Budget,
        watch: Watch,
        patience: Patience,
        size: JobSize,
        say: Say,
    ) -> None:
        self._oracle = oracle
        self._ledger = ledger
        self._budget = budget
        self._watch = watch
        self._patience = patience
        self._size = size
        self._say = say
        self._name_at_work, self._done, self._total, self._begun_s = "", 0, 0, time.monotonic()
        self._stop: Stop | None = None
        self._stopping = asyncio.Event()

    async def resume(self, asking: str) -> Stop | None:
        """Brings in the jobs that earlier processes began."""
        for job in self._ledger.open_jobs(asking):
            calls = {key: Reservation(number, most) for key, (number, most) in self._ledger.calls_of(job.name).items()}
            self._budget.adopt(list(calls.values()))
            try:
                await self._take_up(job, calls)
            except OracleError as error:
                self._halt(error)
            if self._stop is not None:
                break
        return self._stop

    async def run(self, requests: list[Call]) -> Stop | None:
        """Asks all questions, job by job, or says why it stopped."""
        left, self._done, self._total = list(requests), 0, len(requests)
        while left and self._stop is None:
            taken = self._fitting(left)
            calls = self._budget.begin(taken, name := self._name()) if taken else None
            if calls is None:
                self._stop = self._budget.refusal(left[0])
                break
            left = left[len(taken) :]
            try:
                await self._work_off(name, taken, dict(zip((r.key for r in taken), calls, strict=True)))
            except OracleError as error:
                self._halt(error)
            self._done += len(taken)
        return self._stop

    def progress(self) -> str:
        """Questions done, and the job at work for how long; nobody knows how long a provider's queue is."""
        done = f"{self._done:,} of {self._total:,} questions" if self._total else "jobs that were begun before"
        job = f"batch {self._name_at_work}: {self._budget.under_way:,} questions under way"
        waited = duration(time.monotonic() - self._begun_s)
        return f"{done}, ${self._budget.paid_usd:.4f} paid; {job} for {waited}"

    def interrupt(self) -> None:
        """Lets no further job begin; the one at work is found again by the next process."""
        self._stop = self._stop or Stop("interrupted", "the same command goes on")
        self._stopping.set()

    async def _work_off(self, name: str, requests: list[Call], calls: dict[str, Reservation]) -> None:
        self._name_at_work, self._begun_s = name, time.monotonic()
        self._say(f"batch {name}: {len(requests)} questions ...")
        try:
            remote = await self._patiently(lambda: self._submit_once(name, requests))
        except _JobRefusedError as error:
            self._finish(name, calls, dict.fromkeys(calls, TerminalError(error.reason, error.detail)))
            return
        try:
            self._ledger.submitted(name, remote)
        except LedgerError as error:  # the next process finds the job by its name
            self._stop = self._stop or Stop("ledger", str(error))
        await self._wait_for(name, remote, calls)

    async def _submit_once(self, name: str, requests: list[Call]) -> str:
        """Submits a job unless an attempt that seemed to fail has done so.

        Only what `submit` itself refuses is known not to have begun: an error of `find` leaves that open.
        """
        if remote := await self._oracle.find(name):
            return remote
        try:
            return await self._oracle.submit(name, requests)
        except (TerminalError, RefusedError) as error:
            raise _JobRefusedError(error.reason, error.detail) from error

    async def _take_up(self, job: OpenJob, calls: dict[str, Reservation]) -> None:
        self._name_at_work, self._begun_s = job.name, time.monotonic()
        remote = job.remote or await self._patiently(lambda: self._oracle.find(job.name))
        if remote is None:
            self._finish(job.name, calls, dict.fromkeys(calls, NEVER_STARTED))
            return
        self._say(f"batch {job.name}: begun before, {len(calls)} questions ...")
        await self._wait_for(job.name, remote, calls)

    async def _wait_for(self, name: str, remote: str, calls: dict[str, Reservation]) -> None:
        while (result := await self._patiently(lambda: self._oracle.fetch(remote))) is None:
            if self._stop is not None:
                return
            await self._pause(self._size.poll_s)
        self._settle(name, calls, result)
        if not result.replies:
            is_refused = result.state in UNPAID_STATES
            gone = ", which the provider keeps no longer" if result.is_gone else ""
            detail = f"batch {name} {result.state} without a reply{gone}"
            self._stop = self._stop or Stop("refused by the provider" if is_refused else "no answers", detail)

    def _settle(self, name: str, calls: dict[str, Reservation], result: BatchResult) -> None:
        """Matches a job's replies with its questions by key; a question without one may have been paid."""
        state = f"{result.state}, its replies are kept no longer" if result.is_gone else result.state
        missing = RetryError("missing from the batch", state, may_be_paid=result.state not in UNPAID_STATES)
        self._say(f"batch {name}: {state}, {len(result.replies)} of {len(calls)} questions came back")
        self._finish(name, calls, {key: self._watch.parsed_first(result.replies.get(key, missing)) for key in calls})

    def _finish(self, name: str, calls: dict[str, Reservation], results: dict[str, Reply | OracleError]) -> None:
        outcomes = self._budget.end([(calls[key], result) for key, result in results.items()], name)
        found = self._watch.note(outcomes)
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

    def _fitting(self, requests: list[Call]) -> list[Call]:
        """The questions from the first on that one job and the budget have room for."""
        room, size = self._budget.left_usd, 0
        taken: list[Call] = []
        for request in requests[: self._size.most_requests]:
            most = self._budget.most_usd(request)
            room -= most
            size += len(request.instruction.encode()) + len(request.message.encode())
            if (most > 0 and room < 0) or (taken and size > self._size.most_bytes):
                break
            taken.append(request)
        return taken

    def _name(self) -> str:
        return f"distillery-{self._ledger.id}-{self._ledger.last_call() + 1}"

    def _halt(self, error: OracleError) -> None:
        is_final = isinstance(error, TerminalError)
        self._stop = self._stop or Stop("refused by the provider" if is_final else "no answers", str(error))
