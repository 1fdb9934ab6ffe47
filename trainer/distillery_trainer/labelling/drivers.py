"""Opens the driver that a job wants, over the oracle that it names, and lets Ctrl-C stop it gently."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from distillery_runtime.cli.command import STOPS
from distillery_runtime.errors import Problem
from distillery_trainer.data.labels import LabelledArticle
from distillery_trainer.filters.reply import ReplyError
from distillery_trainer.labelling.batches import BatchDriver
from distillery_trainer.labelling.budget import Budget
from distillery_trainer.labelling.driving import Driver, Patience, Say
from distillery_trainer.labelling.job import LabelJob
from distillery_trainer.labelling.ledger import Ledger
from distillery_trainer.labelling.ledger_tables import LedgerError
from distillery_trainer.labelling.live import LiveDriver
from distillery_trainer.labelling.prepared import Prepared
from distillery_trainer.labelling.watch import Watch
from distillery_trainer.oracle.protocol import Oracle
from distillery_trainer.oracle.providers.recorded import RecordedOracle
from distillery_trainer.oracle.rates import Rates
from distillery_trainer.oracle.services import RECORDED, open_batches, open_oracle


@asynccontextmanager
async def opened_driver(prepared: Prepared, ledger: Ledger, say: Say) -> AsyncIterator[Driver]:
    """The driver; its oracle's connections are closed at the end. Raises as `open_oracle` does."""
    job, budget = prepared.job, Budget(ledger, prepared.terms, prepared.job.money.max_usd)
    watch = Watch(_patience(job), lambda raw: _is_usable(prepared, raw))
    driver: LiveDriver | BatchDriver
    if job.is_batch:
        batches = open_batches(job.access, prepared.asking.schema)
        close = batches.close
        driver = BatchDriver(batches, ledger, budget, watch, job.pace.patience, job.pace.job_size, say)
    else:
        oracle = _oracle(prepared)
        close = oracle.close
        rates = Rates(job.pace.requests_per_minute, job.pace.tokens_per_minute)
        driver = LiveDriver(oracle, budget, rates, watch, job.pace, len(prepared.spec.dimensions), say)
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
    together = job.pace.job_size.most_requests if job.is_batch else job.pace.concurrency
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


def _oracle(prepared: Prepared) -> Oracle:
    asking = prepared.asking
    if prepared.job.access.service != RECORDED:
        return open_oracle(prepared.job.access, asking.schema)

    def key_of(article: LabelledArticle, repeat: int) -> str:
        return asking.request(article.id, article.text, repeat).key

    return RecordedOracle(prepared.job.recorded, prepared.spec, key_of)


def _is_usable(prepared: Prepared, raw: str) -> bool:
    try:
        prepared.judge(raw)
    except ReplyError:
        return False
    return True
