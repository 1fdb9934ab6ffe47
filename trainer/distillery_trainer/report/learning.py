"""Whether more labelling is worth it: cheap models fitted again on parts of the training articles."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distillery_trainer.evaluate import baselines, metrics
from distillery_trainer.models.heads import HeadData, fit_ridge
from distillery_trainer.models.protocol import FitData

SHARES = (0.125, 0.25, 0.5, 1.0)
MIN_ARTICLES = 8

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Lesson:
    """A cheap model's test MAE after learning from more and more articles.

    `points`: (articles, MAE), ascending. `gain`: by how much the last doubling lowered the MAE, `interval` its 95 %
    interval by group bootstrap of the same test articles; None where it is not defined.
    """

    name: str
    points: tuple[tuple[int, float], ...]
    gain: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The probe's embeddings of the training, validation and test articles: (N, H) float32 each."""

    train: Matrix
    val: Matrix
    test: Matrix


@dataclass(frozen=True, slots=True)
class Exam:
    """The test articles: texts, labels (N, D) in [0, 10], and near-duplicate groups."""

    texts: Sequence[str]
    labels: Matrix
    groups: Sequence[str]


def learn(data: FitData, embeddings: Embeddings, exam: Exam, seed: int) -> tuple[Lesson, ...]:
    """Learning curves of the TF-IDF ridge and of a ridge on the probe's embeddings, both quick to fit."""
    order = np.random.default_rng(seed).permutation(len(data.train_texts))
    counts = sorted({max(MIN_ARTICLES, round(share * len(order))) for share in SHARES})
    parts = [np.sort(order[:count]) for count in counts if count <= len(order)]
    words = [baselines.tfidf_ridge(_part(data, places), exam.texts) for places in parts]
    embedded = [_embedded(data, embeddings, places) for places in parts]
    sizes = [len(places) for places in parts]
    return (
        _lesson("counting words (TF-IDF ridge)", sizes, words, exam, seed),
        _lesson("a ridge on the probe's embeddings", sizes, embedded, exam, seed),
    )


def _part(data: FitData, places: NDArray[np.int64]) -> FitData:
    weights = None if data.train_weights is None else data.train_weights[places]
    texts = [data.train_texts[i] for i in places]
    return replace(data, train_texts=texts, train_labels=data.train_labels[places], train_weights=weights)


def _embedded(data: FitData, embeddings: Embeddings, places: NDArray[np.int64]) -> Matrix:
    part = _part(data, places)
    rows = HeadData(embeddings.train[places], part.train_labels, embeddings.val, data.val_labels, part.train_weights)
    return np.clip(fit_ridge(rows).predict(embeddings.test), 0, 10)


def _lesson(name: str, sizes: Sequence[int], answers: Sequence[NDArray[np.floating]], exam: Exam, seed: int) -> Lesson:
    errors = [np.abs(np.asarray(a, np.float64) - exam.labels).mean(axis=1) for a in answers]
    points = tuple((size, float(error.mean())) for size, error in zip(sizes, errors, strict=True))
    gains = errors[-2] - errors[-1] if len(errors) > 1 else np.zeros(len(errors[0]))
    found = metrics.group_interval(metrics.weighted_mean(gains), exam.groups, seed)
    return Lesson(name, points, float(gains.mean()), (found[0], found[1]) if found else None)
