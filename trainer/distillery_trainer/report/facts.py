"""What a report tells of, read from a run's files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.calibration import Calibration
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec import FilterSpec
from distillery_runtime.verdict import overalls
from distillery_trainer.calibration_file import read_calibration
from distillery_trainer.labels import LabelledSet
from distillery_trainer.report.learning import Lesson

Json = Mapping[str, Any]  # Any: nested JSON of known shape
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What both stages said of each test article, beside its labels.

    `tokens`: (N,) int. `truncated`: (N,) bool. `labels`, `probe`, `student`: (N, D) float64 in [0, 10], calibrated,
    columns in the spec's order. `raw`: (N, D) float64, the student's before calibration.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    tokens: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    labels: Array
    probe: Array
    student: Array
    raw: Array


@dataclass(frozen=True)
class Facts:
    """A run, as far as its report tells of it; None where the run has no such thing."""

    spec: FilterSpec
    evaluation: Json
    certificate: Json
    history: Json | None
    calibration: Calibration
    predictions: Predictions | None
    labelled: LabelledSet | None
    lessons: tuple[Lesson, ...]
    seed: int

    @cached_property
    def overall(self) -> tuple[Array, Array, Array]:
        """The overalls by labels, probe and student: (N,) each. Only where there are predictions."""
        found = self.predictions
        if found is None:
            raise AssertionError
        return overalls(found.labels, self.spec), overalls(found.probe, self.spec), overalls(found.student, self.spec)


def read_facts(
    run: Path, spec: FilterSpec, labelled: LabelledSet | None, lessons: tuple[Lesson, ...], seed: int
) -> Facts:
    """Reads an evaluated run. `labelled`: all its articles, where they are at hand; `lessons`: learning curves.

    Raises:
        InputError: `predictions.jsonl` is not what it should be.
    """
    history = run / "student" / "training_history.json"
    return Facts(
        spec,
        _read(run / "eval.json"),
        _read(run / "certificate.json"),
        _read(history) if history.is_file() else None,
        read_calibration(run / "calibration.json"),
        read_predictions(run, spec),
        labelled,
        lessons,
        seed,
    )


def read_predictions(run: Path, spec: FilterSpec) -> Predictions | None:
    """Reads `predictions.jsonl`; None where the run has none.

    Raises:
        InputError: a line lacks a field, or a value is no score.
    """
    path = run / "predictions.jsonl"
    if not path.is_file():
        return None
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        columns = {key: _columns(rows, key, spec) for key in ("labels", "probe", "student", "student_raw")}
        return Predictions(
            tuple(str(row["id"]) for row in rows),
            tuple(str(row["group"]) for row in rows),
            np.array([row["tokens"] for row in rows], dtype=np.int64),
            np.array([row["truncated"] for row in rows], dtype=np.bool_),
            columns["labels"],
            columns["probe"],
            columns["student"],
            columns["student_raw"],
        )
    except (ValueError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise InputError("trainer report", [Problem(str(path), found, "the predictions that a fit writes")]) from error


def _columns(rows: list[Json], key: str, spec: FilterSpec) -> Array:
    values = np.array([[row[key][name] for name in spec.dimension_names] for row in rows], dtype=np.float64)
    values = values.reshape(len(rows), len(spec.dimensions))
    if not np.all(np.isfinite(values)):
        raise ValueError(f"{key}: a value that is not finite")
    return values


def _read(path: Path) -> Json:
    content: Json = json.loads(path.read_text(encoding="utf-8"))
    return content


def percent(share: float, decimals: int = 0) -> str:
    """A share as a percentage, which no line break divides."""
    return f"{100 * share:.{decimals}f}\u00a0%"


def in_words(name: str) -> str:
    """A dimension's, tier's or part's name as words."""
    return name.replace("_", " ").capitalize()
