"""How long the steps of scoring took, added up while articles go by."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Lock
from types import TracebackType


@dataclass(frozen=True, slots=True)
class StepTime:
    """One step's time in seconds, and how many articles went through it."""

    seconds: float
    articles: int


class Timings:
    """Adds up seconds and articles by step. Hand one to the calls to be timed; it may be shared between threads."""

    def __init__(self) -> None:
        self._steps: dict[str, StepTime] = {}
        self._lock = Lock()

    def add(self, step: str, seconds: float, articles: int) -> None:
        """Adds to a step."""
        with self._lock:
            before = self._steps.get(step, StepTime(0.0, 0))
            self._steps[step] = StepTime(before.seconds + seconds, before.articles + articles)

    @property
    def steps(self) -> dict[str, StepTime]:
        """What was added so far, steps in the order in which they first ran."""
        with self._lock:
            return dict(self._steps)


def timed(timings: Timings | None, step: str, articles: int) -> AbstractContextManager[object]:
    """Times what runs inside, unless there are no timings or it raises."""
    return nullcontext() if timings is None else _Timed(timings, step, articles)


class _Timed:
    def __init__(self, timings: Timings, step: str, articles: int) -> None:
        self._timings, self._step, self._articles = timings, step, articles

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._timings.add(self._step, time.perf_counter() - self._start, self._articles)
