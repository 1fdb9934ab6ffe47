"""Routing: which articles a stage answers by itself, and which it hands on to the next."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import VerdictRules, round_scores


@dataclass(frozen=True, slots=True)
class Router:
    """The chance that the next stage places an article at the operating tier or above, told from this stage's scores.

    A logistic regression: 1 / (1 + exp(-(intercept + weights . scores))), `weights` in the spec's dimension order.
    """

    weights: tuple[float, ...]
    intercept: float

    def log_odds(self, values: Sequence[float]) -> float:
        """The logarithm of chance / (1 - chance) for rounded scores: (D,) in [0, 10]."""
        return self.intercept + sum(w * v for w, v in zip(self.weights, values, strict=True))

    def chance(self, values: Sequence[float]) -> float:
        """The chance in [0, 1] for rounded scores: (D,) in [0, 10]."""
        log_odds = self.log_odds(values)
        return 1 / (1 + math.exp(-log_odds)) if log_odds > 0 else 1 - 1 / (1 + math.exp(log_odds))


@dataclass(frozen=True, slots=True)
class Routing:
    """Where a stage answers: below `threshold`, which is a chance with a router and else an overall.

    None answers nothing. An article that the stage itself places at the operating tier or above is handed on whatever
    its chance, so that no stage but the last announces a find.
    """

    threshold: float | None
    router: Router | None = None

    @property
    def answers(self) -> bool:
        """Whether any article can stop here: none is below no threshold, and none below 0."""
        return bool(self.threshold)

    def hands_on(self, values: Sequence[float], overall: float, operating_overall: float) -> bool:
        """Whether an article goes on to the next stage: (D,) rounded scores and what they make as an overall."""
        if self.threshold is None or (self.router and overall >= operating_overall):
            return True
        return (self.router.chance(values) if self.router else overall) >= self.threshold

    def margin(self, values: Sequence[float], overall: float) -> float:
        """By how many points, at least, the scores (or without a router the overall) lie from where they change sides.

        Infinite where nothing changes sides. The operating tier, at which an article changes sides too, is not counted.
        """
        if self.threshold is None:
            return math.inf
        if self.router is None:
            return abs(overall - self.threshold)
        slope = sum(map(abs, self.router.weights))
        return (
            abs(self.router.log_odds(values) - math.log(self.threshold / (1 - self.threshold))) / slope
            if slope
            else math.inf
        )


def handed_on(scores: NDArray[np.floating], routing: Routing, spec: FilterSpec) -> NDArray[np.bool_]:
    """Which of many articles go on to the next stage: (N, D) scores in [0, 10] to (N,) bool."""
    rules, operating = VerdictRules(spec), spec.operating_overall
    rows = round_scores(scores).tolist()
    return np.array([routing.hands_on(row, rules.decide(row).overall, operating) for row in rows], bool)


def chances(scores: NDArray[np.floating], router: Router, spec: FilterSpec) -> NDArray[np.float64]:
    """What a threshold is compared with: (N, D) scores in [0, 10] to (N,) in [0, 1].

    1 for an article at the operating tier or above: it is handed on whatever the threshold.
    """
    rules, operating = VerdictRules(spec), spec.operating_overall
    rows = round_scores(scores).tolist()
    found = [rules.decide(row).overall >= operating or router.chance(row) for row in rows]
    return np.array(found, np.float64)
