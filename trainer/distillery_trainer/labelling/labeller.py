"""Labelling of a prepared job: open ledger and oracle, run the canary, then the open questions, and write the files."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from distillery_runtime.cli.command import STOPS
from distillery_runtime.errors import InputError, Problem
from distillery_trainer.data.labels import LabelledArticle
from distillery_trainer.filters.reply import ReplyError
from distillery_trainer.labelling.batch_calls import BatchDriver
from distillery_trainer.labelling.budget import Budget
from distillery_trainer.labelling.canary import CanaryResult, canary_calls, check_canary, choose_canary
from distillery_trainer.labelling.database import LedgerError
from distillery_trainer.labelling.driver import CircuitBreaker, Driver, Patience, Say, Stop, reporting
from distillery_trainer.labelling.estimate import CostEstimate
from distillery_trainer.labelling.job import LabelJob, PreparedJob
from distillery_trainer.labelling.ledger import CostRatio, Ledger, PastCall, open_ledger
from distillery_trainer.labelling.live_calls import LiveDriver
from distillery_trainer.labelling.results import check_ledger, collect, has_content, summarise, write_files
from distillery_trainer.labelling.state import QuestionState
from distillery_trainer.oracle.protocol import Call, Oracle
from distillery_trainer.oracle.providers.recorded import RecordedOracle
from distillery_trainer.oracle.rates import Rates
from distillery_trainer.oracle.services import RECORDED, open_batches, open_oracle

MAX_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class LabellingResult:
    """Result of a command: the summary as JSON, why it stopped early, if it did, and whether it wrote labels."""

    summary: dict[str, object]
    stop: Stop | None
    has_labels: bool


def remaining(prepared: PreparedJob) -> CostEstimate:
    """Estimates what is still to be asked and what it will cost; no key is needed and nothing is written.

    Raises:
        InputError: the ledger is damaged, or missing beside labels that it paid for.
    """
    if not has_content(prepared.job.ledger):
        check_ledger(prepared.job, None)
        return prepared.estimate(prepared.plan.open({}), CostRatio(0, 0.0, 0.0))
    with open_ledger(prepared.job.ledger) as ledger:
        check_ledger(prepared.job, ledger)
        states = prepared.states(list(ledger.history(prepared.asking.id)))
        again_up_to = ledger.last_call() if prepared.job.questions.asks_dead_again else 0
        ratio = ledger.cost_ratio(prepared.asking.id, prepared.mode)
        return prepared.estimate(prepared.plan.open(states, again_up_to), ratio)


def label(prepared: PreparedJob, say: Say) -> LabellingResult:
    """Asks what has no answer yet, and writes labels, dead letters and summary.

    Args:
        prepared: the job.
        say: callback for progress messages.

    Raises:
        InputError: the key is not there, another process is at work with the ledger, or the ledger is damaged, or
            missing beside labels that it paid for.
    """
    job = prepared.job
    if not has_content(job.ledger):
        check_ledger(job, None)
    with open_ledger(job.ledger) as ledger:
        check_ledger(job, ledger)
        ledger.describe(prepared.asking.id, prepared.asking.record)
        lost, before = ledger.close_lost(), ledger.spent()
        if lost:
            say(f"{lost} calls were under way when an earlier command was killed, and are asked again")
            say(f"calls without a known end: about ${before.likely_usd:.4f}, ${before.unsure_usd:.4f} reserved")
        labeller = Labeller(prepared, ledger, say)
        labeller.run()
        canary, stop = labeller.canary, labeller.stop
        results = collect(prepared, labeller.states(), is_whole=stop is None)
        summary = summarise(prepared, ledger, results, canary, stop, before)
    return LabellingResult(summary, stop, write_files(prepared, results, summary, stop))


class Labeller:
    """Asks what has no answer yet: the batches of before, the canary, then the open questions in a few rounds.

    `canary` and `stop` say how it went.

    Args:
        prepared: the job.
        ledger: open, with lost calls counted.
        say: callback for progress messages.
    """

    def __init__(self, prepared: PreparedJob, ledger: Ledger, say: Say) -> None:
        self._prepared = prepared
        self._ledger = ledger
        self._say = say
        self._again_up_to = ledger.last_call() if prepared.job.questions.asks_dead_again else 0
        self._again = {call.key for call in self._open()}
        self._phase = ""
        self.canary: CanaryResult | None = None
        self.stop: Stop | None = None

    def run(self) -> None:
        """Asks whatever has no answer yet, within the budget. Raises as `open_oracle` does."""
        has_batches = bool(self._ledger.open_batches(self._prepared.asking.id))
        if has_batches and not self._prepared.job.is_batch:
            problem = Problem("(ledger)", "a batch with these questions is under way", "the same command with --batch")
            raise InputError("trainer label", [problem])
        if has_batches or self._open():
            asyncio.run(self._run())
        else:
            self.stop = self._check_canary(self._canary_calls(self._prepared.job.questions.canary))

    def states(self) -> dict[str, QuestionState]:
        """The state of each question that was asked, by now."""
        return self._prepared.states(self._history())

    async def _run(self) -> None:
        job = self._prepared.job
        every_s = job.pace.news_s
        if not job.is_batch and not self._prepared.price.is_free:
            self._say(f"at most {job.pace.concurrency} calls are under way at once; a kill loses those, and the next "
                      "command pays for them again; Ctrl-C waits for them")  # fmt: skip
        async with (
            opened_driver(self._prepared, self._ledger, self._say) as driver,
            reporting(lambda: f"{self._phase}{driver.progress()}", self._say, every_s),
        ):
            await self._ask_all(driver)

    async def _ask_all(self, driver: Driver) -> None:
        self.stop = await driver.resume(self._prepared.asking.id) or await self._run_canary(driver)
        self._phase = ""
        for _ in range(MAX_ROUNDS):
            left = self._open()
            if self.stop is not None or not left:
                break
            self.stop = await driver.run(left)

    async def _run_canary(self, driver: Driver) -> Stop | None:
        """Makes the canary's calls, as far as they were not made before, and checks their replies."""
        size = self._prepared.job.questions.canary
        missing = size - len(self._canary_calls(size))
        firsts = [call for call in self._open() if call.repeat == 0]
        if missing > 0 and firsts:
            self._say(f"canary of {min(missing, len(firsts))} ...")
            self._phase = "canary: "
            if stop := await driver.run(choose_canary(firsts, missing)):
                return stop
        return self._check_canary(self._canary_calls(size))

    def _check_canary(self, replies: list[PastCall]) -> Stop | None:
        if not replies:
            return None
        self.canary = check_canary(replies, self._prepared.parse)
        if self.canary.failure is not None:
            dead = self.canary.replies - self.canary.valid
            place = f"; {dead} dead letters with ids and raw replies: {self._prepared.job.dead}" if dead else ""
            return Stop("canary", f"{self.canary.failure}{place}")
        mean = sum(past.cost_usd for past in replies) / len(replies)
        left = len(self._open())
        self._say(f"canary passed; {left} questions left, at its mean cost of ${mean:.6f} about ${mean * left:.4f}")
        room = self._prepared.job.money.max_usd - self._ledger.spent().total_usd
        if 0 < mean * left > room:
            self._say(f"the budget has ${room:.4f} left: it will not be enough")
        return None

    def _canary_calls(self, size: int) -> list[PastCall]:
        """The canary's replies; what is to be asked again counts only when it was."""
        counted = [p for p in self._history() if p.call > self._again_up_to or p.key not in self._again]
        return canary_calls(counted, self._prepared.mode, size)

    def _open(self) -> list[Call]:
        return self._prepared.plan.open(self.states(), self._again_up_to)

    def _history(self) -> list[PastCall]:
        return list(self._ledger.history(self._prepared.asking.id))


