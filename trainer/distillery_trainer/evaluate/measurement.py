"""Measuring every system on the same test articles: errors, decisions, intervals, slices and baselines."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.articles.prefilter import Prefilter
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.data.labels import LabelledArticle, LabelledSet
from distillery_trainer.data.predictions import Decided, in_cascade
from distillery_trainer.evaluate import metrics
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
from distillery_trainer.evaluate.paired import Differences, Oracle, differences
from distillery_trainer.evaluate.parts import Parts, all_parts

TOP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The test articles, what systems decided on them, and how.

    `groups`: near-duplicates. `baselines`: the systems `constant`, `tfidf_ridge` and `static`, by name. `probe`,
    `student`: both stages. `stopped`: (N,) bool, whether the probe answers each by itself, `threshold` from which
    chance on it does not. `truncated`: whether the student's window cut each article. `unreadable`: (N, 2), whether
    probe and student cannot read it. `repeats`: of all labelled articles, the oracle's answers where it gave several.
    `sizes`: of the run's parts.
    """

    articles: LabelledSet
    groups: Sequence[str]
    baselines: Mapping[str, Decided]
    probe: Decided
    student: Decided
    stopped: NDArray[np.bool_]
    threshold: float | None
    truncated: Sequence[bool]
    unreadable: NDArray[np.bool_]
    repeats: Sequence[Answers]
    sizes: SplitSizes

    @property
    def weights(self) -> Array:
        """How many articles of the source each stands for, (N,), up to a factor."""
        return self.articles.sampling_weights()

    @property
    def cascade(self) -> Decided:
        """What both stages decide together."""
        return in_cascade(self.probe.answers, self.student, self.stopped)


@dataclass(frozen=True, slots=True)
class Compared:
    """The systems' decisions beside the oracle's labels."""

    spec: FilterSpec
    systems: Mapping[str, Decided]
    oracle: Oracle
    weights: Array
    seed: int

    def select(self, places: Sequence[int]) -> "Compared":
        """The articles at these places."""
        systems = {name: system.select(places) for name, system in self.systems.items()}
        weights = self.weights[np.asarray(places, np.int64)]
        return Compared(self.spec, systems, self.oracle.select(places), weights, self.seed)


def evaluate(spec: FilterSpec, held_out: HeldOut, seed: int) -> Evaluation:
    """Evaluates every system. Free of times and paths, so that the same run gives the same evaluation."""
    labels = held_out.articles.labels().astype(np.float64)
    finds = overalls(labels, spec) >= spec.operating_overall
    systems = {**held_out.baselines, "probe": held_out.probe, "student": held_out.student, "cascade": held_out.cascade}
    compared = Compared(spec, systems, Oracle(labels, finds, held_out.groups), held_out.weights, seed)
    parts = {name: compared.select(places) for name, places in _parts(spec, held_out).items()}
    stopped = held_out.stopped
    return Evaluation(
        filter=spec.label,
        backend=spec.student.backend,
        split_sizes=held_out.sizes,
        parts={name: _part(part) for name, part in parts.items()},
        differences={name: _differences(part) for name, part in parts.items()},
        noise_floor=_noise_floor(compared, held_out.repeats),
        cascade=CascadeUse(
            threshold=held_out.threshold,
            share_probe=metrics.fixed(stopped.mean()),
            missed=Missed(int(held_out.student.selected.sum()), int(np.sum(held_out.student.selected & stopped))),
        ),
        prefilter=_prefilter(spec, held_out.articles.articles, overalls(labels, spec)),
        unreadable=_unreadable(held_out.unreadable, stopped, finds),
    )


def _parts(spec: FilterSpec, held_out: HeldOut) -> Parts:
    articles = held_out.articles.articles
    fields, characters = [article.fields for article in articles], [len(article.text) for article in articles]
    return all_parts(spec.evaluation.slices, fields, characters, held_out.truncated)


def _part(part: Compared) -> Systems:
    return Systems(**{name: _system(part, system) for name, system in part.systems.items()})


def _system(part: Compared, system: Decided) -> SystemFigures:
    spec, oracle, answers = part.spec, part.oracle, system.answers
    said, true = overalls(system.scores, spec), overalls(oracle.labels, spec)
    thresholds = {tier.name: tier.min_overall for tier in spec.tiers[:-1]}
    ranked = metrics.weighted_average_precision(answers.chance, oracle.finds)
    statistics = {
        "mae": metrics.weighted_mean(np.abs(system.scores - oracle.labels).mean(axis=1)),
        "spearman": metrics.weighted_spearman(said, true),
        "recall": metrics.weighted_recall(system.selected, oracle.finds),
        "precision": metrics.weighted_precision(system.selected, oracle.finds),
        "f1": metrics.weighted_f1(system.selected, oracle.finds),
        "average_precision": ranked,
    }
    found = metrics.describe(system.scores, oracle.labels, spec)
    return SystemFigures(
        n=found.n,
        finds=metrics.decided(system.selected, oracle.finds),
        average_precision=metrics.rounded(metrics.once(ranked, len(true))),
        slope=metrics.rounded(metrics.slope(said, true)),
        mae=found.mae,
        rmse=metrics.fixed(np.sqrt(((answers.expected - oracle.labels) ** 2).mean())),
        overall=found.overall,
        dimensions=found.dimensions,
        tiers=metrics.decisions(said, true, thresholds),
        recall_at=_ranking(answers.chance, oracle.finds),
        intervals={
            name: metrics.group_interval(statistic, oracle.groups, part.seed) for name, statistic in statistics.items()
        },
        weighted=_weighted(statistics, part.weights),
    )


def _weighted(statistics: Mapping[str, metrics.Statistic], weights: Array) -> dict[str, float | None]:
    """The statistics that have a meaning for a source, of which articles were drawn with unequal odds."""
    if not np.ptp(weights):
        return {}
    return {n: metrics.rounded(float(statistic(weights))) for n, statistic in statistics.items() if n != "spearman"}


def _ranking(chance: Array, finds: NDArray[np.bool_]) -> Ranking:
    def recall_at(k: int) -> RecallAt:
        return RecallAt(k, metrics.rounded(metrics.recall_at(chance, finds.astype(np.float64), 1.0, k)))

    return Ranking(recall_at(max(1, int(finds.sum()))), recall_at(math.ceil(TOP_SHARE * len(finds))))


def _differences(part: Compared) -> SystemDifferences:
    def difference(one: str) -> Differences:
        return differences(part.systems[one], part.systems["tfidf_ridge"], part.oracle, part.seed)

    return SystemDifferences(difference("student"), difference("probe"), difference("cascade"))


def _noise_floor(compared: Compared, repeats: Sequence[Answers]) -> NoiseFloor | None:
    """The oracle's own error, and what each system has achieved of the way there."""
    found = noise_floor(repeats, compared.spec.dimension_names)
    if found is None:
        return None
    maes = {name: float(np.abs(own.scores - compared.oracle.labels).mean()) for name, own in compared.systems.items()}
    reached = shares_of_reachable(maes, maes["constant"], found.mae)
    return NoiseFloor(found.articles, found.mae, found.dimensions, reached)


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
