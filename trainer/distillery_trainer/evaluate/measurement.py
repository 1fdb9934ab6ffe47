"""Measuring every system on the same test articles: errors, decisions, intervals, slices and baselines."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.articles.prefilter import Prefilter
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.routing import Routing, handed_on
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.data.labels import LabelledArticle, LabelledSet
from distillery_trainer.evaluate import baselines, metrics
from distillery_trainer.evaluate.evaluation import (
    CascadeUse,
    Evaluation,
    Missed,
    NoiseFloor,
    PrefilterUse,
    Ranking,
    RecallAt,
    SplitSizes,
    SystemDifferences,
    SystemFigures,
    Systems,
    UnreadCounts,
)
from distillery_trainer.evaluate.metrics import Array
from distillery_trainer.evaluate.noise import Answers, noise_floor, shares_of_reachable
from distillery_trainer.evaluate.paired import Differences, differences
from distillery_trainer.evaluate.parts import Parts, all_parts
from distillery_trainer.models.protocol import FitData

TOP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The test articles with their groups, the calibrated scores (N, D) of both stages, and the routing.

    `truncated`: whether the student's window cut each article. `unreadable`: (N, 2), whether probe and student cannot
    read it, None where each is read. `repeats`: of all labelled articles, the oracle's
    answers where it gave several.
    """

    articles: LabelledSet
    groups: Sequence[str]
    probe: NDArray[np.floating]
    student: NDArray[np.floating]
    routing: Routing
    truncated: Sequence[bool]
    repeats: Sequence[Answers]
    unreadable: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class SystemScores:
    """The systems' scores beside the labels, (N, D) float64 each, with each article's group."""

    spec: FilterSpec
    systems: Mapping[str, Array]
    labels: Array
    groups: Sequence[str]
    seed: int

    def select(self, places: Sequence[int]) -> "SystemScores":
        """The articles at these places."""
        chosen = np.array(places, dtype=np.int64)
        systems = {name: scores[chosen] for name, scores in self.systems.items()}
        return SystemScores(self.spec, systems, self.labels[chosen], [self.groups[i] for i in places], self.seed)


def evaluate(spec: FilterSpec, data: FitData, held_out: HeldOut, seed: int) -> Evaluation:
    """Evaluates every system. Free of times and paths, so that the same run gives the same evaluation."""
    labels = held_out.articles.labels().astype(np.float64)
    unreadable = np.zeros((len(labels), 2), np.bool_) if held_out.unreadable is None else held_out.unreadable
    stopped = ~handed_on(held_out.probe, held_out.routing, spec) & ~unreadable[:, 0]
    scores = SystemScores(spec, _systems(data, held_out, stopped, seed), labels, held_out.groups, seed)
    parts = {name: scores.select(places) for name, places in _parts(spec, held_out).items()}
    return Evaluation(
        filter=spec.label,
        backend=spec.student.backend,
        split_sizes=SplitSizes(len(data.train_texts), len(data.val_texts), len(labels)),
        parts={name: _part(part) for name, part in parts.items()},
        differences={name: _differences(part) for name, part in parts.items()},
        noise_floor=_noise_floor(scores, held_out.repeats),
        cascade=CascadeUse(
            threshold=held_out.routing.threshold,
            share_probe=metrics.fixed(stopped.mean()),
            missed=_missed(scores.systems, spec, stopped),
        ),
        prefilter=_prefilter(spec, held_out.articles.articles, overalls(labels, spec)),
        unreadable=_unreadable(unreadable, stopped, overalls(labels, spec) >= spec.operating_overall),
    )


def _systems(data: FitData, held_out: HeldOut, stopped: NDArray[np.bool_], seed: int) -> dict[str, Array]:
    """The calibrated scores of every system: (N, D) float64 in [0, 10]."""
    texts = held_out.articles.texts
    return {
        "constant": baselines.constant(data, texts),
        "tfidf_ridge": baselines.tfidf_ridge(data, texts),
        "static": baselines.static(data, texts, seed),
        "probe": held_out.probe.astype(np.float64),
        "student": held_out.student.astype(np.float64),
        "cascade": np.where(stopped[:, None], held_out.probe, held_out.student).astype(np.float64),
    }


