"""One command's asking, from the canary to the leftovers, over a driver that is live or in batches."""

import asyncio

from distillery_runtime.errors import InputError, Problem
from distillery_trainer.labelling.canary import Verdict, canary_calls, choose, judge_canary
from distillery_trainer.labelling.drivers import opened_driver
from distillery_trainer.labelling.driving import Driver, Say, Stop, reporting
from distillery_trainer.labelling.ledger import Ledger, Past
from distillery_trainer.labelling.prepared import Prepared
from distillery_trainer.labelling.standing import Standing
from distillery_trainer.oracle.protocol import Call

ROUNDS = 3


class Asked:
    """What is asked within one command, into `ledger`; `canary` and `stop` say how it went.

    Args:
        prepared: the job.
        ledger: open, with lost calls counted.
        say: callback for progress messages.
    """

    def __init__(self, prepared: Prepared, ledger: Ledger, say: Say) -> None:
        self._prepared = prepared
        self.ledger = ledger
        self._say = say
        self._again_up_to = ledger.last_call() if prepared.job.questions.asks_dead_again else 0
        self._again = {request.key for request in self._open()}
        self._phase = ""
        self.canary: Verdict | None = None
        self.stop: Stop | None = None

    def run(self) -> None:
        """Asks whatever has no answer yet, within the budget. Raises as `open_oracle` does."""
        has_jobs = bool(self.ledger.open_jobs(self._prepared.asking.id))
        if has_jobs and not self._prepared.job.is_batch:
            problem = Problem("(ledger)", "a batch with these questions is under way", "the same command with --batch")
            raise InputError("trainer label", [problem])
        if has_jobs or self._open():
            asyncio.run(self._run())
        else:
            self.stop = self._judge(self._canary_calls(self._prepared.job.questions.canary))

    def history(self) -> list[Past]:
        """The asking's calls that have ended."""
        return list(self.ledger.history(self._prepared.asking.id))

    async def _run(self) -> None:
        job = self._prepared.job
        every_s = job.pace.news_s
        if not job.is_batch and not self._prepared.price.is_free:
            self._say(f"at most {job.pace.concurrency} calls are under way at once; a kill loses those, and the next "
                      "command pays for them again; Ctrl-C waits for them")  # fmt: skip
        async with (
            opened_driver(self._prepared, self.ledger, self._say) as driver,
            reporting(lambda: f"{self._phase}{driver.progress()}", self._say, every_s),
        ):
            await self._ask_all(driver)

    async def _ask_all(self, driver: Driver) -> None:
        self.stop = await driver.resume(self._prepared.asking.id) or await self._run_canary(driver)
        self._phase = ""
        for _ in range(ROUNDS):
            left = self._open()
            if self.stop is not None or not left:
                break
            self.stop = await driver.run(left)

    async def _run_canary(self, driver: Driver) -> Stop | None:
        """Asks the canary, as far as it was not asked before, and judges it."""
        size = self._prepared.job.questions.canary
        missing = size - len(self._canary_calls(size))
        firsts = [request for request in self._open() if request.repeat == 0]
        if missing > 0 and firsts:
            self._say(f"canary of {min(missing, len(firsts))} ...")
            self._phase = "canary: "
            if stop := await driver.run(choose(firsts, missing)):
                return stop
        return self._judge(self._canary_calls(size))

    def _judge(self, replies: list[Past]) -> Stop | None:
        if not replies:
            return None
        self.canary = judge_canary(replies, self._prepared.judge)
        if self.canary.failure is not None:
            dead = self.canary.replies - self.canary.valid
            place = f"; {dead} dead letters with ids and raw replies: {self._prepared.job.dead}" if dead else ""
            return Stop("canary", f"{self.canary.failure}{place}")
        mean = sum(past.cost_usd for past in replies) / len(replies)
        left = len(self._open())
        self._say(f"canary passed; {left} questions left, at its mean cost of ${mean:.6f} about ${mean * left:.4f}")
        room = self._prepared.job.money.max_usd - self.ledger.spent().total_usd
        if 0 < mean * left > room:
            self._say(f"the budget has ${room:.4f} left: it will not be enough")
        return None

    def _canary_calls(self, size: int) -> list[Past]:
        """The canary's replies; what is to be asked again counts only when it was."""
        counted = [p for p in self.history() if p.call > self._again_up_to or p.key not in self._again]
        return canary_calls(counted, self._prepared.mode, size)

    def _open(self) -> list[Call]:
        return self._prepared.plan.open(self._standings(), self._again_up_to)

    def _standings(self) -> dict[str, Standing]:
        return self._prepared.standings(self.history())
