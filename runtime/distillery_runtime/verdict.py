"""The verdict: from scores to overall, tier and gatekeeper. The one place that decides, on every route."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.errors import ModelError
from distillery_runtime.spec import FilterSpec

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
    values = round_scores(scores)
    overall = round(float(sum(d.weight * v for d, v in zip(spec.dimensions, values.tolist(), strict=True))), DECIMALS)
    fired = None
    for gatekeeper in spec.gatekeepers:
        low = values[spec.dimension_names.index(gatekeeper.dimension)] < gatekeeper.below
        if low and overall > gatekeeper.overall_cap:
            overall, fired = gatekeeper.overall_cap, gatekeeper.dimension
    overall = min(overall, 10.0)
    tier = next(tier.name for tier in spec.tiers if overall >= tier.min_overall)
    return Verdict(overall, tier, fired)


def overalls(scores: NDArray[np.floating], spec: FilterSpec) -> NDArray[np.float64]:
    """The overall of many articles: (N, D) scores in [0, 10] to (N,) overalls, each as `decide` gives it."""
    return np.array([decide(row, spec).overall for row in scores], dtype=np.float64)
