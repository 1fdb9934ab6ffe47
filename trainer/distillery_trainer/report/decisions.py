"""What is found and what is missed: precision and recall at the tiers, and the cascade's cost against its misses."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.model import Tier
from distillery_runtime.spec.selection import Selection
from distillery_trainer.certify.certificate import statements
from distillery_trainer.report import page
from distillery_trainer.report.charts import legend, multiples, single
from distillery_trainer.report.facts import Facts, in_words, percent
from distillery_trainer.report.svg import Axis, Plot, Point, shares

Array = NDArray[np.float64]
Json = Mapping[str, Any]  # Any: nested JSON of known shape

# What a certificate rests on, in words.
DRAWN_FROM = {
    "calibration": "the calibration articles",
    "folds": "the labelled articles, each out of fold",
    "unlabelled": "the articles without labels",
}


def selection_section(facts: Facts) -> str:
    """The precision-recall curve of what is selected by chance, with the operating point and those of other aims."""
    title = "What is selected?"
    found, spec = facts.predictions, facts.spec
    finds = facts.overall[0] >= spec.operating_overall
    if not finds.any():
        return page.section(title, page.absent("No picture: the oracle places none of the test articles at the tier."))
    total, chosen = facts.evaluation.total, facts.selection
    point = total.student.finds
    alt = (
        f"Precision against recall of articles selected by their chance. Today: {point.predicted} selected, recall "
        f"{_share(point.recall)}, precision {_share(point.precision)}, F1 {point.f1}."
    )
    plot = single(alt, shares("found (recall)"), shares("right (precision)"), height=230, legend=True)
    legend(plot.drawing, [("student", "line", "student"), ("probe", "line", "probe")])
    for answers, style in ((found.probe, "probe"), (found.student, "student")):
        plot.line(curve(answers.chance, finds), style)
    if point.recall is not None and point.precision is not None:
        plot.dots([(point.recall, point.precision)], "student", 6.5)
        plot.label(point.recall, point.precision, f"today: F1 {point.f1:.2f}", "start", (10, -9))
    return page.section(title, page.paragraph(_chosen(chosen)), page.figure(plot.drawing, SELECTION_CAPTION))


SELECTION_CAPTION = (
    "Each model gives the chance that the oracle places an article at the operating tier. Along a line the chance from "
    "which articles are selected is lowered from left to right: more of the oracle's finds are selected, and more that "
    "are none. The large dot is where the operating point stands. It can be moved along the line without training "
    "anything again: distillery score --select min_recall=.9, or min_precision=.7, or chance=.3."
)


def _chosen(selection: Selection) -> str:
    """The operating point, and what it was chosen on."""
    basis = f"{selection.articles:,} articles with {selection.positives} finds ({selection.drawn_from})"
    if selection.chance is None:
        return f"Articles are selected by their tier, not by their chance. The curve rests on {basis}."
    chance = percent(selection.chance, 1)
    return f"Articles are selected from a chance of {chance} on, chosen for {selection.rule} on {basis}."


def _share(value: float | None) -> str:
    return "none" if value is None else percent(value)


def section(facts: Facts) -> str:
    """Precision-recall curves of student and probe at each tier, the tiers' own bars marked."""
    title = "What is found, what is missed by the tiers?"
    label, probe, student = facts.overall
    tiers = [tier for tier in facts.spec.tiers if tier.min_overall > 0]
    drawn = [tier for tier in tiers if np.any(label >= tier.min_overall)]
    left_out = [
        page.absent(f"No picture for “{in_words(tier.name)}”: the oracle places none of the test articles there.")
        for tier in tiers
        if tier not in drawn
    ]
    if not drawn:
        return page.section(title, *left_out)
    titles = [_title(tier, label) for tier in drawn]
    drawing, plots = multiples(
        _alt(drawn, label, student),
        titles,
        shares("found (recall)"),
        shares("right (precision)"),
        columns=2,
        height=210,
        legend=True,
    )
    legend(drawing, [("student", "line", "student"), ("probe", "line", "probe")])
    for plot, tier in zip(plots, drawn, strict=True):
        for said, style in ((probe, "probe"), (student, "student")):
            plot.line(curve(said, label >= tier.min_overall), style)
            _mark(plot, said, label, tier, style)
    return page.section(title, page.figure(drawing, CAPTION), *left_out)


CAPTION = (
    "The oracle's finds at a tier: how many of them a model finds (across), and how many of its own finds are right "
    "(up). Along a line the bar that an article must reach is lowered from left to right: more is found, less of it "
    "is right. The large dot (ring) is where the model stands today, with the tier's own bar. The upper right "
    "corner would be perfect. With few positives a line is jagged and proves little. A dot far left means that good "
    "articles are lost though the model ranks them well: a lower bar would find them."
)


