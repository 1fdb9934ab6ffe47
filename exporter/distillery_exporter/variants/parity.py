"""Parity: the exported graphs against the models they were made from, on real texts, alone and in padded batches."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.errors import ModelError
from distillery_runtime.models.stage import Stage
from distillery_runtime.spec.calibration import ReadOut
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.models.choose import load_merged_decoder, load_student
from distillery_trainer.models.probe import load_probe

RAW_TOLERANCE = 1e-3
CALIBRATION_TOLERANCE = 1e-6
BATCH = 16

Report = dict[str, float | int]
Matrix = NDArray[np.float32]


def check_stage(stage: Stage, expected: Matrix, texts: Sequence[str], read_out: ReadOut) -> Report:
    """Compares a stage's graphs with the raw outputs of the model that was trained.

    Args:
        expected: (N, D) float32 raw outputs of the trained model on `texts`.

    Returns:
        The largest differences found: one text at a time, in padded batches of 16 of mixed lengths, and of the graph's
        read-outs from `numpy.interp`.

    Raises:
        ModelError: a difference is above 1e-3 in raw outputs, or above 1e-6 in calibration.
    """
    rows = stage.window.encode(texts)
    alone = [stage.run_batch([row]) for row in rows]
    batches = [stage.run_batch(rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)]
    report: Report = {
        "articles": len(texts),
        "batch_1": _largest(np.concatenate([o.raw for o in alone]), expected),
        f"batch_{BATCH}_padded": _largest(np.concatenate([o.raw for o in batches]), expected),
        "calibration": max(float(read_out.differences(o.raw, o.expected, o.scores).max()) for o in [*alone, *batches]),
    }
    worst = max(report["batch_1"], report[f"batch_{BATCH}_padded"])
    if not worst <= RAW_TOLERANCE or not report["calibration"] <= CALIBRATION_TOLERANCE:
        raise ModelError(
            f"stage {stage.name}: the exported graph differs from the trained model by {worst:.2g}, expected at most "
            f"{RAW_TOLERANCE:g}; from its calibration by {report['calibration']:.2g}, expected at most "
            f"{CALIBRATION_TOLERANCE:g}"
        )
    return report


def probe_reference(spec: FilterSpec, run: Path, texts: Sequence[str]) -> Matrix:
    """The trained probe's raw outputs: (N, D) float32."""
    return load_probe(spec.cascade.probe, run / "probe").predict(texts)


def student_reference(spec: FilterSpec, run: Path, texts: Sequence[str]) -> tuple[Matrix, float | None]:
    """The trained student's raw outputs, and for a decoder how far merging its adapter moves them at most.

    The outputs are those of the unmerged model.
    """
    expected = load_student(spec, run / "student").predict(texts)
    if spec.student.backend != "decoder":
        return expected, None
    return expected, _largest(load_merged_decoder(spec, run / "student").predict(texts), expected)


def _largest(found: Matrix, expected: Matrix) -> float:
    return float(np.max(np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64))))
