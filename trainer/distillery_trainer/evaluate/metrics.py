"""How good predictions are: errors, rank correlation, decisions at the tiers, with intervals by group bootstrap."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import overalls

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Report = dict[str, object]
Interval = tuple[float, float]  # low and high
Statistic = Callable[[Array], Array]  # takes weights (..., N) and gives values (...), NaN where undefined

RESAMPLES = 1000
BLOCK = 2**17  # weights that are held at once, which a cache has room for
NO_SPREAD = 1e-6  # the least by which ranks that differ do is far above
LEVEL = 0.95
DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of one dimension or of the overall. `bias`: mean of prediction minus label."""

    mae: float
    rmse: float
    bias: float
    spearman: float | None


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Errors on `n` articles: over all dimensions alike (`mae`, `rmse`), of the overall, and of each dimension."""

    n: int
    mae: float
    rmse: float
    overall: Errors
    dimensions: Mapping[str, Errors]


@dataclass(frozen=True, slots=True)
class Decisions:
    """Decisions at a tier, or by selection. `positives`: articles to be found; `predicted`: articles selected."""

    positives: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


def describe(predicted: NDArray[np.floating], labels: NDArray[np.floating], spec: FilterSpec) -> Accuracy:
    """MAE, RMSE and Spearman, per dimension and of the overall.

    Args:
        predicted: (N, D) scores in [0, 10].
        labels: (N, D) in [0, 10]. Columns in spec order.
        spec: the filter's.
    """
    said, true = np.asarray(predicted, np.float64), np.asarray(labels, np.float64)
    columns = {name: _errors(said[:, i], true[:, i]) for i, name in enumerate(spec.dimension_names)}
    return Accuracy(
        n=len(true),
        mae=fixed(np.abs(said - true).mean()),
        rmse=fixed(np.sqrt(((said - true) ** 2).mean())),
        overall=_errors(overalls(said, spec), overalls(true, spec)),
        dimensions=columns,
    )


def decisions(predicted: Array, labels: Array, thresholds: Mapping[str, float]) -> dict[str, Decisions]:
    """Precision, recall and F1 of overalls at each tier's threshold: (N,) predicted and (N,) labels."""
    return {tier: decided(predicted >= at, labels >= at) for tier, at in thresholds.items()}


def decided(selected: Mask, true: Mask) -> Decisions:
    """Precision, recall and F1 of (N,) selected articles, of which (N,) are to be found."""
    hits, predicted, positives = int(np.sum(selected & true)), int(selected.sum()), int(true.sum())
    return Decisions(
        positives=positives,
        predicted=predicted,
        precision=rounded(hits / predicted if predicted else None),
        recall=rounded(hits / positives if positives else None),
        f1=rounded(2 * hits / (predicted + positives) if predicted + positives else None),
    )


