"""Two runs on the articles that both were tested on: better, worse, no difference, or too little to tell.

An outcome is read off the 95 % interval of the paired difference (see `paired`). Inside the margin on both sides it is
no difference, as in a test of equivalence; beside zero it is better or worse; everything else is inconclusive. Recall
rests on a few articles: where both runs find the same ones resampling gives an interval without width, which proves no
equality, and where they differ on a handful of them resampling takes that for sure. So exact bounds are given, and an
exact test must agree. Runs that give every article the same scores do not differ, however few there are.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.certify.bounds import upper_bound
from distillery_trainer.certify.operating_point import handed_on, selected
from distillery_trainer.data.duplicates import unlike
from distillery_trainer.data.predictions import Decided, Predictions, in_cascade
from distillery_trainer.evaluate.metrics import LEVEL, Interval, Report, decided, rounded
from distillery_trainer.evaluate.paired import Difference, Oracle, differences, finds_differ
from distillery_trainer.evaluate.parts import MIN_PART, TOTAL, all_parts
from distillery_trainer.runs.run import Run

System = Literal["probe", "student", "cascade"]
Outcome = Literal["better", "no difference", "worse", "inconclusive"]
Found = tuple[Difference, Outcome, str | None]  # with the reason, where the interval alone is none

MARGIN = 0.02  # of MAE, in score points: what nobody would notice
SEED = 0
FEWEST_GROUPS = 6  # all to one side, by chance once in 32 times
SAME = "the same scores for every article"
# What the student and the probe were made with; the cascade's threshold was chosen on the calibration split too.
MADE_WITH = {"probe": ("train", "val"), "student": ("train", "val"), "cascade": ("train", "val", "calibration")}


@dataclass(frozen=True, slots=True)
class Pair:
    """The articles of both test splits, in the order of run A, as both runs' predictions."""

    a: Predictions
    b: Predictions


def compare(a: Run, b: Run, system: System = "student") -> Report:
    """Run A against run B: the content of `trainer compare --json`.

    Raises:
        InputError: the runs do not judge alike, were labelled differently, have fewer than 10 test articles in common,
            or one of them was made with test articles of the other.
    """
    pair = _common_articles(a, b, system)
    ours, theirs = _decided(a, pair.a, system), _decided(b, pair.b, system)
    oracle = Oracle(pair.a.labels, a.are_finds(pair.a.labels), pair.a.groups)
    parts = {
        name: _part(oracle.select(places), (ours.select(places), theirs.select(places)))
        for name, places in _parts(a, pair.a).items()
    }
    is_one = a.folder.resolve() == b.folder.resolve()
    return {
        "schema_version": 1,
        "filter": a.spec.label,
        "a": str(a.folder),
        "b": str(b.folder),
        "system": system,
        "margin": MARGIN,
        "outcome": parts[TOTAL]["outcome"],
        "reason": "the same run" if is_one else SAME if _are_equal(ours, theirs) else None,
        "parts": parts,
    }


def outcome_of(interval: Sequence[float] | None, margin: float | None = MARGIN) -> Outcome:
    """What the interval of a difference says of the first system, where less is better.

    Args:
        interval: [low, high], or None where it is not defined.
        margin: within so much of 0 it is no difference; None where that cannot be told.
    """
    if interval is None:
        return "inconclusive"
    low, high = interval
    if margin is not None and -margin <= low and high <= margin:
        return "no difference"
    return "better" if high < 0 else "worse" if low > 0 else "inconclusive"


def combined(mae: Outcome, recall: Outcome) -> Outcome:
    """Worse if either is worse, else better if either is better, else what the MAE says."""
    sure: tuple[Outcome, ...] = ("worse", "better")
    return next((outcome for outcome in sure if outcome in (mae, recall)), mae)


def _common_articles(a: Run, b: Run, system: System) -> Pair:
    """The articles of both test splits.

    Raises:
        InputError: the runs do not judge alike, were labelled differently, have fewer than 10 test articles in common,
            or one of them was made with test articles of the other.
    """
    _check_rubric(a.spec, b.spec)
    _check_unseen(a, b, system)
    return _pair(a, b)


def _check_rubric(a: FilterSpec, b: FilterSpec) -> None:
    def rubric(spec: FilterSpec) -> dict[str, object]:
        return {
            "name": spec.name,
            "dimensions": [(d.name, d.weight) for d in spec.dimensions],
            "tiers": spec.tiers,
            "operating_tier": spec.operating_tier,
            "gatekeepers": spec.gatekeepers,
        }

    ours, theirs = rubric(a), rubric(b)
    problems = [Problem(key, f"not that of {b.label}", "the same in both") for key in ours if ours[key] != theirs[key]]
    if problems:
        raise InputError("trainer compare", problems)


