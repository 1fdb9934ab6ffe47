"""Times a run, and in turns with it another one, which pytest-benchmark by itself would time minutes later."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.parity_result import Row
from distillery_runtime.bench.timing import spread

LEAST_ROUNDS, MOST_ROUNDS = 5, 200
LEAST_SLOW_ROUNDS, SLOW_S = 3, 10.0  # of what takes so long, fewer rounds

Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Turns:
    """Measures one benchmark for about `seconds`, warmed up first.

    What a round ran last is still in the caches: both sides find the other's work there.
    """

    benchmark: BenchmarkFixture
    seconds: float

    def measure(
        self, group: str, run: Run, facts: Mapping[str, object], other: Run | None = None, other_name: str = "other"
    ) -> None:
        """Times a run.

        Args:
            group: the part of scoring that it belongs to.
            run: what is timed.
            facts: what else is known, accuracy above all; recorded beside the time.
            other: what it is compared with, run before each of its rounds.
            other_name: what it is called in `times_as_fast_as_...` and `..._ms`.
        """
        self.benchmark.group = group
        self.benchmark.extra_info.update(facts)
        taken = _warm_up(run) + (_warm_up(other) if other else 0.0)
        least = LEAST_SLOW_ROUNDS if taken > SLOW_S else LEAST_ROUNDS
        rounds = max(least, min(MOST_ROUNDS, int(self.seconds / max(taken, 1e-9))))
        others: list[float] = []

        def other_turn() -> None:
            if other:
                others.append(_clocked(other))

        self.benchmark.pedantic(run, setup=other_turn, rounds=rounds)  # type: ignore[no-untyped-call]
        if self.benchmark.stats and others:
            self.benchmark.extra_info.update(_compared(self.benchmark.stats.stats.data, others, other_name))


def _compared(ours: list[float], theirs: list[float], name: str) -> Row:
    ratios = spread([other / own for own, other in zip(ours, theirs, strict=True)])
    milliseconds = spread(theirs)
    assert ratios is not None  # there is a round at least
    assert milliseconds is not None
    return {
        f"{name}_ms": milliseconds.p50 * 1e3,
        f"times_as_fast_as_{name}": ratios.p50,
        f"times_as_fast_as_{name}_p10": ratios.p10,
        f"times_as_fast_as_{name}_p90": ratios.p90,
    }


def _warm_up(run: Run) -> float:
    """Runs twice, something slow once, and gives the last run's seconds."""
    first = _clocked(run)
    return first if first > SLOW_S else _clocked(run)


def _clocked(run: Run) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
