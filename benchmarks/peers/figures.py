"""A row's figures, as the file of results has them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.models import Kind, Model
from benchmarks.peers.turns import Output, Row
from distillery_runtime.timing import Spread, Task, rates, ratio, spread

RANDOM = "random weights: speed only"

Record = dict[str, object]


def row_record(
    row: Row,
    reference: Row | None,
    model: Model,
    work: int,
    gemms: Mapping[str, tuple[Task, int]],
    versions: Mapping[str, str],
) -> Record:
    """All figures of a row.

    Args:
        row: timed.
        reference: PyTorch's row of the same length; None where it could not be measured.
        model: what ran.
        work: the multiply-adds of one pass.
        gemms: the product of matrices of each kind, timed in the same rounds, with its operations.
        versions: of the packages that ran it.
    """
    milliseconds = spread(row.task.seconds)
    assert milliseconds is not None
    peak = gemms.get(row.contender.arithmetic or "")
    return {
        "peer": row.contender.name,
        "tokens": row.tokens,
        "articles": len(row.texts),
        "ms": asdict(milliseconds.scaled(1e3)),
        "tokens_per_s": written(rates(row.task, row.tokens)),
        "ratio": written(ratio(row.task, reference.task)) if reference else None,
        "gflops": written(rates(row.task, 2e-9 * work)),
        "share_of_gemm": share_of_gemm(row.task, 2 * work, *peak) if peak else None,
        "accuracy": _accuracy_record(row, reference, model),
        "versions": dict(versions),
    }


def share_of_gemm(task: Task, operations: int, gemm: Task, gemm_operations: int) -> Record | None:
    """How near a row's operations per second came, round by round, to those of a plain product of matrices."""
    rounds = zip(task.rounds, gemm.rounds, strict=False)
    factor = operations / gemm_operations
    return written(spread([factor * float(np.median(plain) / np.median(ours)) for ours, plain in rounds]))


def accuracy(outputs: Sequence[Output], expected: Sequence[Output], kind: Kind) -> Record:
    """How far answers are from others to the same texts.

    Gives:
        The mean and largest absolute difference of single numbers; `spread`, the standard deviation of an expected
        number over the texts, which the differences may be held against; for embeddings the mean and lowest cosine.
    """
    ours, theirs = _matrix(outputs), _matrix(expected)
    difference = np.abs(ours - theirs)
    figures: Record = {
        "mean_abs": float(difference.mean()),
        "max_abs": float(difference.max()),
        "spread": float(theirs.std(axis=0).mean()),
    }
    if kind == "encoder":
        cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
        figures |= {"cosine_mean": float(cosines.mean()), "cosine_min": float(cosines.min())}
    return figures


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
