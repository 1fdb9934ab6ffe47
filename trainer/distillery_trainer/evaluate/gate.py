"""Whether a run may be deployed: it reaches the filter's stated targets, and is not worse than what is deployed now.

A target counts as reached when the bound of the 95 % interval reaches it, not the value alone: with few test articles a
good value may be luck.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from distillery_runtime.spec.model import Targets
from distillery_trainer.certify.bounds import share_interval
from distillery_trainer.evaluate.evaluation import Evaluation
from distillery_trainer.evaluate.metrics import Decisions, Interval
from distillery_trainer.evaluate.parts import TOTAL


@dataclass(frozen=True, slots=True)
class Check:
    """One target: the student's value on the test articles, the bound of its 95 % interval, and what was asked.

    `value` and `bound` are None where the test articles do not tell. `at_most`: whether less is better.
    """

    name: str
    value: float | None
    bound: float | None
    target: float
    at_most: bool

    @property
    def met(self) -> bool:
        """Whether the bound reaches the target; what is not known does not."""
        if self.bound is None:
            return False
        return self.bound <= self.target if self.at_most else self.bound >= self.target

    def __str__(self) -> str:
        """The check as a line to read."""
        end, limit = ("upper", "at most") if self.at_most else ("lower", "at least")
        found = "not known" if self.value is None else f"{self.value:.3f}"
        bound = "no interval" if self.bound is None else f"{end} bound {self.bound:.3f}"
        return f"{self.name}: {found}, {bound}, expected {limit} {self.target:g}"


def check_targets(targets: Targets, evaluation: Evaluation) -> list[Check]:
    """One check for each target of a filter that is stated, on a run's evaluation."""
    return list(_checks(targets, evaluation))


def _checks(targets: Targets, evaluation: Evaluation) -> Iterator[Check]:
    student = evaluation.total.student
    if targets.mae is not None:
        yield Check("mae", student.mae, _high(student.intervals["mae"]), targets.mae, at_most=True)
    if targets.recall_operating is not None:
        decisions = student.finds
        low = _least_recall(decisions, student.intervals["recall"])
        yield Check("recall_operating", decisions.recall, low, targets.recall_operating, at_most=False)
    if targets.better_than_tfidf_ridge_by is not None:
        found = evaluation.differences[TOTAL].student_minus_tfidf_ridge.mae
        gain, sure = _negative(found.difference), _negative(_high(found.interval))
        yield Check("better_than_tfidf_ridge_by", gain, sure, targets.better_than_tfidf_ridge_by, at_most=False)


def _least_recall(decisions: Decisions, interval: Interval | None) -> float | None:
    """The lower of two bounds: the bootstrap's, and the exact one (Clopper and Pearson)."""
    if interval is None:
        return None
    found = share_interval(round(decisions.positives * (decisions.recall or 0)), decisions.positives, interval)
    return found[0] if found else None


def _high(interval: Interval | None) -> float | None:
    return interval[1] if interval else None


def _negative(value: float | None) -> float | None:
    return None if value is None else -value
