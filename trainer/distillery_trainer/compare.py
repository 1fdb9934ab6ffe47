"""Two runs on the articles that both were tested on: better, worse, no difference, or too little to tell.

An outcome is read off the 95 % interval of the paired difference (see `paired`). Inside the margin on both sides it is
no difference, as in a test of equivalence; beside zero it is better or worse; everything else is inconclusive. Recall
rests on a few articles: where both runs find the same ones its interval has no width, which proves no equality, and
where they differ on a handful of them resampling takes that for sure. So an exact test must agree.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from distillery_runtime.routing import handed_on
from distillery_runtime.spec import FilterSpec
from distillery_runtime.verdict import overalls
from distillery_trainer.comparable import System, common_articles
from distillery_trainer.finished_run import FinishedRun, labelled_articles
from distillery_trainer.metrics import Array, Report, once, rounded, weighted_recall
from distillery_trainer.paired import differences, finds_differ
from distillery_trainer.parts import TOTAL, all_parts
from distillery_trainer.predictions import Predictions
from distillery_trainer.route import read_routing

Outcome = Literal["better", "no difference", "worse", "inconclusive"]

MARGIN = 0.02  # of MAE, in score points: what nobody would notice
SEED = 0


def compare(a: FinishedRun, b: FinishedRun, system: System = "student") -> Report:
    """Run A against run B: the content of `trainer compare --json`.

    Raises:
        InputError: the runs do not judge alike, were labelled differently, have fewer than 10 test articles in common,
            or one of them was made with test articles of the other.
    """
    pair = common_articles(a, b, system)
    scores = (_scores(a, pair.a, system), _scores(b, pair.b, system))
    parts = {
        name: _part(a.spec, pair.a, (scores[0][places], scores[1][places]), places)
        for name, places in _parts(a, pair.a).items()
    }
    return {
        "schema_version": 1,
        "filter": a.spec.label,
        "a": str(a.folder),
        "b": str(b.folder),
        "system": system,
        "margin": MARGIN,
        "outcome": parts[TOTAL]["outcome"],
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


def _scores(run: FinishedRun, made: Predictions, system: System) -> Array:
    if system != "cascade":
        return made.probe if system == "probe" else made.student
    stopped = ~handed_on(made.probe, read_routing(run.certificate(), run.spec), run.spec)
    return np.where(stopped[:, None], made.probe, made.student)


def _parts(run: FinishedRun, made: Predictions) -> Mapping[str, list[int]]:
    """The parts of run A; slices only where its labels files are still there."""
    labelled = labelled_articles(run.manifest, run.spec)
    known = {article.id: article.fields for article in labelled.articles} if labelled else {}
    fields = [known[article] for article in made.ids] if labelled else None
    return all_parts(run.spec.evaluation.slices, fields, made.characters, made.truncated)


def _part(spec: FilterSpec, made: Predictions, scores: tuple[Array, Array], places: Sequence[int]) -> Report:
    part = made.select(places)
    found = differences(spec, *scores, part.labels, part.groups, SEED)
    own = {
        "mae": [rounded(np.abs(s - part.labels).mean()) for s in scores],
        "recall": [rounded(_recall(spec, s, part.labels)) for s in scores],
    }
    recall = outcome_of(_lost(found["recall"].interval), None)
    is_sure = finds_differ(spec, *scores, part.labels, part.groups)
    outcomes = {"mae": outcome_of(found["mae"].interval), "recall": recall if is_sure else "inconclusive"}
    measures = {
        name: {"a": own[name][0], "b": own[name][1], **found[name].to_record(), "outcome": outcome}
        for name, outcome in outcomes.items()
    }
    return {"n": len(places), "outcome": combined(outcomes["mae"], outcomes["recall"]), **measures}


def _lost(gained: list[float] | None) -> list[float] | None:
    """An interval of what is gained as one of what is lost, so that less is better."""
    return [-gained[1], -gained[0]] if gained else None


def _recall(spec: FilterSpec, scores: Array, labels: Array) -> float | None:
    statistic = weighted_recall(overalls(scores, spec), overalls(labels, spec), spec.operating_overall)
    return once(statistic, len(labels))
