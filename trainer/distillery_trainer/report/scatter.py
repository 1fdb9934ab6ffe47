"""Predicted against oracle, article by article, and what calibration changed."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.calibration import CalibrationMap
from distillery_trainer.data.predictions import Predictions
from distillery_trainer.report import page
from distillery_trainer.report.charts import binned, legend, multiples
from distillery_trainer.report.facts import Facts, in_words
from distillery_trainer.report.svg import SCORES, Axis, Drawing, Plot, Point, scores

Array = NDArray[np.float64]

WHOLE_SCORES = np.arange(-0.5, 11, 1.0)  # a dimension's labels are mostly whole: each in the middle of its bin
HALF_POINTS = np.arange(0, 10.5, 0.5)  # tiers begin at an edge, so that no bubble lies on both sides
HEIGHTS = {2: 240.0, 3: 178.0}  # of a plot, by how many stand side by side
BINS = 8
MIN_IN_BIN = 5
METHODS = {
    "identity": "unchanged",
    "affine": "a straight line",
    "isotonic": "rising steps",
    "centred_isotonic": "a rising curve",
}


def section(facts: Facts) -> str:
    """Bubbles of predicted against oracle, overall and by dimension."""
    title = "Where do the student and the oracle agree?"
    found = facts.predictions
    label, probe, student = facts.overall
    columns = list(zip(found.labels.T, found.student.scores.T, strict=True))
    both, halves = _drawing(["Overall, by the student", "Overall, by the probe"], [(label, student), (label, probe)], 2)
    for plot, said, style in zip(halves, (student, probe), ("student", "probe"), strict=True):
        _bubbles(plot, label, said, HALF_POINTS, style)
        _quarters(plot, facts.spec.operating_overall)
    each, plots = _drawing([in_words(name) for name in facts.spec.dimension_names], columns, 3)
    for plot, (true, answers) in zip(plots, columns, strict=True):
        _bubbles(plot, true, answers, WHOLE_SCORES, "student")
    return page.section(title, page.figure(both, CAPTION), page.figure(each, DIMENSIONS_CAPTION))


CAPTION = (
    "Each bubble holds the test articles to which the oracle gave about one overall (across) and the model another "
    "(up); the larger, the more articles. On the broken line both agree. The two thin lines are where the operating "
    "tier begins: what lies to the right of one and below the other is missed, what lies to the left and above is "
    "announced though the oracle would not."
)
DIMENSIONS_CAPTION = (
    "The same for each dimension, by the student. Where the bubbles make a flat band instead of a slope, the "
    "student has not learnt to tell articles apart in this dimension."
)


def _drawing(titles: Sequence[str], pairs: Sequence[tuple[Array, Array]], columns: int) -> tuple[Drawing, list[Plot]]:
    alt = "Model's score against the oracle's, as bubbles: " + "; ".join(
        f"{name} mean error {np.abs(a - b).mean():.2f}" for name, (a, b) in zip(titles, pairs, strict=True)
    )
    x, y = (Axis(-0.5, 10.5, SCORES, name) for name in ("oracle", "model"))
    drawing, plots = multiples(alt, titles, x, y, columns=columns, height=HEIGHTS[columns])
    for plot in plots:
        plot.guide((0, 0), (10, 10))
    return drawing, plots


def _bubbles(plot: Plot, true: Array, said: Array, edges: Array, style: str) -> None:
    middles = (edges[:-1] + edges[1:]) / 2
    counts = np.zeros((len(middles), len(middles)), dtype=np.int64)
    np.add.at(counts, (binned(true, edges), binned(said, edges)), 1)
    largest = 0.6 * plot.height / 11 * float(np.sqrt(edges[1] - edges[0]))
    for (column, row), count in np.ndenumerate(counts):
        if count:
            radius = max(largest * float(np.sqrt(count / counts.max())), 1.2)
            plot.dots([(float(middles[column]), float(middles[row]))], f"{style} bubble", radius)


def _quarters(plot: Plot, start: float) -> None:
    """Lines where the operating tier begins, and what the quarters between them mean."""
    plot.drawing.line(plot.place(start, plot.y.low), plot.place(start, plot.y.high), "tier")
    plot.drawing.line(plot.place(plot.x.low, start), plot.place(plot.x.high, start), "tier")
    plot.label(plot.x.high, plot.y.low, "missed", "end", (-6, -7))
    plot.label(plot.x.high, plot.y.high, "found", "end", (-6, 14))
    plot.label(plot.x.low, plot.y.high, "announced wrongly", "start", (6, 14))


def calibration_section(facts: Facts) -> str:
    """The maps with the oracle's means beside them, and how far scores lie from labels before and after."""
    title = "Do the scores mean what they say?"
    found = facts.predictions
    names = [in_words(name) for name in facts.spec.dimension_names]
    before, after = (
        np.abs(found.student_raw - found.labels).mean(),
        np.abs(found.student.expected - found.labels).mean(),
    )
    low, high = min(0.0, float(np.floor(found.student_raw.min()))), max(10.0, float(np.ceil(found.student_raw.max())))
    alt = f"Calibration maps of {len(names)} dimensions. Mean error {before:.2f} before calibration, {after:.2f} after."
    raw = Axis(low, high, SCORES, "student's raw output")
    drawing, plots = multiples(alt, names, raw, scores("score"), height=140, legend=True)
    legend(
        drawing,
        [
            ("after", "line", "the map: raw output to score"),
            ("before", "dot", "what the oracle gave, on average"),
            ("guide", "line", "unchanged"),
        ],
    )
    for place, (plot, knots) in enumerate(zip(plots, facts.read_out.maps.expected.maps, strict=True)):
        plot.guide((0, 0), (10, 10))
        plot.drawing.path([plot.place(x, y) for x, y in _curve(knots, raw)], "after")
        plot.dots(_means(found.student_raw[:, place], found.labels[:, place]), "before")
        plot.label(raw.high, 0, METHODS.get(knots.method, knots.method), "end", (-4, -6))
    return page.section(
        title,
        page.figure(drawing, _map_caption(float(before), float(after))),
        _reliability(found, names),
    )


