"""One model's comparison: opens everyone, lets them take turns, and gives the figures."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.client import PeerError, Worker
from benchmarks.peers.environments import OURS, python_of
from benchmarks.peers.figures import Record, row_record, written
from benchmarks.peers.graphs import our_graph, write_head
from benchmarks.peers.models import Model, multiply_adds, parameters, read_config
from benchmarks.peers.table import REFERENCE, Contender
from benchmarks.peers.texts import Texts
from benchmarks.peers.turns import News, Row, answer_all, gemm_tasks, new_row, take_turns
from distillery_runtime.errors import DistilleryError
from distillery_runtime.machine import Machine
from distillery_runtime.timing import Task, rates

Peaks = Mapping[str, tuple[Task, int]]

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
    rounds: int
    machine: Machine


@dataclass(frozen=True, slots=True)
class _Open:
    """A contender whose worker is ready, and the versions that run it."""

    contender: Contender
    worker: Worker
    versions: Mapping[str, str]


def compare(task: Comparison, contenders: Sequence[Contender], news: News) -> Record:
    """Measures all contenders that apply to the model; gives `rows`, `gemm` and `skipped`."""
    head = write_head(task.work, read_config(task.folder)["hidden_size"]) if task.model.kind == "decoder" else None
    skipped: dict[str, str] = {}
    opened: list[_Open] = []
    try:
        for contender in contenders:
            if not contender.applies_to(task.model):
                continue
            news(f"opening {contender.name}")
            try:
                opened.append(_open(task, contender, head))
            except (PeerError, DistilleryError) as error:
                skipped[contender.name] = str(error)
                news(f"skipped: {error}")
        rows, peaks = _measure(task, opened, news)
    finally:
        for each in opened:
            each.worker.close()
    skipped |= {row.contender.name: f"{row.tokens} tokens: {row.failure}" for row in rows if row.failure}
    return {
        "rows": _records(task, rows, {each.contender.name: each.versions for each in opened}, peaks),
        "gemm": {kind: {"gflops": written(rates(gemm, 1e-9 * ops))} for kind, (gemm, ops) in peaks.items()},
        "skipped": [{"peer": name, "reason": reason} for name, reason in skipped.items()],
    }


def _open(task: Comparison, contender: Contender, head: Path | None) -> _Open:
    """Starts a contender's worker and opens the model there.

    Raises:
        PeerError: the machine lacks what it needs, its packages are not installed, or it cannot open the model.
        DistilleryError: the model cannot be exported.
    """
    _check_machine(task, contender)
    options = dict(contender.options)
    if contender.environment == OURS and "form" in options:
        form, longest = str(options["form"]), max(task.model.tokens)
        options["graph"] = str(our_graph(task.model.kind, form, task.folder, task.work, task.texts, longest))
    python = python_of(contender.environment, task.environments)
    worker = Worker(python, contender.worker, task.threads, task.work / f"{contender.name}.log")
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
        return _Open(contender, worker, worker.open(opening))
    except PeerError:
        worker.close()
        raise


def _check_machine(task: Comparison, contender: Contender) -> None:
    needed = contender.instructions
    if needed and not set(needed) & set(task.machine.processor.instructions):
        raise PeerError(f"the processor has none of {', '.join(needed)}")
    gigabytes = contender.gigabytes * parameters(task.folder) / 1e9 + SPARE_GB
    available = _available_gigabytes()
    if available < gigabytes:
        raise PeerError(f"needs about {gigabytes:.1f} GB of memory, {available:.1f} GB are available")


def _available_gigabytes(path: Path = Path("/proc/meminfo")) -> float:
    """What can be used without swapping; no limit where the system does not tell."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", path.read_text(), re.MULTILINE) if path.exists() else None
    return int(found[1]) * 1024 / 1e9 if found else float("inf")


def _measure(task: Comparison, opened: Sequence[_Open], news: News) -> tuple[list[Row], Peaks]:
    """All rows after their rounds, and the products of matrices that had their turns among them."""
    rows = [
        new_row(each.contender, tokens, each.worker, task.texts.timed[tokens])
        for tokens in task.model.tokens
        for each in opened
    ]
    gemms = gemm_tasks(task.threads)
    answer_all(rows, news)
    take_turns(rows, [gemm for gemm, _ in gemms], task.rounds, news)
    return rows, {gemm.name: (gemm, operations) for gemm, operations in gemms}


def _records(
    task: Comparison, rows: Sequence[Row], versions: Mapping[str, Mapping[str, str]], peaks: Peaks
) -> list[Record]:
    config, kind = read_config(task.folder), task.model.kind
    sound = [row for row in rows if not row.failure]
    references = {row.tokens: row for row in sound if row.contender.name == REFERENCE}
    work = {tokens: multiply_adds(config, kind, tokens) for tokens in task.model.tokens}
    return [
        row_record(row, references.get(row.tokens), task.model, work[row.tokens], peaks, versions[row.contender.name])
        for row in sound
    ]
