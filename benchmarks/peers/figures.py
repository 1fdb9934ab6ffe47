"""A row's figures, as the file of results has them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.models import Kind, Model
from benchmarks.peers.table import OURS, REFERENCE
from benchmarks.peers.turns import Output, Peaks, Row
from distillery_runtime.bench.timing import Spread, TimedTask, rates, ratio, spread
from distillery_trainer.evaluate.metrics import spearman

RANDOM = "random weights: speed only"

Record = dict[str, object]


def row_record(row: Row, anchors: Mapping[str, Row], model: Model, work: int, peaks: Peaks) -> Record:
    """All figures of a row.

    Args:
        row: timed.
        anchors: PyTorch's and our rows of the same length, timed in the same rounds, by contender; without those that
            could not be measured.
        model: what ran.
        work: the multiply-adds of one pass.
        peaks: the product of matrices of each kind, timed in the same rounds, with its operations.
    """
    milliseconds = spread(row.task.seconds)
    assert milliseconds is not None
    peak = peaks.get(row.contender.arithmetic or "")
    against = {name: written(ratio(row.task, anchor.task)) for name, anchor in anchors.items()}
    return {
        "peer": row.contender.name,
        "tokens": row.tokens,
        "articles": len(row.texts),
        "ms": asdict(milliseconds.scaled(1e3)),
        "tokens_per_s": written(rates(row.task, row.tokens)),
        "ratio": against.get(REFERENCE),
        "ratio_to_ours": {name: against[name] for name in OURS if name in against},
        "gflops": written(rates(row.task, 2e-9 * work)),
        "share_of_gemm": share_of_gemm(row.task, 2 * work, *peak) if peak else None,
        "accuracy": _accuracy_record(row, anchors.get(REFERENCE), model),
        "versions": dict(row.versions),
    }


def share_of_gemm(task: TimedTask, operations: int, gemm: TimedTask, gemm_operations: int) -> Record | None:
    """How near a row's operations per second came, round by round, to those of a plain product of matrices."""
    found = ratio(task, gemm)
    return written(found.scaled(operations / gemm_operations)) if found else None


def accuracy(outputs: Sequence[Output], expected: Sequence[Output], kind: Kind) -> Record:
    """How far answers are from others to the same texts.

    Gives:
        The mean and largest absolute difference of single numbers; `spread`, the standard deviation of an expected
        number over the texts, which the differences may be held against; of embeddings the mean and lowest cosine, of
        raw outputs the mean and lowest rank correlation over the texts, None where an output is always the same.
    """
    ours, theirs = _matrix(outputs), _matrix(expected)
    difference = np.abs(ours - theirs)
    alike = _cosines(ours, theirs) if kind == "encoder" else _spearmans(ours, theirs)
    name = "cosine" if kind == "encoder" else "spearman"
    return {
        "mean_abs": float(difference.mean()),
        "max_abs": float(difference.max()),
        "spread": float(theirs.std(axis=0).mean()),
        f"{name}_mean": float(np.mean(alike)) if alike else None,
        f"{name}_min": min(alike, default=None),
    }


def _cosines(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> list[float]:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines: list[float] = ((ours * theirs).sum(axis=1) / lengths).tolist()
    return cosines


def _spearmans(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> list[float]:
    """By output."""
    found = [spearman(mine, other) for mine, other in zip(ours.T, theirs.T, strict=True)]
    return [value for value in found if value is not None]


def _accuracy_record(row: Row, reference: Row | None, model: Model) -> Record:
    note = RANDOM if model.random else row.contender.speed_only
    if reference is None and not note:
        note = "no answers of PyTorch to compare with"
    if note or reference is None:
        return {"mean_abs": None, "max_abs": None, "note": note}
    return accuracy(row.outputs, reference.outputs, model.kind)


def _matrix(outputs: Sequence[Output]) -> NDArray[np.float64]:
    return np.array(outputs, dtype=np.float64)


def written(figure: Spread | None) -> Record | None:
    """A figure with its spread, as JSON has it."""
    return asdict(figure) if figure else None
