"""The chance that an article is a find, and routing by it: which articles a stage answers, which it hands on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHANCE_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class ChanceModel:
    """The chance that the oracle places an article at the operating tier or above, from a stage's answer.

    A logistic regression: 1 / (1 + exp(-(intercept + weights . values))). `values` are the rounded `expected` scores in
    the spec's dimension order and, for a model with a find head, its logit. In bundles of format 1 it is the chance
    that the next stage places the article there.
    """

    weights: tuple[float, ...]
    intercept: float

    def log_odds(self, values: Sequence[float]) -> float:
        """The logarithm of chance / (1 - chance)."""
        return self.intercept + sum(w * v for w, v in zip(self.weights, values, strict=True))

    def chance(self, values: Sequence[float]) -> float:
        """The chance in [0, 1]."""
        log_odds = self.log_odds(values)
        return 1 / (1 + math.exp(-log_odds)) if log_odds > 0 else 1 - 1 / (1 + math.exp(log_odds))

    def chances(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """The chances of many articles: (N, D) or (N, D + 1) values to (N,) in [0, 1], rounded as results show them."""
        rows = np.asarray(values, np.float64).round(4).tolist()
        return np.array([round(self.chance(row), CHANCE_DECIMALS) for row in rows], np.float64)


@dataclass(frozen=True, slots=True)
class Routing:
    """Where a stage answers: below `threshold`, which is a chance with a chance model and else an overall.

    None answers nothing. An article that the stage itself places at the operating tier or above, or selects, is handed
    on whatever its chance, so that no stage but the last reports a find.
    """

    threshold: float | None
    model: ChanceModel | None = None

    @property
    def answers(self) -> bool:
        """Whether any article can stop here: none is below no threshold, and none below 0."""
        return bool(self.threshold)

    def hands_on(self, chance: float, overall: float, operating_overall: float, selects_from: float = math.inf) -> bool:
        """Whether an article goes on to the next stage.

        Args:
            chance: by `model`; of no account without one.
            overall: what its scores make.
            operating_overall: where the operating tier begins.
            selects_from: the chance from which articles are selected, where they are selected by chance.
        """
        if self.threshold is None or self.model is None:
            return self.threshold is None or overall >= self.threshold
        return overall >= operating_overall or chance >= min(self.threshold, selects_from)
