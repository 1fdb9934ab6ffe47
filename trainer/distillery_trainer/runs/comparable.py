"""Which articles two runs can be compared on, and which runs cannot be compared."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

import numpy as np

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.data.duplicates import unlike
from distillery_trainer.data.predictions import Predictions
from distillery_trainer.evaluate.parts import MIN_PART
from distillery_trainer.runs.run import FinishedRun, labelled_articles, partners_texts

System = Literal["probe", "student", "cascade"]

# What the student and the probe were made with; the cascade's threshold was chosen on the calibration split too.
MADE_WITH = {"probe": ("train", "val"), "student": ("train", "val"), "cascade": ("train", "val", "calibration")}


@dataclass(frozen=True, slots=True)
class Pair:
    """The articles of both test splits, in the order of run A, as both runs' predictions."""

    a: Predictions
    b: Predictions


def common_articles(a: FinishedRun, b: FinishedRun, system: System) -> Pair:
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


def _check_unseen(a: FinishedRun, b: FinishedRun, system: System) -> None:
    """Refuses runs of which one knows what the other is tested on."""
    problems = []
    for one, other in ((a, b), (b, a)):
        splits, tested = one.splits(), {i for i, split in other.splits().items() if split == "test"}
        seen = sum(splits.get(article) in MADE_WITH[system] for article in tested)
        seen += 0 if system == "probe" else _known_to_partners(one, other, tested)
        if seen:
            found = f"made with {seen} of the {len(tested)} test articles of {other.folder}"
            expected = "none: fit both on the same articles, with the same seed or the other's splits.jsonl as --splits"
            problems.append(Problem(str(one.folder), found, expected))
    if problems:
        raise InputError("trainer compare", problems)


def _known_to_partners(run: FinishedRun, other: FinishedRun, tested: Container[str]) -> int:
    """How many of another run's test articles are among those of other filters that a joint student learnt from.

    0 where labels files are gone: ids are all there is to go by.
    """
    partners = partners_texts(run)
    own, theirs = (labelled_articles(each.manifest, each.spec) for each in (run, other))
    if not partners or own is None or theirs is None:
        return 0
    held = [article.text for article in theirs.articles if article.id in tested]
    return len(held) - len(unlike(held, list(set(partners).difference(own.texts))))


def _pair(a: FinishedRun, b: FinishedRun) -> Pair:
    ours, theirs = a.predictions(), b.predictions()
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
