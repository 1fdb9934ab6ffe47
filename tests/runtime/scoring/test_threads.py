"""The pipeline of threads: nothing lost or reordered, few items on the way, every exception seen, no thread left."""

import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillery_runtime.scoring.threads import pipelined

NAPS_S = st.sampled_from([0.0, 0.0, 0.0, 0.0005, 0.002])


class PlannedError(Exception):
    """Raised on purpose by a step or by the items."""


def run(items: Any, steps: Sequence[Any], most: int = 4) -> Iterator[Any]:
    return pipelined(items, steps, most, threading.Event())


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("distillery")]


@given(st.data(), st.integers(0, 25), st.integers(1, 5), st.integers(1, 8))
def test_whatever_fails_or_is_slow_the_results_are_those_of_a_plain_loop(
    data: st.DataObject, count: int, depth: int, most: int
) -> None:
    naps = data.draw(st.lists(st.lists(NAPS_S, min_size=count, max_size=count), min_size=depth, max_size=depth))
    faults = data.draw(st.sets(st.tuples(st.integers(-1, depth - 1), st.integers(0, max(0, count))), max_size=2))
    taken = data.draw(st.integers(0, count + 1))

    def items() -> Iterator[tuple[int, list[int]]]:
        for number in range(count):
            if (-1, number) in faults:
                raise PlannedError(number)
            yield number, []

    def step(place: int, item: tuple[int, list[int]]) -> tuple[int, list[int]]:
        number, seen = item
        time.sleep(naps[place][number])
        if (place, number) in faults:
            raise PlannedError(number)
        return number, [*seen, place]

    steps = [lambda item, place=place: step(place, item) for place in range(depth)]
    got, error = collect(run(items(), steps, most), taken)
    first = min((number for _, number in faults if number < count), default=count)
    expected = [(number, list(range(depth))) for number in range(min(first, taken))]

    assert got == expected
    assert (error is not None) == (taken > first and first < count)
    assert workers() == []


def collect(results: Any, most: int) -> tuple[list[Any], PlannedError | None]:
    """Takes at most so many results, and closes."""
    got: list[Any] = []
    with closing(results):
        try:
            while len(got) < most:
                got.append(next(results))
        except StopIteration:
            return got, None
        except PlannedError as failure:
            return got, failure
    return got, None


@pytest.mark.parametrize("most", [1, 3, 7])
def test_never_more_items_are_on_the_way_than_allowed(most: int) -> None:
    begun = 0

    def items() -> Iterator[int]:
        nonlocal begun
        for number in range(40):
            begun += 1
            yield number

    for done, _ in enumerate(run(items(), [abs, abs, abs], most)):
        assert begun - done <= most


def test_steps_work_on_different_items_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=30)

    def meet(item: int) -> int:
        meeting.wait()  # passes only when three items are in three steps at once; six items make four such meetings
        return item

    def bye(item: int) -> int:
        if item >= 2:
            meet(item)
        return item

    def middle(item: int) -> int:
        if 1 <= item < 5:
            meet(item)
        return item

    def late(item: int) -> int:
        if item < 4:
            meet(item)
        return item

    assert list(run(range(6), [bye, middle, late], 6)) == list(range(6))


def test_the_items_are_taken_in_the_callers_thread() -> None:
    def items() -> Iterator[int]:
        yield threading.get_ident()

    assert list(run(items(), [lambda item: item])) == [threading.get_ident()]


def test_an_exception_shows_the_step_that_raised_it() -> None:
    def careless_step(item: int) -> float:
        return 1 / item

    with pytest.raises(ZeroDivisionError) as caught:
        list(run([1, 0], [careless_step, abs]))

    assert "careless_step" in "".join(traceback.format_tb(caught.value.__traceback__))


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, PlannedError])
def test_an_interrupt_while_items_are_taken_ends_all_threads(interrupt: type[BaseException]) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise interrupt

    with pytest.raises(interrupt):
        list(run(items(), [abs, abs]))

    assert workers() == []


def test_a_loop_that_breaks_off_ends_all_threads_and_says_stop() -> None:
    stop = threading.Event()

    for _ in pipelined(range(100), [abs, abs], 4, stop):
        break

    assert stop.is_set()
    assert workers() == []


def test_a_long_step_that_looks_at_stop_need_not_finish() -> None:
    stop, second = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        second.set()
        yield 1

    def endless(item: int) -> int:
        if item:
            stop.wait()
            raise PlannedError
        second.wait()
        return item

    results = pipelined(items(), [endless], 2, stop)
    next(results)
    results.close()

    assert workers() == []


def test_nothing_runs_before_the_first_result_is_asked_for() -> None:
    results = run(iter([1]), [abs])

    assert workers() == []
    assert list(results) == [1]


def test_many_pipelines_run_at_the_same_time() -> None:
    found: dict[int, list[int]] = {}

    def consume(seed: int) -> None:
        found[seed] = list(run(range(seed, seed + 200), [lambda x: x + 1, lambda x: x * 2], 5))

    threads = [threading.Thread(target=consume, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {seed: [(x + 1) * 2 for x in range(seed, seed + 200)] for seed in range(16)}
