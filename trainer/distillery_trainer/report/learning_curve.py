"""Learning curves: the error of cheap models by number of training articles, and the student's by epoch.

Cheap models are fitted again on parts of the training articles, to see whether more labels are worth it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distillery_trainer.evaluate import baselines, metrics
from distillery_trainer.models.heads import HeadData, fit_ridge
from distillery_trainer.models.protocol import FitData
from distillery_trainer.report import page
from distillery_trainer.report.charts import legend, multiples, single
from distillery_trainer.report.facts import Facts, Lesson, percent
from distillery_trainer.report.svg import Axis, from_zero

SHARES = (0.125, 0.25, 0.5, 1.0)
MIN_ARTICLES = 8
WORTH = 0.02  # of the error, that doubling the labels must take away

Matrix = NDArray[np.float32]


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
    return Lesson(name, points, float(gains.mean()), found)


def labelling_section(facts: Facts) -> str:
    """The learning curves, with the answer in words."""
    title = "Is more labelling worth it?"
    if not facts.lessons:
        reason = "Not shown: the labels files or the probe's base model are not at hand, or have changed since the fit."
        return page.section(title, page.absent(reason))
    lessons = facts.lessons
    alt = "Test error after learning from more and more articles: " + "; ".join(
        f"{lesson.name}: {', '.join(f'{mae:.2f} from {size:,}' for size, mae in lesson.points)}" for lesson in lessons
    )
    sizes = [size for size, _ in lessons[0].points]
    x = Axis(0, sizes[-1], sizes, "training articles")
    plot = single(
        alt, x, from_zero(max(p[1] for lesson in lessons for p in lesson.points), "mean error (MAE)"), legend=True
    )
    styles = ("plain", "probe")
    entries = [(style, "both", lesson.name) for style, lesson in zip(styles, lessons, strict=True)]
    legend(plot.drawing, [*entries, ("student", "dot", "the student, on all")])
    for lesson, style in zip(lessons, styles, strict=True):
        plot.line(lesson.points, style)
        plot.dots(lesson.points, style)
    plot.dots([(sizes[-1], facts.evaluation.total.student.mae)], "student", 5)
    return page.section(title, page.paragraph(verdict(lessons[-1])), page.figure(plot.drawing, CAPTION))


CAPTION = (
    "Two cheap models, fitted again on an eighth, a quarter, half and all of the training articles, and asked about "
    "the same test articles each time. Where a line still falls at its right end, more labels will help; where it "
    "has become flat, they will not, and better labels or a larger model may. The student itself is too dear to be "
    "trained four times; it usually gains at least as much from more labels as these do."
)


def verdict(lesson: Lesson) -> str:
    """Whether the last doubling of the labels helped, and what that means for the next one."""
    (before, _), (after, mae) = lesson.points[-2:] if len(lesson.points) > 1 else (lesson.points[0], lesson.points[0])
    share = lesson.gain / (mae + lesson.gain) if mae + lesson.gain else 0.0
    found = f"From {before:,} to {after:,} training articles the error of {lesson.name} "
    if lesson.interval is None or before == after:
        return "There are too few training articles to tell."
    low, high = lesson.interval
    change = f"{'fell' if lesson.gain >= 0 else 'rose'} by {abs(lesson.gain):.3f} points ({percent(abs(share))}; "
    changed = f"{change}95 % interval {low:.3f} to {high:.3f}). "
    if low > 0 and share >= WORTH:
        return f"Yes. {found}{changed}Twice as many labels can be expected to bring a little less than that once more."
    if low > 0:
        return f"Hardly. {found}{changed}Twice as many labels would bring less than that."
    return (
        f"No gain can be seen. {found}{changed}Zero is in the interval: look for better labels or a better model first."
    )


def training_section(facts: Facts) -> str:
    """Loss and validation error by epoch."""
    title = "Did the training go well?"
    history = facts.history
    if history is None or not history["epochs"]:
        return page.section(
            title, page.absent("Left out: this kind of student is not trained in epochs that are recorded.")
        )
    epochs, best = history["epochs"], history["best_epoch"]
    xs = [epoch["epoch"] for epoch in epochs]
    step = -(-len(xs) // 10)
    x = Axis(xs[0] - 0.3, xs[-1] + 0.3, xs[::step], "epoch")
    rows = {
        name: [(e["epoch"], e[key]) for e in epochs]
        for name, key in (("Training loss", "train_loss"), ("Validation error (MAE)", "val_mae"))
    }
    alt = "By epoch: " + "; ".join(
        f"{name} {', '.join(f'{v:.3f}' for _, v in points)}" for name, points in rows.items()
    )
    drawing, plots = multiples(
        alt, list(rows), x, from_zero(max(v for points in rows.values() for _, v in points), ""), columns=2
    )
    for plot, points in zip(plots, rows.values(), strict=True):
        plot.line(points, "student")
        plot.dots(points, "student")
    kept = next((point for point in rows["Validation error (MAE)"] if point[0] == best), None)
    if kept:
        plots[1].dots([kept], "student", 6)
    caption = (
        "Left: how far the student was from the labels that it was learning, after each pass over them (epoch). "
        f"Right: its error on articles that it did not learn from; the large dot is epoch {best}, which was kept. If "
        "the right line still falls at its end, more epochs would help; if it rises while the left one falls, the "
        "student has begun to learn the articles by heart, and stopping there was right."
    )
    return page.section(title, page.figure(drawing, caption))
