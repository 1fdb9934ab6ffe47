"""Where the student errs: by the oracle's overall, by length, and the twelve worst articles."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from distillery_trainer.data.labels import LabelledArticle
from distillery_trainer.report import page
from distillery_trainer.report.charts import mean_of, single
from distillery_trainer.report.facts import Facts, in_words
from distillery_trainer.report.page import Cell
from distillery_trainer.report.svg import Axis, Drawing, from_zero

Array = NDArray[np.float64]

WORST = 12
COLUMNS = 8  # more dimensions find no room on paper: those with the largest errors
LENGTH_BINS = 5
LONGEST = 120  # characters of a title or source


def section(facts: Facts) -> str:
    """Error by score band and by length."""
    title = "Where does the student err?"
    found = facts.predictions
    errors = np.abs(found.student.scores - found.labels).mean(axis=1)
    lengths = _lengths(np.array(found.tokens), np.array(found.truncated))
    label, _, student = facts.overall
    bands = np.minimum(label.astype(np.int64), 9)
    by_band = [(f"{band}–{band + 1}", bands == band) for band in range(10) if np.any(bands == band)]
    return page.section(
        title,
        page.figure(_bars(facts, errors, by_band, "the oracle's overall"), _band_caption(label, student)),
        page.figure(
            _bars(facts, errors, lengths, "tokens read"),
            LENGTH_CAPTION,
        ),
    )


LENGTH_CAPTION = (
    "Mean error by the article's length, in tokens (word pieces) that the student read, with about as many articles "
    "in each bar. The last bar, where there is one, holds articles that were too long: the student read their "
    "beginning and end only. Where short articles are worse, there is too little in them to judge, for the oracle "
    "too."
)


def _band_caption(label: Array, student: Array) -> str:
    high = label >= np.quantile(label, 0.9)
    bias = float((student - label)[high].mean())
    direction = "too low" if bias < 0 else "too high"
    return (
        "Mean error by the overall that the oracle gave, with its 95 % interval; below each bar the number of "
        "articles. Bars that rise to the right mean that the best articles are judged worst, which is usual where "
        "they are rare. On the tenth of the articles that the oracle likes most, the student's overall is "
        f"{abs(bias):.2f} points {direction} on average."
    )


def _lengths(tokens: NDArray[np.int64], truncated: NDArray[np.bool_]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Whole articles by length, and those of which a part was left out."""
    whole = tokens[~truncated]
    kinds: list[tuple[str, NDArray[np.bool_]]] = []
    if len(whole):
        edges = np.unique(np.quantile(whole, np.linspace(0, 1, LENGTH_BINS + 1)).round().astype(np.int64))
        for low, high in pairwise(edges.tolist()):
            last = high == edges[-1]
            inside = ~truncated & (tokens >= low) & ((tokens <= high) if last else (tokens < high))
            kinds.append((f"{low}–{high if last else high - 1}", inside))
        if len(edges) == 1:
            kinds.append((str(edges[0]), ~truncated))
    return [(name, kind) for name, kind in [*kinds, ("cut", truncated)] if np.any(kind)]


def _bars(facts: Facts, errors: Array, kinds: Sequence[tuple[str, NDArray[np.bool_]]], what: str) -> Drawing:
    groups = np.array(facts.predictions.groups)
    bins = [mean_of(errors[kind], groups[kind].tolist(), facts.seed) for _, kind in kinds]
    alt = f"Mean error by {what}: " + "; ".join(
        f"{name}: {found.mean:.2f} ({found.count} articles)" for (name, _), found in zip(kinds, bins, strict=True)
    )
    y = from_zero(max(found.high for found in bins), "mean error in score points (MAE)")
    plot = single(alt, Axis(0, len(bins), (), f"{what}  (n: articles)"), y, height=150)
    for place, ((name, _), found) in enumerate(zip(kinds, bins, strict=True)):
        plot.bar(place + 0.18, place + 0.82, found.mean, "light")
        if found.count > 1:
            plot.whisker(place + 0.5, found.low, found.high)
        plot.label(place + 0.5, 0, f"{name}  (n {found.count})", "middle", (0, 15))
    return plot.drawing


def worst_section(facts: Facts) -> str:
    """The twelve articles with the largest error: title, source and link where they are known, and never a text."""
    title = "The twelve worst articles"
    found = facts.predictions
    errors = np.abs(found.student.scores - found.labels).mean(axis=1)
    label, probe, student = facts.overall
    order = np.lexsort((np.array(found.ids), -errors))[:WORST]
    distances = np.abs(found.student.scores - found.labels)[order].mean(axis=0)
    shown = np.sort(np.argsort(-distances, kind="stable")[:COLUMNS]).tolist()
    names = [in_words(facts.spec.dimension_names[place]) for place in shown]
    known = facts.labelled.articles if facts.labelled and facts.titles else ()
    articles = {article.id: _article(article) for article in known}
    rows = [
        [
            articles.get(found.ids[i]) or Cell(found.ids[i]),
            Cell(f"{errors[i]:.1f}"),
            Cell(_pair(label[i], student[i])),
            Cell(f"{probe[i]:.1f}"),
            *(Cell(_pair(found.labels[i, place], found.student.scores[i, place])) for place in shown),
        ]
        for i in order
    ]
    head = ["Article", "Error", "Overall", "By the probe", *names]
    return page.section(
        title,
        page.paragraph(
            "The test articles with the largest mean error. Each pair is the oracle's score → the student's. Read a "
            "few of them: it may be the oracle that erred, or an article that holds two stories. If they have "
            "something in common, that is what the next labels should cover."
        ),
        page.table(head, rows, "wide"),
    )


def _article(article: LabelledArticle) -> Cell:
    """An article by its title, linked where it has an address; its id and source below."""
    title, source = _shortened(article.cleaned.title), _shortened(article.fields.get("source", ""))
    below = ", ".join(part for part in (article.id if title else "", source) if part)
    return Cell(title or article.id, below, article.link)


def _shortened(words: str) -> str:
    """Words on one line, without characters that nobody sees."""
    shown = " ".join("".join(char if char.isprintable() else " " for char in words).split())
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def _pair(label: float, said: float) -> str:
    return f"{label:.1f} → {said:.1f}"