def _check_unseen(a: Run, b: Run, system: System) -> None:
    """Refuses runs of which one knows what the other is tested on."""
    problems = []
    for one, other in ((a, b), (b, a)):
        splits, tested = one.splits, {i for i, split in other.splits.items() if split == "test"}
        seen = sum(splits.get(article) in MADE_WITH[system] for article in tested)
        seen += 0 if system == "probe" else _known_to_partners(one, other, tested)
        if seen:
            found = f"made with {seen} of the {len(tested)} test articles of {other.folder}"
            expected = "none: fit both on the same articles, with the same seed or the other's splits.jsonl as --splits"
            problems.append(Problem(str(one.folder), found, expected))
    if problems:
        raise InputError("trainer compare", problems)


def _known_to_partners(run: Run, other: Run, tested: Container[str]) -> int:
    """How many of another run's test articles are among those of other filters that a joint student learnt from.

    0 where labels files are gone: ids are all there is to go by.
    """
    partners, own, theirs = run.partners_texts(), run.labelled, other.labelled
    if not partners or own is None or theirs is None:
        return 0
    held = [article.text for article in theirs.articles if article.id in tested]
    return len(held) - len(unlike(held, list(set(partners).difference(own.texts))))


def _pair(a: Run, b: Run) -> Pair:
    ours, theirs = a.predictions, b.predictions
    place_in_b = {article: place for place, article in enumerate(theirs.ids)}
    places = [place for place, article in enumerate(ours.ids) if article in place_in_b]
    if len(places) < MIN_PART:
        found = f"{len(places)} articles"
        raise InputError("trainer compare", [Problem("in both test splits", found, f"at least {MIN_PART}")])
    pair = Pair(ours.select(places), theirs.select([place_in_b[ours.ids[place]] for place in places]))
    differing = int(np.sum(np.any(pair.a.labels != pair.b.labels, axis=1)))
    if differing:
        found = f"those of {differing} articles differ"
        raise InputError("trainer compare", [Problem("labels", found, "the same labels in both runs")])
    return pair


def _decided(run: Run, made: Predictions, system: System) -> Decided:
    at = made.selects_from
    student = Decided(made.student, selected(made.student, at, run.spec))
    if system == "student":
        return student
    if system == "probe":
        return Decided(made.probe, selected(made.probe, at, run.spec))
    return in_cascade(made.probe, student, ~handed_on(made.probe, run.routing, at, run.spec))


def _are_equal(one: Decided, other: Decided) -> bool:
    """Whether two systems gave the same scores and selected the same articles."""
    return np.array_equal(one.scores, other.scores) and np.array_equal(one.selected, other.selected)


def _parts(run: Run, made: Predictions) -> Mapping[str, list[int]]:
    """The parts of run A; slices only where its labels files are still there."""
    known = {article.id: article.fields for article in run.labelled.articles} if run.labelled else None
    fields = [known[article] for article in made.ids] if known is not None else None
    return all_parts(run.spec.evaluation.slices, fields, made.characters, made.truncated)


def _part(oracle: Oracle, systems: tuple[Decided, Decided]) -> Report:
    own = {
        "mae": [rounded(np.abs(system.scores - oracle.labels).mean()) for system in systems],
        "recall": [decided(system.selected, oracle.finds).recall for system in systems],
    }
    change = differences(*systems, oracle, SEED)
    found = {"mae": _mae(oracle, systems, change.mae), "recall": _finds(oracle, systems, change.recall)}
    measures = {
        name: {"a": own[name][0], "b": own[name][1], **difference.to_record(), "outcome": outcome, "reason": reason}
        for name, (difference, outcome, reason) in found.items()
    }
    return {"n": len(oracle.finds), "outcome": combined(found["mae"][1], found["recall"][1]), **measures}


def _mae(oracle: Oracle, systems: tuple[Decided, Decided], found: Difference) -> Found:
    """The difference of the errors; of fewer independent articles than can be sure, nothing is concluded."""
    if np.array_equal(systems[0].scores, systems[1].scores):
        return found, "no difference", SAME
    if (groups := len(set(oracle.groups))) < FEWEST_GROUPS:
        return Difference(found.difference, None), "inconclusive", f"{groups} independent articles are too few"
    return found, outcome_of(found.interval), None


def _finds(oracle: Oracle, systems: tuple[Decided, Decided], found: Difference) -> Found:
    """The difference of the recalls, with bounds where both find the same articles."""
    true, ours, theirs = oracle.finds, systems[0].selected, systems[1].selected
    if not true.any():
        return found, "inconclusive", "no article is to be found"
    if _are_equal(*systems):
        return found, "no difference", SAME
    if not np.any(true & (ours != theirs)):
        groups = len({group for group, is_true in zip(oracle.groups, true, strict=True) if is_true})
        most = rounded(upper_bound(0, groups, (1 + LEVEL) / 2)) or 0.0
        reason = f"both find the same {int(np.sum(true & ours))} of {int(true.sum())}, too few to prove them equal"
        return Difference(found.difference, (-most, most)), "inconclusive", reason
    outcome = outcome_of(_lost(found.interval), None)
    if outcome != "inconclusive" and not finds_differ(*systems, oracle):
        return found, "inconclusive", "they differ on too few articles"
    return found, outcome, None


def _lost(gained: Interval | None) -> Interval | None:
    """An interval of what is gained as one of what is lost, so that less is better."""
    return (-gained[1], -gained[0]) if gained else None
