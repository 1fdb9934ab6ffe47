"""Upper bounds on a miss rate, and how many positives they take.

Equally likely draws: the exact one-sided binomial bound (Clopper and Pearson, "The use of confidence or fiducial
limits", Biometrika 1934). Draws of unequal probability, weighted back: a bet against each candidate rate, whose wealth
cannot grow if that rate is true (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
JRSS B 2024).
"""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import beta, binom

MOST_PLANNED = 100_000
_STAKES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])
_FINEST = 1e-9  # no rate nearer to 0 or 1 is tried
_PRECISION = 1e-7
_SIDE = 0.975  # of each side of an interval at 95 %


@functools.cache
def upper_bound(misses: int, positives: int, confidence: float) -> float:
    """The one-sided Clopper-Pearson bound on a rate; 1 when nothing was seen."""
    if misses >= positives:
        return 1.0
    return float(beta.ppf(confidence, misses + 1, positives - misses))


def share_interval(count: int, total: int, resampled: Sequence[float] | None = None) -> tuple[float, float] | None:
    """The two-sided 95 % interval of a share: the exact one, which knows how few there are, and no narrower.

    Where all of three articles were found, resampling them gives an interval without width.

    Args:
        count: of `total`; None is returned where that is 0.
        resampled: the bootstrap's interval, which knows near-duplicates; the wider end of the two counts.
    """
    if not total:
        return None
    exact = 1 - upper_bound(total - count, total, _SIDE), upper_bound(count, total, _SIDE)
    return (min(exact[0], resampled[0]), max(exact[1], resampled[1])) if resampled else exact


def weighted_upper_bound(
    missed: NDArray[np.bool_], weights: NDArray[np.floating], most: float, confidence: float
) -> float:
    """An upper bound on the miss rate of the articles that were drawn from; valid for any number of positives.

    Against a rate u, a bet stakes the share s on every positive: its wealth is the product of 1 + s v u / (1 - u) for
    a hit and 1 - s v for a miss, where v = weight / `most`. If the rate is u or higher no factor is above 1 in the
    mean, so that the wealth, or the mean of it over several s, reaches 1 / (1 - confidence) with probability
    1 - confidence at most (Markov). The bound is the lowest u against which the bet wins.

    Args:
        missed: (P,) of each positive, whether it was missed.
        weights: (P,) float, above 0: one over the probability with which an article like this was drawn.
        most: the highest weight that any article of the population has.
        confidence: of the bound, in (0.5, 1).
    """
    if not len(missed) or np.all(missed):
        return 1.0
    shares = np.asarray(weights, np.float64) / most
    hits, counts = np.unique(shares[~missed], return_counts=True)
    with np.errstate(divide="ignore"):  # a whole stake on a miss of full weight is lost: log 0
        lost = np.log1p(-np.outer(_STAKES, shares[missed])).sum(axis=1)

    def lacking(rate: float) -> float:
        wealth = lost + np.log1p(rate / (1 - rate) * np.outer(_STAKES, hits)) @ counts
        top = wealth.max()
        return math.log(1 / (1 - confidence)) - float(top + np.log(np.mean(np.exp(wealth - top))))

    return 1.0 if lacking(1 - _FINEST) > 0 else float(brentq(lacking, _FINEST, 1 - _FINEST, xtol=_PRECISION))


def positives_needed(target_miss_rate: float, confidence: float) -> int:
    """How many positives without a single miss certify the target: 59 for 5 % at 95 %."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - target_miss_rate))


def positives_planned(target_miss_rate: float, confidence: float, miss_rate: float, power: float = 0.8) -> int | None:
    """How many positives certify the target with probability `power` if the true miss rate is `miss_rate`.

    None where the true rate is too near the target, or above it: then more than 100,000, or no number, suffices.
    """
    if miss_rate >= target_miss_rate:
        return None

    def suffices(misses: int) -> bool:
        count = _enough(misses, target_miss_rate, confidence)
        return count > MOST_PLANNED or float(binom.cdf(misses, count, miss_rate)) >= power

    count = _enough(_first(suffices), target_miss_rate, confidence)
    return count if count <= MOST_PLANNED else None


@functools.cache
def _enough(misses: int, rate: float, confidence: float) -> int:
    """The fewest positives of which so many may be missed for a bound of `rate` or less."""
    return _first(lambda count: count > misses and float(binom.cdf(misses, count, rate)) <= 1 - confidence)


def _first(holds: Callable[[int], bool]) -> int:
    """The lowest number from 0 for which a condition holds that, once it holds, holds for all higher ones."""
    high = 0
    while not holds(high):
        high = 2 * high + 1
    low = (high - 1) // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
