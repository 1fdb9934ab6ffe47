"""Timing on machines that do other things too: tasks run in turns, and every figure has its spread and count.

Comparing two tasks by their totals would compare what else the machine did meanwhile. So all tasks take turns in short
bursts (A B C, A B C), and a ratio is the median of the ratios within each round.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

BURST_S = 0.05  # how long a task keeps its turn
MAX_BURST_RUNS = 50
MAX_RUNS = 2000


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over its runs, in the unit of whoever measured it: the median, and the 10th and 90th percentile."""

    runs: int
    p10: float
    p50: float
    p90: float

    def scaled(self, factor: float) -> "Spread":
        """The same in another unit."""
        return Spread(self.runs, self.p10 * factor, self.p50 * factor, self.p90 * factor)


def spread(values: Sequence[float]) -> Spread | None:
    """The percentiles of values, linear between neighbours; None without a value."""
    if not values:
        return None
    p10, p50, p90 = np.percentile(values, (10, 50, 90)).tolist()
    return Spread(len(values), p10, p50, p90)


def tail(values: Sequence[float], percent: float) -> float | None:
    """A high percentile of values, or None where fewer than one of them would lie above it.

    The 95th needs 20 values and the 99th 100: with fewer it would be the slowest run under another name.
    """
    if len(values) * (100 - percent) < 100:
        return None
    return float(np.percentile(values, percent))


@dataclass(slots=True)
class TimedTask:
    """Something to time. `rounds` holds the seconds of its runs, a list for each turn it had."""

    name: str
    run: Callable[[], object]
    rounds: list[list[float]] = field(default_factory=list)
    burst: int = 0  # runs in one turn; 0 until it was warmed up

    @property
    def seconds(self) -> list[float]:
        """The seconds of all its runs."""
        return [seconds for turn in self.rounds for seconds in turn]


def rates(task: TimedTask, amount: float) -> Spread | None:
    """How much of something a task did per second, when each of its runs does `amount`."""
    return spread([amount / seconds for seconds in task.seconds])


def ratio(task: TimedTask, reference: TimedTask) -> Spread | None:
    """How many times faster than the reference a task was, round by round; 2 is twice as fast."""
    turns = zip(task.rounds, reference.rounds, strict=False)  # the last round may have been cut short
    return spread([float(np.median(theirs) / np.median(ours)) for ours, theirs in turns])


def measure(
    tasks: Sequence[TimedTask],
    seconds: float,
    progress: Callable[[float, str], object],
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Runs tasks in turns for about `seconds`, and writes each run's seconds into its task.

    Each task is run first without being counted. A task whose turn for that comes after half of the time is left out,
    so that those before it get rounds enough: put what matters most first. The last turn may begin just before the end.

    Args:
        progress: called before each turn with the share of the time that is gone, and the task's name.
        clock: monotonic seconds.
    """
    start = clock()
    warm = []
    for task in tasks:
        if clock() - start > seconds / 2:
            break
        progress((clock() - start) / seconds, task.name)
        task.burst = _warm_up(task, clock)
        warm.append(task)
    while warm := [task for task in warm if len(task.rounds) * task.burst < MAX_RUNS]:
        for task in warm:
            if clock() - start > seconds:
                return
            progress((clock() - start) / seconds, task.name)
            task.rounds.append(_turn(task, clock))


def _warm_up(task: TimedTask, clock: Callable[[], float]) -> int:
    """Runs a task once, a fast one twice, and gives how many runs fit into one turn."""
    for _ in range(2):
        began = clock()
        task.run()
        taken = clock() - began
        if taken > BURST_S:
            return 1
    return max(1, min(MAX_BURST_RUNS, int(BURST_S / max(taken, 1e-9))))


def _turn(task: TimedTask, clock: Callable[[], float]) -> list[float]:
    turn = []
    for _ in range(task.burst):
        began = clock()
        task.run()
        turn.append(clock() - began)
    return turn
