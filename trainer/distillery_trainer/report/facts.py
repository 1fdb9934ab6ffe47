"""Facts of a run that its report shows, and how its pages write shares and names."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.selection import Selection
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.certify.read_out import StageReadOut
from distillery_trainer.data.labels import LabelledSet
from distillery_trainer.data.predictions import Predictions
from distillery_trainer.evaluate.evaluation import Evaluation
from distillery_trainer.evaluate.metrics import Interval

Json = Mapping[str, Any]  # Any: nested JSON of known shape
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Lesson:
    """A cheap model's test MAE after learning from more and more articles.

    `points`: (articles, MAE), ascending. `gain`: by how much the last doubling lowered the MAE, `interval` its 95 %
    interval by group bootstrap of the same test articles; None where it is not defined.
    """

    name: str
    points: tuple[tuple[int, float], ...]
    gain: float
    interval: Interval | None


@dataclass(frozen=True)
class Facts:
    """A run, as far as its report tells of it; None where the run has no such thing.

    `read_out`: the student's. `labelled`: all its articles. `lessons`: learning curves. `titles`: whether it names
    articles by title, source and link.
    """

    spec: FilterSpec
    evaluation: Evaluation
    certificate: Json
    history: Json | None
    read_out: StageReadOut
    selection: Selection
    predictions: Predictions
    labelled: LabelledSet | None
    lessons: tuple[Lesson, ...]
    seed: int
    titles: bool = True

    @cached_property
    def overall(self) -> tuple[Array, Array, Array]:
        """The overalls by labels, probe and student: (N,) each."""
        found = self.predictions
        labels = overalls(found.labels, self.spec)
        return labels, overalls(found.probe.scores, self.spec), overalls(found.student.scores, self.spec)


def percent(share: float, decimals: int = 0) -> str:
    """A share as a percentage, which no line break divides."""
    return f"{100 * share:.{decimals}f}\u00a0%"


def in_words(name: str) -> str:
    """A dimension's, tier's or part's name as words."""
    return name.replace("_", " ").capitalize()
