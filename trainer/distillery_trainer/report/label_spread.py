"""What the oracle said: how its labels spread over the scale, and what they cost."""

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.verdict import overalls
from distillery_trainer.report import page
from distillery_trainer.report.charts import multiples, single
from distillery_trainer.report.facts import Facts, in_words
from distillery_trainer.report.svg import Drawing, Plot, from_zero, scores

Array = NDArray[np.float64]

BANDS = np.arange(11, dtype=np.float64)


def section(facts: Facts) -> str:
    """Histograms of the labels by dimension and of their overall."""
    labels, whose = _labels(facts)
    overall = _overall(facts, overalls(labels, facts.spec))
    return page.section(
        "What did the oracle say?",
        page.figure(overall, _caption(facts, len(labels), whose)),
        page.figure(_dimensions(facts, labels), DIMENSIONS_CAPTION),
        _cost(facts),
    )


DIMENSIONS_CAPTION = (
    "The same for each dimension. Where nearly all articles stand in one bar, a model can hardly learn the rest, "
    "and even one that always gives that score looks good."
)


def _overall(facts: Facts, overall: Array) -> Drawing:
    """The overall's histogram with the tiers' beginnings."""
    share = _shares(overall)
    alt = f"Histogram of the overall by the oracle's labels, mean {overall.mean():.1f}"
    plot = single(
        alt, scores("overall by the oracle's scores"), from_zero(100 * share.max(), "% of articles"), height=130
    )
    _bars(plot, share)
    for tier in facts.spec.tiers:
        if tier.min_overall > 0:
            plot.guide((tier.min_overall, 0), (tier.min_overall, plot.y.high))
            plot.label(tier.min_overall, plot.y.high, in_words(tier.name), "start", (5, 12))
    return plot.drawing


def _dimensions(facts: Facts, labels: Array) -> Drawing:
    names, shares = [in_words(name) for name in facts.spec.dimension_names], [_shares(column) for column in labels.T]
    alt = "Histograms of the oracle's scores: " + "; ".join(
        f"{name} mean {column.mean():.1f}" for name, column in zip(names, labels.T, strict=True)
    )
    axis = from_zero(max(share.max() for share in shares) * 100, "% of articles")
    drawing, plots = multiples(alt, names, scores("oracle's score"), axis, height=100)
    for plot, share in zip(plots, shares, strict=True):
        _bars(plot, share)
    return drawing


def _shares(values: Array) -> Array:
    """The share of articles in each band of one point."""
    counts = np.histogram(np.clip(values, 0, 9.999), BANDS)[0]
    return np.asarray(counts / len(values), dtype=np.float64)


def _labels(facts: Facts) -> tuple[Array, str]:
    if facts.labelled is not None:
        return facts.labelled.labels().astype(np.float64), "labelled articles"
    return facts.predictions.labels, "test articles"


def _bars(plot: Plot, share: Array) -> None:
    for band, value in enumerate(share):
        plot.bar(band + 0.08, band + 0.92, 100 * value, "light")


def _caption(facts: Facts, count: int, whose: str) -> str:
    tiers = [f"“{in_words(tier.name)}” from {tier.min_overall:g}" for tier in facts.spec.tiers if tier.min_overall > 0]
    return (
        f"How the overall of {count:,} {whose} spreads, as the oracle scored them: each bar is the share of articles "
        "with an overall between its two ends (a 10 counts with the last). The broken lines are where the tiers "
        f"begin: {', '.join(tiers)}. A model learns well what it sees often: what lies to the right of a line, and "
        "is rare, is hard to find."
    )


def _cost(facts: Facts) -> str:
    if facts.labelled is None:
        return page.absent("The cost of the labels is left out: the labels files are not at hand.")
    costs = [article.cost_usd for article in facts.labelled.articles if article.cost_usd is not None]
    if not costs:
        return page.absent("The cost of the labels is left out: no label carries a cost_usd.")
    total = float(np.sum(costs))
    return page.paragraph(
        f"The labels cost {total:,.2f} US dollars ({len(costs):,} of {len(facts.labelled.articles):,} articles carry "
        f"their cost), which is {1000 * total / len(costs):,.2f} dollars for a thousand articles. The models answer "
        "without the oracle."
    )
