"""Evaluation on the test split: every system on the same articles, with intervals, slices and baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.prefilter import Prefilter
from distillery_runtime.spec import FilterSpec, Slice
from distillery_runtime.verdict import overalls
from distillery_trainer import baselines, metrics
from distillery_trainer.backends.protocol import FitData
from distillery_trainer.labels import LabelledArticle, LabelledSet
from distillery_trainer.metrics import Array, Report

MIN_SLICE = 10


@dataclass(frozen=True, slots=True)
class Evidence:
    """The test articles with their groups, the calibrated scores (N, D) of both stages, and the routing threshold."""

    articles: LabelledSet
    groups: Sequence[str]
    probe: NDArray[np.float32]
    student: NDArray[np.float32]
    threshold: float | None


def evaluate(spec: FilterSpec, data: FitData, evidence: Evidence, seed: int) -> Report:
    """The content of `eval.json`. Free of times and paths, so that the same run gives the same bytes."""
    labels = evidence.articles.labels().astype(np.float64)
    stopped = probe_answers(evidence.probe, evidence.threshold, spec)
    systems: dict[str, Array] = {
        "constant": baselines.constant(data, evidence.articles.texts),
        "tfidf_ridge": baselines.tfidf_ridge(data, evidence.articles.texts),
        "probe": evidence.probe.astype(np.float64),
        "student": evidence.student.astype(np.float64),
        "cascade": np.where(stopped[:, None], evidence.probe, evidence.student).astype(np.float64),
    }
    parts = {"total": list(range(len(labels)))} | _slices(spec.evaluation.slices, evidence.articles.articles)
    return {
        "schema_version": 1,
        "filter": spec.label,
        "backend": spec.student.backend,
        "split_sizes": {"train": len(data.train_texts), "val": len(data.val_texts), "test": len(labels)},
        "parts": {
            name: _part(spec, systems, labels, places, evidence.groups, seed)
            for name, places in parts.items()
            if len(places) >= MIN_SLICE or name == "total"
        },
        "cascade": {
            "threshold": evidence.threshold,
            "share_probe": metrics.rounded(stopped.mean()),
            "missed": _missed(systems, spec, stopped),
        },
        "prefilter": _prefilter(spec, evidence.articles.articles, overalls(labels, spec)),
    }


def probe_answers(probe: NDArray[np.floating], threshold: float | None, spec: FilterSpec) -> NDArray[np.bool_]:
    """Which articles the cascade leaves with the probe: (N,) bool."""
    return overalls(probe, spec) < (-1.0 if threshold is None else threshold)


def _part(
    spec: FilterSpec,
    systems: Mapping[str, Array],
    labels: Array,
    places: Sequence[int],
    groups: Sequence[str],
    seed: int,
) -> Report:
    chosen = np.array(places, dtype=np.int64)
    kept_groups = [groups[i] for i in places]
    return {name: _system(spec, scores[chosen], labels[chosen], kept_groups, seed) for name, scores in systems.items()}


def _system(spec: FilterSpec, scores: Array, labels: Array, groups: Sequence[str], seed: int) -> Report:
    report = metrics.describe(scores, labels, spec)
    said, true = overalls(scores, spec), overalls(labels, spec)
    thresholds = {tier.name: tier.min_overall for tier in spec.tiers[:-1]}
    report["tiers"] = metrics.decisions(said, true, thresholds)
    errors = np.abs(scores - labels).mean(axis=1)
    recall = metrics.weighted_recall(said, true, spec.operating_overall)
    report["intervals"] = {
        "mae": metrics.group_interval(metrics.weighted_mean(errors), groups, seed),
        f"recall_{spec.operating_tier}": metrics.group_interval(recall, groups, seed),
    }
    return report


def _slices(slices: Sequence[Slice], articles: Sequence[LabelledArticle]) -> dict[str, list[int]]:
    return {s.name: [i for i, article in enumerate(articles) if in_slice(s, article.fields)] for s in slices}


def in_slice(part: Slice, fields: Mapping[str, str]) -> bool:
    """Whether an article with these fields belongs to a slice."""
    value = fields[part.field]
    return part.includes in value and (part.excludes is None or part.excludes not in value)


def _missed(systems: Mapping[str, Array], spec: FilterSpec, stopped: NDArray[np.bool_]) -> Report:
    """How many of the student's finds the probe dropped on the test split, a check of the certificate."""
    found = overalls(systems["student"], spec) >= spec.operating_overall
    return {"student_positives": int(found.sum()), "dropped": int(np.sum(found & stopped))}


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
