"""Percentiles are what they say, and tasks take turns for the time given. The clock here is one that tests turn."""

from collections.abc import Callable

import pytest

from distillery_runtime.bench.timing import Spread, TimedTask, measure, rates, ratio, spread, tail


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def takes(self, seconds: float) -> Callable[[], None]:
        """Something that takes so long."""

        def run() -> None:
            self.now += seconds

        return run


def ignore(share: float, name: str) -> None:
    """No progress is shown."""


def test_percentiles_are_linear_between_neighbours() -> None:
    assert spread([3.0, 1.0, 2.0, 5.0, 4.0]) == Spread(runs=5, p10=pytest.approx(1.4), p50=3.0, p90=pytest.approx(4.6))


def test_nothing_measured_has_no_spread() -> None:
    assert spread([]) is None


@pytest.mark.parametrize(
    ("runs", "percent", "known"), [(19, 95, False), (20, 95, True), (99, 99, False), (100, 99, True)]
)
def test_a_high_percentile_needs_runs_above_it(runs: int, percent: float, known: bool) -> None:
    values = [float(value) for value in range(runs)]

    assert (tail(values, percent) is not None) == known


def test_the_95th_percentile_of_0_to_100_is_95() -> None:
    assert tail([float(value) for value in range(101)], 95) == pytest.approx(95)


def test_a_rate_is_the_amount_by_the_time() -> None:
    found = rates(TimedTask("any", lambda: None, rounds=[[0.5], [0.25, 1.0]]), 10)

    assert found is not None
    assert (found.runs, found.p50) == (3, 20)


def test_a_ratio_compares_within_rounds_and_so_ignores_what_slows_both() -> None:
    fast = TimedTask("fast", lambda: None, rounds=[[1.0], [3.0], [2.0]])
    slow = TimedTask("slow", lambda: None, rounds=[[2.0], [6.0], [4.0], [9.0]])

    found = ratio(fast, slow)

    assert found == Spread(runs=3, p10=2.0, p50=2.0, p90=2.0)


def test_tasks_take_turns() -> None:
    clock, order = Clock(), []
    tasks = [TimedTask(name, lambda name=name: (order.append(name), clock.takes(1.0)())) for name in "ABC"]

    measure(tasks, 12.0, ignore, clock)

    assert "".join(order) == "ABC" * 4 + "A"
    assert [len(task.rounds) for task in tasks] == [4, 3, 3]


def test_short_tasks_run_many_times_in_a_turn() -> None:
    clock = Clock()
    task = TimedTask("short", clock.takes(0.01))

    measure([task], 1.0, ignore, clock)

    assert {len(turn) for turn in task.rounds} == {5}
    assert task.seconds == pytest.approx([0.01] * len(task.seconds))


def test_what_does_not_fit_into_half_of_the_time_is_left_out() -> None:
    clock = Clock()
    tasks = [
        TimedTask("first", clock.takes(1.0)),
        TimedTask("long", clock.takes(5.0)),
        TimedTask("last", clock.takes(0.1)),
    ]

    measure(tasks, 10.0, ignore, clock)

    assert [bool(task.rounds) for task in tasks] == [True, True, False]
    assert clock.now <= 10.0 + 5.0


def test_an_interrupted_measurement_keeps_what_was_measured() -> None:
    clock = Clock()
    task = TimedTask("steady", clock.takes(1.0))

    def interrupt() -> None:
        if len(task.rounds) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure([task, TimedTask("interrupts", interrupt)], 60.0, ignore, clock)

    assert len(task.seconds) == 2


def test_very_short_tasks_end_by_themselves() -> None:
    clock = Clock()
    task = TimedTask("nothing", clock.takes(1e-6))

    measure([task], 1000.0, ignore, clock)

    assert 1000 < len(task.seconds) < 3000
