"""The verdict: from scores to overall, tier and gatekeeper. The one place that decides, on every route."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.errors import ModelError
from distillery_runtime.spec.model import FilterSpec

DECIMALS = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the scores of one article mean.

    `overall` is in [0, 10], rounded to 4 decimals; `gatekeeper` names the dimension that capped it, if one did.
    """

    overall: float
    tier: str
    gatekeeper: str | None


def round_scores(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rounds scores to 4 decimals, as results show them and as `decide` reads them.

    Deciding on the rounded values means that a reader can recompute every verdict from a result.

    Raises:
        ModelError: a value is not finite or outside [0, 10].
    """
    values = np.asarray(scores, dtype=np.float64).round(DECIMALS)
    if not np.all((values >= 0) & (values <= 10)):
        raise ModelError("a score is not a number in [0, 10]")
    return values


def decide(scores: NDArray[np.floating], spec: FilterSpec) -> Verdict:
    """Decides one article.

    Args:
        scores: (D,) in [0, 10], columns in the spec's dimension order.

    Raises:
        ModelError: a value is not finite or outside [0, 10].
    """
    return VerdictRules(spec).decide(round_scores(scores).tolist())


def overalls(scores: NDArray[np.floating], spec: FilterSpec) -> NDArray[np.float64]:
    """The overall of many articles: (N, D) scores in [0, 10] to (N,) overalls, each as `decide` gives it."""
    rules = VerdictRules(spec)
    return np.array([rules.decide(row).overall for row in round_scores(scores).tolist()], dtype=np.float64)


class VerdictRules:
    """A spec's weights, gatekeepers and tiers, laid out to decide many articles.

    It works on plain floats: a few dimensions are added faster than numpy is called. Where the oracle answers in steps,
    a gatekeeper's limit lies half a step below the first answer that passes it: the oracle's own answers fall on the
    same sides as before, and a score on the side of the answer that it is nearest to.
    """

    def __init__(self, spec: FilterSpec) -> None:
        column = {name: index for index, name in enumerate(spec.dimension_names)}
        self._weights = [dimension.weight for dimension in spec.dimensions]
        step = spec.oracle.step
        self._gates = [(column[gate.dimension], gate_limit(gate.below, step), gate) for gate in spec.gatekeepers]
        self._tiers = [(tier.min_overall, tier.name) for tier in spec.tiers]

    def decide(self, values: Sequence[float]) -> Verdict:
        """Decides one article.

        Args:
            values: (D,) as `round_scores` gives them, in the spec's dimension order.
        """
        overall = self.weighted_mean(values)
        fired = None
        for index, limit, gate in self._gates:
            if values[index] < limit and overall > gate.overall_cap:
                overall, fired = gate.overall_cap, gate.dimension
        overall = min(overall, 10.0)
        tier = next(name for start, name in self._tiers if overall >= start)
        return Verdict(overall, tier, fired)

    def weighted_mean(self, values: Sequence[float]) -> float:
        """The mean of (D,) rounded scores by the dimensions' weights, before any gatekeeper, to 4 decimals."""
        weighted = (weight * value for weight, value in zip(self._weights, values, strict=True))
        return round(sum(weighted), DECIMALS)


def gate_limit(below: float, step: float | None) -> float:
    """Where a gatekeeper's limit lies for an oracle that answers in steps; `below` itself for one that does not."""
    return below if step is None else (math.ceil(below / step - _ROUNDING) - 0.5) * step


_ROUNDING = 1e-9
