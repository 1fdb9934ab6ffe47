"""How good predictions are: errors, rank correlation, decisions at the tiers, with intervals by group bootstrap."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from distillery_runtime.spec import FilterSpec
from distillery_runtime.verdict import overalls

Array = NDArray[np.float64]
Report = dict[str, object]
Statistic = Callable[[Array], float | None]

RESAMPLES = 1000
LEVEL = 0.95
DECIMALS = 6


def describe(predicted: NDArray[np.floating], labels: NDArray[np.floating], spec: FilterSpec) -> Report:
    """MAE, RMSE and Spearman, per dimension and of the overall.

    Args:
        predicted: (N, D) scores in [0, 10], calibrated. labels: (N, D) in [0, 10]. Columns in spec order.
    """
    said, true = np.asarray(predicted, np.float64), np.asarray(labels, np.float64)
    columns = {name: _errors(said[:, i], true[:, i]) for i, name in enumerate(spec.dimension_names)}
    return {
        "n": len(true),
        "mae": rounded(np.abs(said - true).mean()),
        "rmse": rounded(np.sqrt(((said - true) ** 2).mean())),
        "overall": _errors(overalls(said, spec), overalls(true, spec)),
        "dimensions": columns,
    }


def decisions(predicted: Array, labels: Array, thresholds: Mapping[str, float]) -> Report:
    """Precision, recall and F1 of overalls at each tier's threshold: (N,) predicted and (N,) labels."""
    report: Report = {}
    for tier, threshold in thresholds.items():
        said, true = predicted >= threshold, labels >= threshold
        hits = int(np.sum(said & true))
        precision = hits / int(said.sum()) if said.any() else None
        recall = hits / int(true.sum()) if true.any() else None
        f1 = 2 * hits / (int(said.sum()) + int(true.sum())) if said.any() or true.any() else None
        report[tier] = {
            "positives": int(true.sum()),
            "predicted": int(said.sum()),
            "precision": rounded(precision),
            "recall": rounded(recall),
            "f1": rounded(f1),
        }
    return report


def group_interval(
    statistic: Statistic, groups: Sequence[str], seed: int, resamples: int | None = None
) -> list[float] | None:
    """A percentile bootstrap interval at 95 %, resampling whole groups.

    Args:
        statistic: takes (N,) weights (how often each article is drawn) and gives a number, or None if undefined.
        groups: each article's group.
        resamples: how many; None is `RESAMPLES`.

    Returns:
        [low, high], or None when the statistic was undefined in most resamples.
    """
    _, places = np.unique(np.array(groups), return_inverse=True)
    count = int(places.max()) + 1
    generator, resamples = np.random.default_rng(seed), resamples or RESAMPLES
    draws = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    values = [value for draw in draws if (value := statistic(draw[places].astype(np.float64))) is not None]
    if len(values) < resamples / 2:
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [round(float(low), DECIMALS), round(float(high), DECIMALS)]


def weighted_mean(values: Array) -> Statistic:
    """The statistic for the mean of (N,) values under resampling."""
    return lambda weights: float(weights @ values / weights.sum()) if weights.sum() else None


def weighted_recall(predicted: Array, labels: Array, threshold: float) -> Statistic:
    """The statistic for recall at a threshold under resampling."""
    true = (labels >= threshold).astype(np.float64)
    hit = true * (predicted >= threshold)
    return lambda weights: float(weights @ hit / (weights @ true)) if weights @ true else None


def weighted_recall_difference(one: Array, other: Array, labels: Array, threshold: float) -> Statistic:
    """The statistic for the recall of `one` minus that of `other`, (N,) overalls each, under resampling."""
    true = (labels >= threshold).astype(np.float64)
    gain = true * ((one >= threshold).astype(np.float64) - (other >= threshold))
    return lambda weights: float(weights @ gain / (weights @ true)) if weights @ true else None


def weighted_spearman(a: Array, b: Array) -> Statistic:
    """The statistic for Spearman's rank correlation, ties averaged, under resampling."""
    rank_a, rank_b = _weighted_ranks(a), _weighted_ranks(b)

    def statistic(weights: Array) -> float | None:
        x, y, total = rank_a(weights), rank_b(weights), weights.sum()
        x, y = x - weights @ x / total, y - weights @ y / total
        spread = np.sqrt((weights @ x**2) * (weights @ y**2))
        return float(weights @ (x * y) / spread) if spread > 0 else None

    return statistic


def recall_at(predicted: Array, labels: Array, threshold: float, k: int) -> float | None:
    """The share of what is to be found that is among the k articles with the highest predictions.

    Articles tied at the last place share what is left of the k, so that their order does not matter. None where no
    label reaches the threshold.
    """
    true = labels >= threshold
    if not true.any():
        return None
    last = np.sort(predicted)[len(predicted) - k]
    above, tied = predicted > last, predicted == last
    hits = np.sum(true & above) + np.sum(true & tied) * (k - above.sum()) / tied.sum()
    return float(hits / true.sum())


def rounded(value: float | np.floating | None) -> float | None:
    """Six decimals, so that a report is the same bytes on every run; None stays None."""
    return None if value is None or not np.isfinite(value) else round(float(value), DECIMALS)


def _errors(predicted: Array, labels: Array) -> Report:
    return {
        "mae": rounded(np.abs(predicted - labels).mean()),
        "rmse": rounded(np.sqrt(((predicted - labels) ** 2).mean())),
        "bias": rounded((predicted - labels).mean()),
        "spearman": rounded(spearman(predicted, labels)),
    }


def spearman(a: Array, b: Array) -> float | None:
    """Spearman's rank correlation, ties averaged; None where one side is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def _weighted_ranks(values: Array) -> Callable[[Array], Array]:
    """Takes (N,) weights and gives the (N,) ranks that `values` have when each counts as often as its weight."""
    _, place = np.unique(values, return_inverse=True)

    def ranks(weights: Array) -> Array:
        counts = np.bincount(place, weights)
        middle: Array = (np.cumsum(counts) - counts / 2)[place]
        return middle

    return ranks
