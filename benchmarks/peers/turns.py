"""Workers and products of matrices that take turns, round by round, on the same texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

import numpy as np

from benchmarks.peers.client import Answer, PeerError
from benchmarks.peers.table import Contender
from distillery_runtime.bench.gemm import Gemm, Kind
from distillery_runtime.bench.timing import MAX_BURST_RUNS, TimedTask

BURST_S = 0.25  # how long a row keeps its turn, one run at least
GEMM_KINDS: tuple[Kind, ...] = ("fp32", "int8")

Output = Sequence[float]
News = Callable[[str], object]
Peaks = Mapping[str, tuple[TimedTask, int]]


class Runner(Protocol):
    """Who runs a text: a worker."""

    def run(self, ids: Sequence[int]) -> Answer:
        """Runs one text.

        Raises:
            PeerError: it failed.
        """


@dataclass(slots=True)
class Row:
    """A contender at one length: its seconds by round, and its output for each text."""

    contender: Contender
    tokens: int
    worker: Runner
    versions: Mapping[str, str]
    texts: Sequence[Sequence[int]]
    task: TimedTask
    outputs: list[Output] = field(default_factory=list)
    failure: str = ""

    @property
    def turn_s(self) -> float:
        """How long its next turn takes, from those before; 0 before the first."""
        seconds = self.task.seconds
        return self.task.burst * float(np.median(seconds)) if seconds else 0.0


def new_row(
    contender: Contender, tokens: int, worker: Runner, versions: Mapping[str, str], texts: Sequence[Sequence[int]]
) -> Row:
    """A row that has not run yet. Its task only holds its seconds, for it is the worker that measures them."""
    name = f"{contender.name}, {tokens} tokens"
    return Row(contender, tokens, worker, versions, texts, TimedTask(name, lambda: None))


def answer_all(rows: Sequence[Row], news: News) -> None:
    """Every row's outputs for all of its texts: the warm-up, whose time does not count. Sets how long a turn is."""
    for row in rows:
        news(f"warm-up: {row.task.name}")
        try:
            answers = [row.worker.run(ids) for ids in row.texts]
        except PeerError as error:
            row.failure = str(error)
            continue
        row.outputs = [answer.output for answer in answers]
        taken = float(np.median([answer.seconds for answer in answers]))
        row.task.burst = max(1, min(MAX_BURST_RUNS, int(BURST_S / max(taken, 1e-9))))


def take_turns(rows: Sequence[Row], gemms: Sequence[TimedTask], rounds: int, news: News) -> None:
    """Times all rows and products in turns.

    Args:
        rows: those of one length follow one another, so that a round compares what ran within seconds.
        gemms: products of matrices, as tasks.
        rounds: how many turns each gets.
        news: is told what begins.
    """
    for number in range(rounds):
        left = (rounds - number) * sum(row.turn_s for row in rows)
        news(f"round {number + 1} of {rounds}" + (f", about {left:.0f} s left" if left else ""))
        for gemm in gemms:
            gemm.rounds.append(_clocked(gemm))
        for row in rows:
            if not row.failure:
                _turn(row, number)


def gemm_tasks(threads: int) -> Peaks:
    """A product of matrices of each kind as a task, warmed up, with the operations of one run."""
    tasks: dict[str, tuple[TimedTask, int]] = {}
    for kind in GEMM_KINDS:
        gemm = Gemm(kind, "cpu", threads)
        gemm.run()
        tasks[kind] = TimedTask(kind, gemm.run, burst=8), gemm.operations
    return tasks


def _turn(row: Row, number: int) -> None:
    """One burst, each run on the next text."""
    first = number * row.task.burst
    places = [(first + i) % len(row.texts) for i in range(row.task.burst)]
    try:
        row.task.rounds.append([row.worker.run(row.texts[place]).seconds for place in places])
    except PeerError as error:
        row.failure = str(error)


def _clocked(task: TimedTask) -> list[float]:
    seconds = []
    for _ in range(task.burst):
        began = perf_counter()
        task.run()
        seconds.append(perf_counter() - began)
    return seconds