@asynccontextmanager
async def opened_driver(prepared: PreparedJob, ledger: Ledger, say: Say) -> AsyncIterator[Driver]:
    """Opens the job's driver, whose oracle's connections are closed at the end. Raises as `open_oracle` does."""
    job, budget = prepared.job, Budget(ledger, prepared.terms, prepared.job.money.max_usd)
    breaker = CircuitBreaker(_patience(job), lambda raw: _is_usable(prepared, raw))
    driver: LiveDriver | BatchDriver
    if job.is_batch:
        batches = open_batches(job.access, prepared.asking.schema)
        close = batches.close
        driver = BatchDriver(batches, ledger, budget, breaker, job.pace.patience, job.pace.batch_limits, say)
    else:
        oracle = _oracle(prepared)
        close = oracle.close
        rates = Rates(job.pace.requests_per_minute, job.pace.tokens_per_minute)
        driver = LiveDriver(oracle, budget, rates, breaker, job.pace, len(prepared.spec.dimensions), say)
    with suppress(RuntimeError, ValueError):  # not in the main thread: nobody presses Ctrl-C
        stop_on_signal(driver, say)
    try:
        yield driver
        await _write_down(budget, job.pace.patience, say)
    finally:
        await close()


async def _write_down(budget: Budget, patience: Patience, say: Say) -> None:
    """Writes outcomes that the ledger did not take before, with growing waits between attempts.

    Raises:
        LedgerError: it still does not take them.
    """
    for attempt in range(patience.attempts):
        error = budget.write()
        if error is None:
            return
        say(f"{budget.unwritten} replies are not in the ledger yet: {error}")
        await asyncio.sleep(patience.first_wait_s * 2**attempt)
    if error := budget.write():
        lost = Problem("(ledger)", f"{budget.unwritten} replies that were paid could not be written", "room for them")
        raise LedgerError(error.where, [*error.problems, lost])


def _patience(job: LabelJob) -> Patience:
    """The job's patience, raised so that calls that run together, or stand in one batch, cannot use it up at once."""
    patience = job.pace.patience
    together = job.pace.batch_limits.max_calls if job.is_batch else job.pace.concurrency
    fruitless = max(patience.fruitless, patience.attempts * together)
    return replace(patience, fruitless=fruitless, lost=max(patience.lost, patience.unreached * together))


def stop_on_signal(driver: Driver, say: Say) -> None:
    """The first Ctrl-C lets calls under way end, for they are paid; a second one does not wait for them.

    SIGTERM and SIGHUP do the same, unless they are ignored.
    """
    loop = asyncio.get_running_loop()
    signals = [number for number in (signal.SIGINT, *STOPS) if signal.getsignal(number) is not signal.SIG_IGN]

    def stop() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        say("stopping; calls under way are waited for, Ctrl-C again leaves them")
        driver.interrupt()

    for number in signals:
        loop.add_signal_handler(number, stop)


def _oracle(prepared: PreparedJob) -> Oracle:
    asking = prepared.asking
    if prepared.job.access.service != RECORDED:
        return open_oracle(prepared.job.access, asking.schema)

    def key_of(article: LabelledArticle, repeat: int) -> str:
        return asking.call(article.id, article.text, repeat).key

    return RecordedOracle(prepared.job.recorded, prepared.spec, key_of)


def _is_usable(prepared: PreparedJob, raw: str) -> bool:
    try:
        prepared.parse(raw)
    except ReplyError:
        return False
    return True
