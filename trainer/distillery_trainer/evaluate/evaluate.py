"""Evaluation on the test split: every system on the same articles, with intervals, slices and baselines."""

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
from distillery_trainer.evaluate.metrics import Array, Report
from distillery_trainer.evaluate.noise import Answers, noise_floor, shares_of_reachable
from distillery_trainer.evaluate.paired import differences
from distillery_trainer.evaluate.parts import Parts, all_parts
from distillery_trainer.models.protocol import FitData

EVALUATION_VERSION = 3
PAIRS = tuple((system, "tfidf_ridge") for system in ("student", "probe", "cascade"))
TOP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Evidence:
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
class Judged:
    """The systems' scores beside the labels, (N, D) float64 each, with each article's group."""

    spec: FilterSpec
    systems: Mapping[str, Array]
    labels: Array
    groups: Sequence[str]
    seed: int

    def select(self, places: Sequence[int]) -> "Judged":
        """The articles at these places."""
        chosen = np.array(places, dtype=np.int64)
        systems = {name: scores[chosen] for name, scores in self.systems.items()}
        return Judged(self.spec, systems, self.labels[chosen], [self.groups[i] for i in places], self.seed)


def evaluate(spec: FilterSpec, data: FitData, evidence: Evidence, seed: int) -> Report:
    """The content of `eval.json`. Free of times and paths, so that the same run gives the same bytes."""
    labels = evidence.articles.labels().astype(np.float64)
    unreadable = np.zeros((len(labels), 2), np.bool_) if evidence.unreadable is None else evidence.unreadable
    stopped = ~handed_on(evidence.probe, evidence.routing, spec) & ~unreadable[:, 0]
    judged = Judged(spec, _systems(data, evidence, stopped, seed), labels, evidence.groups, seed)
    parts = {name: judged.select(places) for name, places in _parts(spec, evidence).items()}
    return {
        "schema_version": EVALUATION_VERSION,
        "filter": spec.label,
        "backend": spec.student.backend,
        "split_sizes": {"train": len(data.train_texts), "val": len(data.val_texts), "test": len(labels)},
        "parts": {name: _part(part) for name, part in parts.items()},
        "differences": {name: _differences(part) for name, part in parts.items()},
        "noise_floor": _noise_floor(judged, evidence.repeats),
        "cascade": {
            "threshold": evidence.routing.threshold,
            "share_probe": metrics.rounded(stopped.mean()),
            "missed": _missed(judged.systems, spec, stopped),
        },
        "prefilter": _prefilter(spec, evidence.articles.articles, overalls(labels, spec)),
        "unreadable": _unreadable(unreadable, stopped, overalls(labels, spec) >= spec.operating_overall),
    }


def _systems(data: FitData, evidence: Evidence, stopped: NDArray[np.bool_], seed: int) -> dict[str, Array]:
    """The calibrated scores of every system: (N, D) float64 in [0, 10]."""
    texts = evidence.articles.texts
    return {
        "constant": baselines.constant(data, texts),
        "tfidf_ridge": baselines.tfidf_ridge(data, texts),
        "static": baselines.static(data, texts, seed),
        "probe": evidence.probe.astype(np.float64),
        "student": evidence.student.astype(np.float64),
        "cascade": np.where(stopped[:, None], evidence.probe, evidence.student).astype(np.float64),
    }


def _parts(spec: FilterSpec, evidence: Evidence) -> Parts:
    articles = evidence.articles.articles
    fields, characters = [article.fields for article in articles], [len(article.text) for article in articles]
    return all_parts(spec.evaluation.slices, fields, characters, evidence.truncated)


def _part(part: Judged) -> Report:
    return {name: _system(part, scores) for name, scores in part.systems.items()}


def _system(part: Judged, scores: Array) -> Report:
    spec, labels = part.spec, part.labels
    said, true = overalls(scores, spec), overalls(labels, spec)
    thresholds = {tier.name: tier.min_overall for tier in spec.tiers[:-1]}
    statistics = {
        "mae": metrics.weighted_mean(np.abs(scores - labels).mean(axis=1)),
        f"recall_{spec.operating_tier}": metrics.weighted_recall(said, true, spec.operating_overall),
        "spearman": metrics.weighted_spearman(said, true),
    }
    return {
        **metrics.describe(scores, labels, spec),
        "tiers": metrics.decisions(said, true, thresholds),
        "recall_at": _recall_at(said, true, spec.operating_overall),
        "intervals": {
            name: metrics.group_interval(statistic, part.groups, part.seed) for name, statistic in statistics.items()
        },
    }


def _recall_at(said: Array, true: Array, threshold: float) -> Report:
    """What the highest ranked articles hold of what is to be found: as many as there are, and a tenth of all."""
    counts = {"positives": max(1, int(np.sum(true >= threshold))), "top_tenth": math.ceil(TOP_SHARE * len(true))}
    return {
        name: {"k": k, "recall": metrics.rounded(metrics.recall_at(said, true, threshold, k))}
        for name, k in counts.items()
    }


def _differences(part: Judged) -> Report:
    return {f"{one}_minus_{other}": _difference(part, one, other) for one, other in PAIRS}


def _difference(part: Judged, one: str, other: str) -> Report:
    found = differences(part.spec, part.systems[one], part.systems[other], part.labels, part.groups, part.seed)
    return {name: measure.to_record() for name, measure in found.items()}


def _noise_floor(judged: Judged, repeats: Sequence[Answers]) -> Report | None:
    """The oracle's own error, and what each system has achieved of the way there."""
    found = noise_floor(repeats, judged.spec.dimension_names)
    if found is None:
        return None
    maes = {name: float(np.abs(scores - judged.labels).mean()) for name, scores in judged.systems.items()}
    return found | {"share_of_reachable": shares_of_reachable(maes, maes["constant"], float(str(found["mae"])))}


def _missed(systems: Mapping[str, Array], spec: FilterSpec, stopped: NDArray[np.bool_]) -> Report:
    """How many of the student's finds the probe dropped on the test split, a check of the certificate."""
    found = overalls(systems["student"], spec) >= spec.operating_overall
    return {"student_positives": int(found.sum()), "dropped": int(np.sum(found & stopped))}


def _unreadable(unreadable: NDArray[np.bool_], stopped: NDArray[np.bool_], positive: NDArray[np.bool_]) -> Report:
    """How many test articles each stage cannot read, and how many are `invalid` in the end, finds among them."""
    by_probe, by_student = unreadable.T
    invalid = by_student & ~stopped
    return {
        "probe": int(by_probe.sum()),
        "student": int(by_student.sum()),
        "invalid": int(invalid.sum()),
        "invalid_positive": int(np.sum(invalid & positive)),
    }


def _prefilter(spec: FilterSpec, articles: Sequence[LabelledArticle], overall: Array) -> Report:
    """What the prefilter would block of the test articles, and how many of those the labels call positive."""
    prefilter = Prefilter(spec)
    results = [prefilter.check(article.cleaned) for article in articles]
    blocked = np.array([result.blocked_by is not None for result in results], dtype=bool)
    return {
        "blocked": int(blocked.sum()),
        "blocked_positive": int(np.sum(blocked & (overall >= spec.operating_overall))),
        "shadowed": sum(bool(result.shadows) for result in results),
    }
