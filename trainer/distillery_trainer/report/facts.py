"""What a report tells of, read from a run's files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.calibration import Calibration
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.certify.calibration_file import read_calibration
from distillery_trainer.data.labels import LabelledSet
from distillery_trainer.data.predictions import Predictions, read_predictions
from distillery_trainer.report.learning import Lesson

Json = Mapping[str, Any]  # Any: nested JSON of known shape
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Facts:
    """A run, as far as its report tells of it; None where the run has no such thing.

    `titles`: whether it names articles by title, source and link.
    """

    spec: FilterSpec
    evaluation: Json
    certificate: Json
    history: Json | None
    calibration: Calibration
    predictions: Predictions
    labelled: LabelledSet | None
    lessons: tuple[Lesson, ...]
    seed: int
    titles: bool = True

    @cached_property
    def overall(self) -> tuple[Array, Array, Array]:
        """The overalls by labels, probe and student: (N,) each."""
        found = self.predictions
        return overalls(found.labels, self.spec), overalls(found.probe, self.spec), overalls(found.student, self.spec)


def read_facts(
    run: Path, spec: FilterSpec, labelled: LabelledSet | None, lessons: tuple[Lesson, ...], seed: int,
    titles: bool = True,
) -> Facts:  # fmt: skip
    """Reads an evaluated run. `labelled`: all its articles, where they are at hand; `lessons`: learning curves.

    Raises:
        InputError: `predictions.jsonl` is missing or not what it should be.
    """
    history = run / "student" / "training_history.json"
    return Facts(
        spec,
        _read(run / "eval.json"),
        _read(run / "certificate.json"),
        _read(history) if history.is_file() else None,
        read_calibration(run / "calibration.json"),
        read_predictions(run / "predictions.jsonl", spec.dimension_names),
        labelled,
        lessons,
        seed,
        titles,
    )


def _read(path: Path) -> Json:
    content: Json = json.loads(path.read_text(encoding="utf-8"))
    return content


def percent(share: float, decimals: int = 0) -> str:
    """A share as a percentage, which no line break divides."""
    return f"{100 * share:.{decimals}f}\u00a0%"


def in_words(name: str) -> str:
    """A dimension's, tier's or part's name as words."""
    return name.replace("_", " ").capitalize()
