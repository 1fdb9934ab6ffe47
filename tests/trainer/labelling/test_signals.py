"""A signal that would end `trainer label` lets the calls under way end first, as Ctrl-C does."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from distillery_trainer.labelling.labeller import stop_on_signal


class Waiting:
    """A driver that waits to be interrupted."""

    def __init__(self) -> None:
        self.interrupted = asyncio.Event()

    async def resume(self, _asking: str) -> None:
        """Has nothing to bring in."""

    async def run(self, _requests: list[object]) -> None:
        """Waits."""
        await asyncio.wait_for(self.interrupted.wait(), 60)

    def interrupt(self) -> None:
        """Ends the waiting."""
        self.interrupted.set()


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Leaves this process's handlers as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_gently(number: signal.Signals) -> None:
    said: list[str] = []
    signal.signal(number, signal.SIG_DFL)  # nohup and background jobs begin with some ignored

    async def work() -> None:
        driver = Waiting()
        stop_on_signal(driver, said.append)
        os.kill(os.getpid(), number)
        await driver.run([])

    asyncio.run(work())

    assert len(said) == 1


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def work() -> None:
        driver = Waiting()
        stop_on_signal(driver, str)
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)
        assert not driver.interrupted.is_set()

    asyncio.run(work())