def _parts(spec: FilterSpec, held_out: HeldOut) -> Parts:
    articles = held_out.articles.articles
    fields, characters = [article.fields for article in articles], [len(article.text) for article in articles]
    return all_parts(spec.evaluation.slices, fields, characters, held_out.truncated)


def _part(part: SystemScores) -> Systems:
    return Systems(**{name: _system(part, scores) for name, scores in part.systems.items()})


def _system(part: SystemScores, scores: Array) -> SystemFigures:
    spec, labels = part.spec, part.labels
    said, true = overalls(scores, spec), overalls(labels, spec)
    thresholds = {tier.name: tier.min_overall for tier in spec.tiers[:-1]}
    statistics = {
        "mae": metrics.weighted_mean(np.abs(scores - labels).mean(axis=1)),
        f"recall_{spec.operating_tier}": metrics.weighted_recall(said, true, spec.operating_overall),
        "spearman": metrics.weighted_spearman(said, true),
    }
    found = metrics.describe(scores, labels, spec)
    return SystemFigures(
        n=found.n,
        mae=found.mae,
        rmse=found.rmse,
        overall=found.overall,
        dimensions=found.dimensions,
        tiers=metrics.decisions(said, true, thresholds),
        recall_at=_ranking(said, true, spec.operating_overall),
        intervals={
            name: metrics.group_interval(statistic, part.groups, part.seed) for name, statistic in statistics.items()
        },
    )


def _ranking(said: Array, true: Array, threshold: float) -> Ranking:
    def recall_at(k: int) -> RecallAt:
        return RecallAt(k, metrics.rounded(metrics.recall_at(said, true, threshold, k)))

    return Ranking(recall_at(max(1, int(np.sum(true >= threshold)))), recall_at(math.ceil(TOP_SHARE * len(true))))


def _differences(part: SystemScores) -> SystemDifferences:
    def difference(one: str) -> Differences:
        scores = part.systems[one], part.systems["tfidf_ridge"]
        return differences(part.spec, *scores, part.labels, part.groups, part.seed)

    return SystemDifferences(difference("student"), difference("probe"), difference("cascade"))


def _noise_floor(scores: SystemScores, repeats: Sequence[Answers]) -> NoiseFloor | None:
    """The oracle's own error, and what each system has achieved of the way there."""
    found = noise_floor(repeats, scores.spec.dimension_names)
    if found is None:
        return None
    maes = {name: float(np.abs(own - scores.labels).mean()) for name, own in scores.systems.items()}
    reached = shares_of_reachable(maes, maes["constant"], found.mae)
    return NoiseFloor(found.articles, found.mae, found.dimensions, reached)


def _missed(systems: Mapping[str, Array], spec: FilterSpec, stopped: NDArray[np.bool_]) -> Missed:
    """How many of the student's finds the probe dropped on the test split, a check of the certificate."""
    found = overalls(systems["student"], spec) >= spec.operating_overall
    return Missed(int(found.sum()), int(np.sum(found & stopped)))


def _unreadable(unreadable: NDArray[np.bool_], stopped: NDArray[np.bool_], positive: NDArray[np.bool_]) -> UnreadCounts:
    """How many test articles each stage cannot read, and how many are `invalid` in the end, finds among them."""
    by_probe, by_student = unreadable.T
    invalid = by_student & ~stopped
    return UnreadCounts(
        probe=int(by_probe.sum()),
        student=int(by_student.sum()),
        invalid=int(invalid.sum()),
        invalid_positive=int(np.sum(invalid & positive)),
    )


def _prefilter(spec: FilterSpec, articles: Sequence[LabelledArticle], overall: Array) -> PrefilterUse:
    """What the prefilter would block of the test articles, and how many of those the labels call positive."""
    prefilter = Prefilter(spec)
    results = [prefilter.check(article.cleaned) for article in articles]
    blocked = np.array([result.blocked_by is not None for result in results], dtype=bool)
    return PrefilterUse(
        blocked=int(blocked.sum()),
        blocked_positive=int(np.sum(blocked & (overall >= spec.operating_overall))),
        shadowed=sum(bool(result.shadows) for result in results),
    )
