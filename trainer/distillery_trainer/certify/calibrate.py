"""Fitting calibration maps: per dimension identity, affine, isotonic or centred isotonic, chosen on held-out folds.

A second map takes the calibrated mean to the steps in which the oracle answers.

A map other than identity is accepted only where a paired bootstrap over near-duplicate groups says that its
cross-fitted absolute error is lower (95 %, one-sided), and replaces a simpler one only where `selection` says that it
is better. In-sample gains of isotonic maps are no evidence.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from distillery_runtime.spec.calibration import Calibration, CalibrationMap, identity
from distillery_trainer.models.selection import is_better

Array = NDArray[np.float64]
Fit = Callable[[str, Array, Array], CalibrationMap]

FOLDS = 5
RESAMPLES = 1000
LEVEL = 0.95

# A step of a map turns the small differences between two forms of a model (int8 and fp32, say) into another verdict.
MAX_SLOPE = 3.0
_GRID = 201


def fit_calibration(
    raw: NDArray[np.floating], labels: NDArray[np.floating], groups: Sequence[str], dimensions: Sequence[str], seed: int
) -> Calibration:
    """Chooses and fits each dimension's map.

    Args:
        raw: (N, D) a model's raw outputs on articles it was not trained on. labels: (N, D) in [0, 10].
        groups: each article's near-duplicate group; a group is never on both sides of a fold.
    """
    said, true = np.asarray(raw, np.float64), np.asarray(labels, np.float64)
    _, group_of = np.unique(np.array(groups), return_inverse=True)
    maps = [
        _choose(name, said[:, i], true[:, i], group_of, np.random.default_rng([seed, i]))
        for i, name in enumerate(dimensions)
    ]
    return Calibration(tuple(maps))


def fit_steps(
    expected: NDArray[np.floating],
    labels: NDArray[np.floating],
    groups: Sequence[str],
    dimensions: Sequence[str],
    step: float | None,
    seed: int,
) -> Calibration:
    """Chooses each dimension's map from its mean to the oracle's steps: the median label at each mean, or identity.

    The absolute error of a mean is larger than that of the median, and a mean between two answers is an answer that the
    oracle never gives. The map rises from one step to the next where half of the labels are at or above it, no faster
    than `MAX_SLOPE`, and is accepted where the same paired test as for other maps says that its error is lower.

    Args:
        expected: (N, D) calibrated means in [0, 10] on articles that the model was not trained on.
        labels: (N, D) in [0, 10].
        groups: each article's near-duplicate group.
        dimensions: their D names.
        step: the distance between the oracle's answers, None where they are not in steps: then all maps are identity.
        seed: of the folds and the test.
    """
    if step is None:
        return identity(dimensions)
    said, true = np.asarray(expected, np.float64), np.asarray(labels, np.float64)
    _, group_of = np.unique(np.array(groups), return_inverse=True)

    def fit(name: str, raw: Array, own: Array) -> CalibrationMap:
        return _fit_step_median(name, raw, own, step)

    maps = [
        _choose(name, said[:, i], true[:, i], group_of, np.random.default_rng([seed, 1, i]), (fit,))
        for i, name in enumerate(dimensions)
    ]
    return Calibration(tuple(maps))


def _choose(
    name: str,
    raw: Array,
    labels: Array,
    groups: NDArray[np.intp],
    generator: np.random.Generator,
    fits: Sequence[Fit] | None = None,
) -> CalibrationMap:
    base = identity([name]).maps[0]
    folds = generator.permutation(groups.max() + 1)[groups] % FOLDS
    if len(np.unique(folds)) < 2:
        return base
    base_errors = np.abs(_apply(base, raw) - labels)
    best, best_errors = base, base_errors
    for fit in fits or (_fit_affine, _fit_isotonic, _fit_centred):
        errors = _cross_fitted_errors(fit, name, raw, labels, folds)
        if is_better(errors, best_errors) and _surely_lower(errors - base_errors, groups, generator):
            best, best_errors = fit(name, raw, labels), errors
    return best


def _cross_fitted_errors(fit: Fit, name: str, raw: Array, labels: Array, folds: NDArray[np.intp]) -> Array:
    errors = np.zeros_like(raw)
    for fold in np.unique(folds):
        held = folds == fold
        errors[held] = np.abs(_apply(fit(name, raw[~held], labels[~held]), raw[held]) - labels[held])
    return errors


def _surely_lower(differences: Array, groups: NDArray[np.intp], generator: np.random.Generator) -> bool:
    """Whether the mean difference is below zero in at least 95 % of resamples of whole groups."""
    sums = np.bincount(groups, weights=differences)
    draws = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=RESAMPLES)
    return bool(np.mean(draws @ sums < 0) >= LEVEL)


def _fit_affine(name: str, raw: Array, labels: Array) -> CalibrationMap:
    """Least squares a * raw + b with a >= 0, as the knots where it leaves [0, 10]."""
    spread = raw.var()
    slope = max(float(np.cov(raw, labels, bias=True)[0, 1] / spread), 0.0) if spread > 0 else 0.0
    offset = float(labels.mean() - slope * raw.mean())
    if slope < 1e-6:
        level = float(np.clip(labels.mean(), 0, 10))
        return CalibrationMap(dimension=name, method="affine", x=(float(raw.mean()),), y=(level,))
    return CalibrationMap(dimension=name, method="affine", x=(-offset / slope, (10 - offset) / slope), y=(0.0, 10.0))


def _fit_isotonic(name: str, raw: Array, labels: Array) -> CalibrationMap:
    """Isotonic regression (pool adjacent violators), its steps joined by lines as `numpy.interp` reads them."""
    model = IsotonicRegression(y_min=0.0, y_max=10.0, out_of_bounds="clip").fit(raw, labels)
    y = np.maximum.accumulate(np.clip(model.y_thresholds_, 0, 10))
    x, y = cap_slope(model.X_thresholds_, y)
    return CalibrationMap(dimension=name, method="isotonic", x=tuple(x.tolist()), y=tuple(y.tolist()))


def _fit_centred(name: str, raw: Array, labels: Array) -> CalibrationMap:
    """Centred isotonic regression: each flat piece becomes one point at its articles' mean raw output.

    Between the points the map rises throughout, where an isotonic map has steps and plateaus: unequal articles keep
    unequal scores (Oron & Flournoy, "Centered isotonic regression", Statistics in Biopharmaceutical Research 2017).
    """
    order = np.argsort(raw, kind="stable")
    fitted = IsotonicRegression(y_min=0.0, y_max=10.0).fit_transform(raw, labels)[order]
    levels, pieces = np.unique(fitted, return_inverse=True)
    centres = np.bincount(pieces, weights=raw[order]) / np.bincount(pieces)
    x, y = cap_slope(centres, np.clip(levels, 0, 10))
    return CalibrationMap(dimension=name, method="centred_isotonic", x=tuple(x.tolist()), y=tuple(y.tolist()))


def _fit_step_median(name: str, expected: Array, labels: Array, step: float) -> CalibrationMap:
    """The median label at each mean, in steps: a step is reached where isotonic regression of "at or above" passes 1/2.

    The indicators of higher steps are nowhere larger, and so are their isotonic fits: steps are reached in order.
    """
    rounded = np.rint(labels / step).astype(np.int64)
    level = int(rounded.min())
    x, y = [min(0.0, float(expected.min()))], [level * step]
    for above in range(level + 1, int(rounded.max()) + 1):
        model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(expected, rounded >= above)
        reached = np.flatnonzero(model.y_thresholds_ >= 0.5)
        if not len(reached):
            break
        last = int(reached[0])
        if last == 0:  # half of the labels are there from the first mean on
            y[0] = above * step
            continue
        knots = model.X_thresholds_
        at = float((knots[last - 1] + knots[last]) / 2)
        x += [max(at, x[-1])] * 2
        y += [y[-1], above * step]
    x.append(max(10.0, x[-1]))
    y.append(y[-1])
    knots_x, knots_y = cap_slope(np.array(x), np.clip(np.array(y), 0, 10))
    return CalibrationMap(dimension=name, method="step_median", x=tuple(knots_x.tolist()), y=tuple(knots_y.tolist()))


def cap_slope(x: Array, y: Array, most: float = MAX_SLOPE) -> tuple[Array, Array]:
    """Flattens steps: a map's knots become those of a map that nowhere rises faster than `most`.

    It is the mean of the map's two Lipschitz envelopes (McShane 1934), the smallest such map above it and the largest
    below it, on a grid of 201 points and the knots. Where a map already keeps to the limit it stays as it is.

    Args:
        x: (K,) float64, rising knots.
        y: (K,) float64, never falling.
        most: score points for each raw point.
    """
    if not np.any(np.diff(y) > most * np.diff(x)):
        return x, y
    reach = (y[-1] - y[0]) / most
    points = np.union1d(x, np.linspace(x[0] - reach, x[-1] + reach, _GRID))
    values = np.interp(points, x, y)
    above = np.maximum.accumulate((values - most * points)[::-1])[::-1] + most * points
    below = np.minimum.accumulate(values - most * points) + most * points
    return points, np.maximum.accumulate((above + below) / 2)


def _apply(calibration: CalibrationMap, raw: Array) -> Array:
    return np.interp(raw, calibration.x, calibration.y)