def _title(tier: Tier, label: Array) -> str:
    count = int(np.sum(label >= tier.min_overall))
    return f"{in_words(tier.name)} ({tier.min_overall:g} and above), {count} positives"


def _alt(tiers: Sequence[Tier], label: Array, student: Array) -> str:
    points = [(tier, operating_point(student, label, tier.min_overall)) for tier in tiers]
    return "Precision against recall of student and probe. Student today: " + "; ".join(
        f"{in_words(tier.name)} finds nothing" if point is None else
        f"{in_words(tier.name)} recall {percent(point[0])}, precision {percent(point[1])}"
        for tier, point in points
    )  # fmt: skip


def _mark(plot: Plot, said: Array, label: Array, tier: Tier, style: str) -> None:
    point = operating_point(said, label, tier.min_overall)
    if point is None:
        shift = -18.0 if style == "student" else -32.0
        plot.label(1, 0, f"today the {style} finds nothing here", "end", (-4, shift + 8))
        return
    plot.dots([point], style, 6.5)


def curve(said: Array, true: NDArray[np.bool_]) -> list[Point]:
    """(recall, precision) at every threshold, strictest first: (N,) overalls; (N,) truths, one at least."""
    order = np.argsort(-said, kind="stable")
    hits = np.cumsum(true[order])
    last = np.append(np.diff(said[order]) != 0, True)  # articles of one score are found together
    found = np.arange(1, len(said) + 1)
    return [(float(h / hits[-1]), float(h / n)) for h, n in zip(hits[last], found[last], strict=True)]


def operating_point(said: Array, label: Array, threshold: float) -> Point | None:
    """(recall, precision) at a tier's own threshold; None where nothing is found."""
    found, true = said >= threshold, label >= threshold
    hits = int(np.sum(found & true))
    return (hits / int(true.sum()), hits / int(found.sum())) if found.any() and true.any() else None


def cascade_section(facts: Facts) -> str:
    """The share of articles that goes on to the student against the bound on what is missed, and the certificate."""
    title = "What does the cascade save, and what can it miss?"
    rows = facts.certificate.get("curve")
    said = page.paragraph(statements(facts.certificate))
    if not rows:
        return page.section(title, said, page.absent("No picture: certificate.json has no curve of thresholds."))
    whose = DRAWN_FROM[facts.certificate["drawn_from"]]
    target, chosen = facts.certificate["target_miss_rate"], facts.certificate["threshold"]
    x, y = shares("share of articles that goes on to the student"), _up_to(rows, target)
    alt = "Certified bound on the miss rate against the share that goes on to the student: " + "; ".join(
        f"chance below {percent(row['threshold'], 1)}: {percent(1 - row['share_below'])} go on, at most "
        f"{percent(row['upper_bound'], 1)} missed"
        for row in rows
    )
    plot = single(alt, x, y, height=230, legend=True)
    legend(
        plot.drawing,
        [
            ("after", "both", "missed at most (certified bound)"),
            ("before", "both", f"missed among {whose}"),
        ],
    )
    plot.guide((0, target), (1, target))
    plot.label(1, target, f"asked for: at most {target * 100:g} %", "end", (0, -5))
    points = [(1 - row["share_below"], row["upper_bound"]) for row in rows]
    seen = [(1 - row["share_below"], row["misses"] / row["positives"]) for row in rows if row["positives"]]
    for values, style in ((seen, "before"), (points, "after")):
        plot.line(values, style)
        plot.dots(values, style)
    for row, point in zip(rows, points, strict=True):
        if row["threshold"] == chosen:
            plot.dots([point], "after", 6.5)
            plot.label(*point, f"in use: chances below {percent(chosen, 1)}", "start", (10, -9))
    return page.section(title, said, page.figure(plot.drawing, _cascade_caption(rows, whose)))


def _up_to(rows: Sequence[Json], target: float) -> Axis:
    most = min(1.0, max(2.5 * target, min(row["upper_bound"] for row in rows) * 1.5))
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.25, 1.0) if most / step <= 5 or step == 1.0)
    count = int(np.ceil(most / step - 1e-9))
    return Axis(
        0, count * step, [round(i * step, 6) for i in range(count + 1)], "of the student's finds, missed", percent=True
    )


def _cascade_caption(rows: Sequence[Json], whose: str) -> str:
    positives = max(row["positives"] for row in rows)
    return (
        "Each dot is a threshold: below that chance of being kept by the student, which the probe's scores tell, the "
        "probe answers alone. Across: the share of all articles that still needs the student, which is what the "
        "cascade costs; further left is cheaper. Up: how many of the student's "
        f"finds would be lost at most (filled), and how many were lost among {whose} (rings). A "
        f"threshold may be used only where the filled line is below the broken one. The bound rests on {positives} "
        "finds: with more of them, the filled line comes down towards the rings. Dots above the frame lie on its "
        "edge."
    )
