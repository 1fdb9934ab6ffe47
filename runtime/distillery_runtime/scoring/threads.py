"""A pipeline of threads: a worker for each step, results in the order of the items, few items on the way at a time."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

Step = Callable[[Any], Any]  # Any: each step takes what the one before it gave


def pipelined(items: Iterable[Any], steps: Sequence[Step], most: int, stop: Event) -> Generator[Any, None, None]:
    """Takes every item through all steps and gives what the last step made of it, in order.

    Each step has a thread of its own and takes one item at a time. Items are taken in the caller's thread, and only
    while fewer than `most` are on the way: memory is bounded, and items may come from what only one thread may touch.
    An exception of the items or of a step reaches the caller as it was raised, after the results of all items before.

    However the iterator ends, its threads have ended too. What they had begun they finish; a long step can look at
    `stop`, which is set then, and raise to be done sooner.

    Args:
        items: what to take through.
        steps: at least one.
        most: how many items may be on the way, results not yet taken included. More than steps, to keep all busy.
        stop: set when no more results are wanted.
    """
    workers = [ThreadPoolExecutor(1, thread_name_prefix="distillery") for _ in steps]
    on_the_way: deque[Future[Any]] = deque()
    try:
        for last in _submitted(items, workers, steps):
            on_the_way.append(last)
            while on_the_way and (len(on_the_way) >= most or on_the_way[0].done()):
                yield on_the_way.popleft().result()
        while on_the_way:
            yield on_the_way.popleft().result()
    finally:
        stop.set()
        for worker in workers:  # in this order: a later one may wait for what an earlier one gives up
            worker.shutdown(wait=True, cancel_futures=True)


def _submitted(items: Iterable[Any], workers: Sequence[ThreadPoolExecutor], steps: Sequence[Step]) -> Iterator[Any]:
    """Gives a future of each item's last step; what the items raise becomes one, in its place behind the others."""
    try:
        for item in items:
            future: Future[Any] = workers[0].submit(steps[0], item)
            for worker, step in zip(workers[1:], steps[1:], strict=True):
                future = worker.submit(_after, future, step)
            yield future
    except Exception as error:  # noqa: BLE001 - not handled here: whoever takes the results gets it
        failed: Future[Any] = Future()
        failed.set_exception(error)
        yield failed


def _after(before: Future[Any], step: Step) -> Any:  # Any: as above
    return step(before.result())
