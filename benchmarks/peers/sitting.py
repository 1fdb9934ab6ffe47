"""A sitting: contenders whose workers are open at the same time and take turns, as many as memory holds."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.parity_graphs import random_head
from benchmarks.parity_result import without_folders
from benchmarks.peers.affinity import Cores, on_cores
from benchmarks.peers.client import PeerError, Worker
from benchmarks.peers.environments import OURS, python_of
from benchmarks.peers.graphs import our_graph, write_head
from benchmarks.peers.models import Model, parameters
from benchmarks.peers.table import CONTENDERS, REFERENCE, Contender
from benchmarks.peers.texts import Texts
from benchmarks.peers.turns import News, Peaks, Row, answer_all, gemm_tasks, new_row, take_turns
from distillery_runtime.bench.machine import Machine
from distillery_runtime.errors import DistilleryError

SPARE_GB = 0.8  # a process with its libraries


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model in `folder`, the texts, and where the peers' environments and converted models are."""

    model: Model
    folder: Path
    work: Path
    texts: Texts
    environments: Path | None
    threads: int
    cores: Cores
    rounds: int
    machine: Machine


@dataclass(frozen=True, slots=True)
class Seat:
    """A contender whose worker is ready, and the versions that run it."""

    contender: Contender
    worker: Worker
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Seating:
    """Who sits, who waits for another sitting, and why others cannot take part, by name."""

    seats: Sequence[Seat]
    waiting: Sequence[Contender]
    refused: Mapping[str, str]


def common_head(task: Comparison) -> Path | None:
    """A file with the head that everyone has on a decoder's last state: (D, H) float32; None for an encoder.

    Its outputs look like raw scores, for which PyTorch is asked for the states of the tuning articles.

    Raises:
        PeerError: PyTorch cannot be asked.
    """
    if task.model.kind == "encoder":
        return None
    reference = next(contender for contender in CONTENDERS if contender.name == REFERENCE)

    def make() -> NDArray[np.float32]:
        torch = _open(task, reference, None)
        try:
            states = [torch.worker.run(ids).output for ids in task.texts.tuning]
        finally:
            torch.worker.close()
        return random_head(np.array(states, np.float32))

    return write_head(task.folder, task.work, task.texts, make)


def seat(task: Comparison, contenders: Iterable[Contender], head: Path | None, most: int, news: News) -> Seating:
    """Opens contenders, in order, until `most` sit or memory is used up.

    One that needs more memory than is left waits, unless nobody of these sits, when it is refused.
    """
    seats: list[Seat] = []
    waiting: list[Contender] = []
    refused: dict[str, str] = {}
    for contender in contenders:
        if len(seats) == most:
            waiting.append(contender)
            continue
        lacking = _lacking_memory(task, contender)
        if lacking and seats:
            waiting.append(contender)
            continue
        news(f"opening {contender.name}")
        try:
            if lacking:
                raise PeerError(lacking)
            seats.append(_open(task, contender, head))
        except (PeerError, DistilleryError) as error:
            refused[contender.name] = without_folders(str(error))
            news(f"left out: {error}")
    return Seating(seats, waiting, refused)


def measure(task: Comparison, seats: Sequence[Seat], news: News) -> tuple[list[Row], Peaks]:
    """All rows after their rounds, and the products of matrices that had their turns among them."""
    rows = [
        new_row(each.contender, tokens, each.worker, each.versions, task.texts.timed[tokens])
        for tokens in task.model.tokens
        for each in seats
    ]
    with on_cores(task.cores):
        peaks = gemm_tasks(task.threads)
        answer_all(rows, news)
        take_turns(rows, [gemm for gemm, _ in peaks.values()], task.rounds, news)
    return rows, peaks


def _open(task: Comparison, contender: Contender, head: Path | None) -> Seat:
    """Starts a contender's worker and opens the model there.

    Raises:
        PeerError: the processor lacks what it needs, its packages are not installed, or it cannot open the model.
        DistilleryError: the model cannot be exported.
    """
    needed = contender.instructions
    if needed and not set(needed) & set(task.machine.processor.instructions):
        raise PeerError(f"the processor has none of {', '.join(needed)}")
    options = dict(contender.options)
    if contender.environment == OURS and "form" in options:
        options["graph"] = str(our_graph(str(options["form"]), task.folder, head, task.work, task.texts))
    python, log = python_of(contender.environment, task.environments), task.work / f"{contender.name}.log"
    worker = Worker(python, contender.worker, task.threads, task.cores, log)
    opening = {
        "model": str(task.folder),
        "work": str(task.work),
        "kind": task.model.kind,
        "threads": task.threads,
        "head": str(head) if head else None,
        "calibration": task.texts.tuning,
        "options": options,
    }
    try:
        return Seat(contender, worker, worker.open(opening))
    except PeerError:
        worker.close()
        raise


def _lacking_memory(task: Comparison, contender: Contender) -> str:
    """What a contender lacks, or ""."""
    needed = contender.gigabytes * parameters(task.folder) / 1e9 + SPARE_GB
    available = _available_gigabytes()
    return f"needs about {needed:.1f} GB of memory, {available:.1f} GB are available" if available < needed else ""


def _available_gigabytes(path: Path = Path("/proc/meminfo")) -> float:
    """What can be used without swapping; no limit where the system does not tell."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", path.read_text(), re.MULTILINE) if path.exists() else None
    return int(found[1]) * 1024 / 1e9 if found else float("inf")
