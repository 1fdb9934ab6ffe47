"""A stage's read-out: from raw outputs to `expected`, `scores` and the chance that an article is a find."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.calibration import Calibration, CalibrationMap, ReadOut
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.routing import ChanceModel
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.certify.calibrate import fit_calibration, fit_steps
from distillery_trainer.data.predictions import MAKE_AGAIN, Answers, rounded_scores
from distillery_trainer.store.files import read_json, write_json

LEAST_OF_EACH = 5
STRENGTH = 1.0  # of the L2 penalty, as its inverse, on features of unit variance
VERSION = 2

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StageReadOut:
    """How a stage's raw outputs are read: the maps of both read-outs, and the chance model on the means."""

    maps: ReadOut
    chance: ChanceModel

    def answers(self, raw: NDArray[np.floating]) -> Answers:
        """Reads raw outputs, (N, D) or (N, D + 1) with a find head's logit, as the runtime does."""
        expected, scores = (rounded_scores(part) for part in self.maps.apply(raw))
        find = rounded_scores(np.asarray(raw)[:, expected.shape[1] :])
        return Answers(expected, scores, self.chance.chances(np.concatenate([expected, find], axis=1)))


@dataclass(frozen=True, slots=True)
class HeldOutRaw:
    """Raw outputs on N articles that the model was not fitted on, with the oracle's labels.

    `raw`: (N, D), or (N, D + 1) with a find head's logit. `labels`: (N, D) in [0, 10]. `groups`: near-duplicates.
    """

    raw: NDArray[np.floating]
    labels: NDArray[np.floating]
    groups: Sequence[str]

    def select(self, chosen: NDArray[np.bool_]) -> "HeldOutRaw":
        """The articles of a mask."""
        groups = [group for group, is_chosen in zip(self.groups, chosen, strict=True) if is_chosen]
        return HeldOutRaw(self.raw[chosen], self.labels[chosen], groups)


def fit_read_out(held_out: HeldOutRaw, spec: FilterSpec, seed: int) -> StageReadOut:
    """Fits both maps and the chance model on the same held-out articles."""
    names, count = spec.dimension_names, len(spec.dimensions)
    means = fit_calibration(held_out.raw[:, :count], held_out.labels, held_out.groups, names, seed)
    expected = means.apply(held_out.raw[:, :count])
    steps = fit_steps(expected, held_out.labels, held_out.groups, names, spec.oracle.step, seed)
    positive = overalls(held_out.labels, spec) >= spec.operating_overall
    chance = fit_chance(rounded_scores(expected), rounded_scores(held_out.raw[:, count:]), positive, spec)
    return StageReadOut(ReadOut(means, steps), chance)


def joined(parts: Sequence[tuple[NDArray[np.bool_], Answers]]) -> Answers:
    """Answers put together from those of disjoint masks that cover all articles."""
    first = parts[0][1]
    shape = len(parts[0][0]), first.scores.shape[1]
    expected, scores, chance = np.zeros(shape), np.zeros(shape), np.zeros(shape[0])
    for mask, own in parts:
        expected[mask], scores[mask], chance[mask] = own.expected, own.scores, own.chance
    return Answers(expected, scores, chance)


def fit_chance(expected: Array, find: Array, positive: NDArray[np.bool_], spec: FilterSpec) -> ChanceModel:
    """Fits the chance of a find by logistic regression (L2, C = 1) on one feature of unit variance.

    It is a find head's logit, or the weighted mean of `expected` for a model without one. Finds are few: beside the
    logit the mean ranked no better on e5 and worse on a static table, and a weight for each dimension worse on both.
    A chance never falls as its feature rises. With fewer than 5 articles of either kind it rises with the weighted mean
    and is one half at the operating tier.

    Args:
        expected: (N, D) rounded means of articles that the model was not fitted on.
        find: (N, 0) or (N, 1), a find head's rounded logits.
        positive: (N,) whether the oracle places each at the operating tier or above.
        spec: the filter's.
    """
    weights = np.array([dimension.weight for dimension in spec.dimensions])
    if min(int(positive.sum()), int((~positive).sum())) < LEAST_OF_EACH:
        return _chance(1.0, weights, [0.0] * find.shape[1], -spec.operating_overall)
    feature = find[:, 0] if find.shape[1] else expected @ weights
    slope, intercept = _fit_logistic(feature, positive)
    if find.shape[1]:
        return _chance(0.0, weights, [slope], intercept)
    return _chance(slope, weights, [], intercept)


def _chance(slope: float, weights: Array, further: Sequence[float], intercept: float) -> ChanceModel:
    """A chance model that rises with the mean by the dimensions' weights, and with what is further."""
    own = [*(slope * weights), *further]
    return ChanceModel(tuple(round(float(w), 6) for w in own), round(float(intercept), 6))


def _fit_logistic(feature: Array, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope, at least 0, and intercept on a feature as it is."""
    mean, scale = feature.mean(), max(float(feature.std()), 1e-6)
    model = LogisticRegression(C=STRENGTH, max_iter=1000).fit((feature[:, None] - mean) / scale, positive)
    slope = float(model.coef_[0, 0]) / scale
    if slope >= 0:
        return slope, float(model.intercept_[0]) - slope * float(mean)
    share = float(positive.mean())
    return 0.0, float(np.log(share / (1 - share)))


def write_read_out(path: Path, read_out: StageReadOut) -> None:
    """Writes a stage's `calibration.json`."""
    maps, chance = read_out.maps, read_out.chance
    steps = maps.scores.maps if maps.scores else ()
    record = {
        "schema_version": VERSION,
        "maps": [m.model_dump(mode="json") for m in maps.expected.maps],
        "steps": [m.model_dump(mode="json") for m in steps],
        "chance": {"intercept": chance.intercept, "weights": list(chance.weights)},
    }
    write_json(path, record)


def read_read_out(path: Path) -> StageReadOut:
    """Reads what `write_read_out` wrote.

    Raises:
        InputError: it is of another version.
    """
    record = read_json(path)
    if record.get("schema_version") != VERSION:
        found = f"schema version {record.get('schema_version')}"
        raise InputError(str(path.parent), [Problem(path.name, found, MAKE_AGAIN)])
    means, steps = (
        Calibration(tuple(CalibrationMap.model_validate_json(json.dumps(m)) for m in record[key]))
        for key in ("maps", "steps")
    )
    chance = ChanceModel(tuple(map(float, record["chance"]["weights"])), float(record["chance"]["intercept"]))
    return StageReadOut(ReadOut(means, steps), chance)