def _map_caption(before: float, after: float) -> str:
    return (
        "Calibration turns the student's raw output (across) into a score (up), by one rising curve for each "
        "dimension, learnt on other articles than these. The rings are groups of test articles: their mean raw "
        "output, and the mean score that the oracle gave them. The curve should run through the rings. A dimension "
        f"is left unchanged where no curve was proved to help. Calibration changed the mean error from {before:.3f} "
        f"to {after:.3f}."
    )


def _reliability(found: Predictions, names: Sequence[str]) -> str:
    gaps = [_gap(found, place) for place in range(len(names))]
    alt = "Oracle's mean score against the student's, before and after calibration: mean distance " + "; ".join(
        f"{name} {before:.2f} before, {after:.2f} after" for name, (before, after) in zip(names, gaps, strict=True)
    )
    drawing, plots = multiples(alt, names, scores("student's score"), scores("oracle's mean"), height=140, legend=True)
    legend(
        drawing,
        [
            ("before", "both", "before calibration"),
            ("after", "both", "after calibration"),
            ("guide", "line", "exactly right"),
        ],
    )
    for place, plot in enumerate(plots):
        plot.guide((0, 0), (10, 10))
        for values, style in ((np.clip(found.student_raw, 0, 10), "before"), (found.student.expected, "after")):
            points = _means(values[:, place], found.labels[:, place])
            plot.line(points, style)
            plot.dots(points, style, 2.8)
    caption = (
        "The same, seen from the score: test articles in groups of like scores (across), and the mean that the "
        "oracle gave to each group (up). On the broken line, a score of 6 means what the oracle calls 6. Below it "
        "the student says too much, above it too little. Filled dots are what the models answer today."
    )
    return page.figure(drawing, caption)


def _gap(found: Predictions, place: int) -> tuple[float, float]:
    """The mean distance of the groups from the line, before and after."""
    labels = found.labels[:, place]
    before, after = (
        _means(np.clip(found.student_raw[:, place], 0, 10), labels),
        _means(found.student.expected[:, place], labels),
    )
    return _distance(before), _distance(after)


def _distance(points: Sequence[Point]) -> float:
    return float(np.mean([abs(x - y) for x, y in points])) if points else 0.0


def _curve(knots: CalibrationMap, axis: Axis) -> Iterator[Point]:
    """The map's corners, flat out to both ends of the axis."""
    yield axis.low, knots.y[0]
    yield from zip(knots.x, knots.y, strict=True)
    yield axis.high, knots.y[-1]


def _means(values: Array, labels: Array) -> list[Point]:
    """Mean value and mean label of groups of like values, about as many articles in each, the smallest left out."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    if len(edges) < 2:
        return [(float(values.mean()), float(labels.mean()))]
    places = binned(values, edges)
    groups = [places == place for place in range(len(edges) - 1)]
    return [(float(values[g].mean()), float(labels[g].mean())) for g in groups if g.sum() >= MIN_IN_BIN]
