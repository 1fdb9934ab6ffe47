"""The operating point: the chance from which articles are selected, chosen on held-out articles, with its curve."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.model import FilterSpec, OperatingRule
from distillery_runtime.spec.routing import CHANCE_DECIMALS, Routing
from distillery_runtime.spec.selection import MAX_POINTS, CurvePoint, Selection, best_point
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.certify.read_out import HeldOutRaw, fit_read_out, joined
from distillery_trainer.data.predictions import Answers
from distillery_trainer.store.files import read_json, write_json


def choose_selection(
    chance: NDArray[np.float64], positive: NDArray[np.bool_], rule: OperatingRule, drawn_from: str
) -> Selection:
    """Chooses the operating point of a student.

    Where no point has what the rule asks for (without a positive there is none), articles are selected by their tier.

    Args:
        chance: (N,) of articles that neither the model nor the chance was fitted on.
        positive: (N,) whether the oracle places each at the operating tier or above.
        rule: what is aimed at.
        drawn_from: what the articles are, for people.
    """
    points, positives = curve(chance, positive), int(positive.sum())
    chosen = None if rule == "tier" else best_point(points, positives, rule)
    return Selection(
        rule=rule,
        chance=chosen.chance if chosen else None,
        articles=len(chance),
        positives=positives,
        drawn_from=drawn_from,
        curve=_thinned(points, chosen),
    )


def curve(chance: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[CurvePoint, ...]:
    """The thresholds that matter, by rising chance: half-way below each positive's chance.

    Between two positives' chances a threshold only selects more that is none.
    """
    every = np.sort(chance)
    points = []
    for own in np.unique(chance[positive]):
        below = every[every < own]
        middle = round(float((own + below[-1]) / 2), CHANCE_DECIMALS) if len(below) else float(own)
        at = middle if not len(below) or below[-1] < middle <= own else float(own)
        points.append(
            CurvePoint(chance=at, selected=int((chance >= at).sum()), hits=int((chance[positive] >= at).sum()))
        )
    return tuple(points)


def _thinned(points: tuple[CurvePoint, ...], chosen: CurvePoint | None) -> tuple[CurvePoint, ...]:
    """At most as many points as a bundle keeps, spread evenly, the chosen one among them."""
    if len(points) <= MAX_POINTS:
        return points
    places = set(np.linspace(0, len(points) - 1, MAX_POINTS - 1).round().astype(int).tolist())
    return tuple(point for place, point in enumerate(points) if place in places or point == chosen)


@dataclass(frozen=True, slots=True)
class Nested:
    """Answers by what was fitted on other folds; `selects_from`: (N,), the operating point there, NaN for the tier."""

    answers: Answers
    selects_from: NDArray[np.float64]


def nested(held_out: HeldOutRaw, folds: NDArray[np.integer], spec: FilterSpec, seed: int) -> Nested:
    """Reads each fold's raw outputs, and selects, by what was fitted and chosen on the other folds alone."""
    parts: list[tuple[NDArray[np.bool_], Answers]] = []
    selects_from = np.full(len(folds), np.nan)
    for fold in np.unique(folds):
        own, others = folds == fold, held_out.select(folds != fold)
        read_out = fit_read_out(others, spec, seed)
        positive = overalls(others.labels, spec) >= spec.operating_overall
        chosen = choose_selection(read_out.answers(others.raw).chance, positive, spec.operating_point, "other folds")
        parts.append((own, read_out.answers(held_out.raw[own])))
        selects_from[own] = np.nan if chosen.chance is None else chosen.chance
    return Nested(joined(parts), selects_from)


def selected(answers: Answers, selects_from: NDArray[np.float64], spec: FilterSpec) -> NDArray[np.bool_]:
    """Which articles are selected: (N,), by the chance from `selects_from` (N,) on; where that is NaN by tier."""
    by_tier = overalls(answers.scores, spec) >= spec.operating_overall
    with np.errstate(invalid="ignore"):
        return np.where(np.isnan(selects_from), by_tier, answers.chance >= selects_from)


def handed_on(
    probe: Answers, routing: Routing, selects_from: NDArray[np.float64], spec: FilterSpec
) -> NDArray[np.bool_]:
    """Which articles the probe hands on to the student: (N,)."""
    by_overall = overalls(probe.scores, spec)
    rows = zip(
        probe.chance.tolist(), by_overall.tolist(), np.nan_to_num(selects_from, nan=np.inf).tolist(), strict=True
    )
    return np.array([routing.hands_on(own, overall, spec.operating_overall, at) for own, overall, at in rows], bool)


def write_selection(path: Path, selection: Selection) -> None:
    """Writes `selection.json`."""
    write_json(path, {"schema_version": 1, **selection.model_dump(mode="json")})


def read_selection(path: Path) -> Selection:
    """Reads what `write_selection` wrote."""
    record = dict(read_json(path))
    del record["schema_version"]
    return Selection.model_validate(record, strict=False)