def group_interval(
    statistic: Statistic, groups: Sequence[str], seed: int, resamples: int | None = None
) -> Interval | None:
    """A percentile bootstrap interval at 95 %, resampling whole groups.

    Args:
        statistic: takes (R, N) weights (how often each article is drawn) and gives (R,) numbers, NaN if undefined.
        groups: each article's group.
        resamples: how many; None is `RESAMPLES`.

    Returns:
        Low and high, or None when the statistic was undefined in most resamples.
    """
    _, places = np.unique(np.array(groups), return_inverse=True)
    count = int(places.max()) + 1
    generator, resamples = np.random.default_rng(seed), resamples or RESAMPLES
    draws = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    blocks = np.array_split(draws, -(-resamples * len(places) // BLOCK))
    values = np.concatenate([statistic(block[:, places].astype(np.float64)) for block in blocks])
    values = values[~np.isnan(values)]
    if len(values) < resamples / 2:
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return fixed(low), fixed(high)


def once(statistic: Statistic, count: int) -> float | None:
    """The statistic of `count` articles as they are; None where it is undefined."""
    value = float(statistic(np.ones(count)))
    return None if np.isnan(value) else value


def weighted_mean(values: Array) -> Statistic:
    """The statistic for the mean of (N,) values under resampling."""
    return lambda weights: ratio(weights @ values, weights.sum(axis=-1))


def weighted_recall(selected: Mask, true: Mask) -> Statistic:
    """The statistic for recall under resampling: (N,) selected articles and (N,) those to be found."""
    hit = (true & selected).astype(np.float64)
    return lambda weights: ratio(weights @ hit, weights @ true.astype(np.float64))


def weighted_precision(selected: Mask, true: Mask) -> Statistic:
    """The statistic for precision under resampling; arguments as in `weighted_recall`."""
    return weighted_recall(true, selected)


def weighted_f1(selected: Mask, true: Mask) -> Statistic:
    """The statistic for F1 under resampling; arguments as in `weighted_recall`."""
    hit = 2 * (true & selected).astype(np.float64)
    both = true.astype(np.float64) + selected
    return lambda weights: ratio(weights @ hit, weights @ both)


def weighted_average_precision(ranking: Array, true: Mask) -> Statistic:
    """The statistic for average precision under resampling: (N,) values that rank, ties as one place."""
    order = np.argsort(-ranking, kind="stable")
    hits, last = true[order].astype(np.float64), np.append(np.diff(ranking[order]) != 0, True)

    def statistic(weights: Array) -> Array:
        own = weights[..., order]
        found, total = np.cumsum(own * hits, axis=-1)[..., last], np.cumsum(own, axis=-1)[..., last]
        gained = np.diff(found, axis=-1, prepend=0)
        precision = np.divide(found, total, out=np.zeros_like(found), where=total > 0)
        return ratio((gained * precision).sum(axis=-1), found[..., -1])

    return statistic


def slope(predicted: Array, labels: Array) -> float | None:
    """The slope of (N,) predictions on (N,) labels by least squares: 1 where they spread alike; None without spread."""
    spread = float(np.var(labels))
    return float(np.cov(predicted, labels, bias=True)[0, 1] / spread) if spread > NO_SPREAD else None


def weighted_recall_difference(one: Mask, other: Mask, true: Mask) -> Statistic:
    """The statistic for the recall of `one` minus that of `other`, (N,) selected articles each, under resampling."""
    gain = true * (one.astype(np.float64) - other)
    return lambda weights: ratio(weights @ gain, weights @ true.astype(np.float64))


def weighted_spearman(a: Array, b: Array) -> Statistic:
    """The statistic for Spearman's rank correlation, ties averaged, under resampling."""
    rank_a, rank_b = _weighted_ranks(a), _weighted_ranks(b)

    def statistic(weights: Array) -> Array:
        x, y = centred(rank_a(weights), weights), centred(rank_b(weights), weights)
        spread = np.sqrt((weights * x**2).sum(axis=-1) * (weights * y**2).sum(axis=-1))
        return ratio((weights * x * y).sum(axis=-1), np.where(spread > NO_SPREAD, spread, 0))

    return statistic


def ratio(top: Array, bottom: Array) -> Array:
    """`top` over `bottom`, (...) each; NaN where `bottom` is not above 0."""
    quotient: Array = np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)
    return quotient


def centred(values: Array, weights: Array) -> Array:
    """Values (..., N) less their mean by weights (..., N)."""
    mean: Array = ratio((weights * values).sum(axis=-1), weights.sum(axis=-1))
    return values - mean[..., None]


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
    return None if value is None or not np.isfinite(value) else fixed(value)


def fixed(value: float | np.floating) -> float:
    """Six decimals of a number that is known to be finite."""
    return round(float(value), DECIMALS)


def _errors(predicted: Array, labels: Array) -> Errors:
    return Errors(
        mae=fixed(np.abs(predicted - labels).mean()),
        rmse=fixed(np.sqrt(((predicted - labels) ** 2).mean())),
        bias=fixed((predicted - labels).mean()),
        spearman=rounded(spearman(predicted, labels)),
    )


def spearman(a: Array, b: Array) -> float | None:
    """Spearman's rank correlation, ties averaged; None where one side is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def _weighted_ranks(values: Array) -> Callable[[Array], Array]:
    """Takes weights (..., N), gives the ranks (..., N) that `values` have when each counts as often as its weight."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    order, last = np.argsort(place, kind="stable"), np.cumsum(counts) - 1

    def ranks(weights: Array) -> Array:
        upto = np.cumsum(weights[..., order], axis=-1)[..., last]
        middle: Array = (upto - np.diff(upto, prepend=0, axis=-1) / 2)[..., place]
        return middle

    return ranks
