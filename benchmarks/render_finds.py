"""docs/results.md: what models find of an oracle's finds, from finds-*.json; what they miss beside it."""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.render_results import Json, Result, Results
from benchmarks.render_text import fixed, percent, table

PAGE = "results.md"
NAMES = {"tfidf_ridge": "counting words (TF-IDF)", "static": "word weights", "student": "this model"}
HEAD = """# Results: what is found

Written by `python benchmarks/run.py --render-only` from `benchmarks/results/finds-*.json`, which
`benchmarks/finds.py` keeps of finished runs; a test holds page and files together. None of the texts is in this
repository.

A filter is there to find. Four filters were labelled by one careful reader (its two readings differ by 0.13 points):
few articles are finds, and many were picked because a model rated them high, so shares here are not those of a
stream. Each article is judged by models that never saw it, its near-duplicates or their labels: five folds, the same
for all filters, with read-out, chance and operating point chosen on the other four. **Recall** is the share of the
oracle's finds that is selected, **precision** the share of the selected that the oracle shares, **F1** their harmonic
mean, **AP** how well finds are ranked. Intervals are 95 %, by bootstrap over near-duplicate groups. With 29 to 150
finds an F1 is known to about a tenth; read differences of less as none.

More on one large set of labels by another oracle: [results in detail](results-in-detail.md).

"""
READING = """## How to read this

- The tier rule compares the model's scores with the tier, as was done before there was an operating point. It misses
  most finds: a model is too careful to give a rare article as much as the oracle does.
- Weighted, each article counts one over the probability with which it was drawn (1 for those that were picked): nearer
  to what a stream gives, and resting on a few finds that were drawn at random.
- The settings of e5-joint (layers, window, number of networks) and of the word weights (views, penalty, bars) were
  chosen on these same folds, after others had been tried on them: their figures are the better for it, by how much is
  not known. "One threshold for all folds" is the best on the very articles it is judged by: a ceiling, no forecast.
- An operating point can be moved after the fact: `distillery score --select min_recall=.9`.
- MAE says little where finds are rare: most articles are of no interest, and the best constant answer is nearly right
  on them. The slope is that of the model's overall on the oracle's: 1 would spread as the oracle does.

"""


def page(results: Results) -> Mapping[str, str]:
    """The page by its path below docs/; nothing where there are no results of this kind."""
    runs = results["finds"]
    if not runs:
        return {}
    lines = [line for part in (_found, _origins, _beside, _errors, _cascades) for line in part(runs)]
    return {PAGE: HEAD + "\n".join(lines) + READING}


def _found(runs: Sequence[Result]) -> Iterator[str]:
    yield "## What is found\n"
    for run in runs:
        yield f"**{run.subject}**: {run.record['note']}\n"
        rows = [
            [
                row["filter"],
                fixed(row["operating_overall"], 1),
                f"{row['positives']} of {row['articles']}",
                *_shares(row["systems"]["student"]),
                fixed(row["systems"]["student"]["average_precision"], 2),
                _point(row["best"]),
                _point(row["tier_rule"]),
                _point(row["systems"]["student"].get("weighted") or None, "–"),
            ]
            for row in run.rows
        ]
        columns = ["filter", "finds from", "finds", "recall", "precision", "F1", "AP"]
        more = ["with one threshold for all folds", "by the tier rule", "weighted by the odds of being drawn"]
        yield table([*columns, *more], rows)
        yield ""


def _shares(system: Json) -> list[str]:
    intervals = system["intervals"]
    return [
        f"{percent(system[key])}{_between(intervals[key], 100)}"
        if key != "f1"
        else f"{fixed(system[key], 2)}{_between(intervals[key], 1)}"
        for key in ("recall", "precision", "f1")
    ]


def _between(interval: Sequence[float] | None, scale: int) -> str:
    if interval is None:
        return ""
    decimals = 0 if scale == 100 else 2
    return f" ({scale * interval[0]:.{decimals}f} to {scale * interval[1]:.{decimals}f})"


def _point(point: Json | None, without: str = "nothing is selected") -> str:
    if point is None or point["f1"] is None:
        return without
    return f"F1 {fixed(point['f1'], 2)} ({percent(point['recall'])} / {percent(point['precision'])})"


def _origins(runs: Sequence[Result]) -> Iterator[str]:
    rows = [
        [run.subject, row["filter"], *(
            cell for own in row["origins"].values()
            for cell in (f"{own['positives']} of {own['articles']}", f"{own['hits']} of {own['selected']}")
        )]
        for run in runs for row in run.rows if row["origins"]
    ]  # fmt: skip
    if not rows:
        return
    yield "## By how articles came in\n"
    yield "Drawn at random, or picked: as they are like examples, or as a model rated them high.\n"
    columns = ["finds of those drawn", "right of selected", "finds of those picked", "right of selected"]
    yield table(["model", "filter", *columns], rows)
    yield ""


def _beside(runs: Sequence[Result]) -> Iterator[str]:
    yield "## Beside what costs nothing\n"
    yield (
        "F1 and AP with the same read-out, chance and choice of the operating point. TF-IDF has a logistic head on the "
        "find too. What a static model finds is what its word weights find.\n"
    )
    rows = [
        [run.subject, row["filter"], *(_f1_and_ap(row, name) for name in NAMES)]
        for run in runs for row in run.rows
    ]  # fmt: skip
    yield table(["model", "filter", *NAMES.values()], rows)
    yield ""


def _f1_and_ap(row: Json, name: str) -> str | None:
    own = row["systems"][name]
    if name == row["backend"]:
        return None  # finds of a static student are those of its word weights
    return f"{fixed(own['f1'], 2)}, AP {fixed(own['average_precision'], 2)}"


def _errors(runs: Sequence[Result]) -> Iterator[str]:
    yield "## How far scores are from labels\n"
    rows = [
        [run.subject, row["filter"], fixed(row["systems"]["constant"]["mae"], 3),
         fixed(row["systems"]["tfidf_ridge"]["mae"], 3), fixed(student["mae"], 3), fixed(student["rmse"], 3),
         fixed(student["spearman"], 2), fixed(student["slope"], 2)]
        for run in runs for row in run.rows for student in [row["systems"]["student"]]
    ]  # fmt: skip
    yield table(
        ["model", "filter", "MAE of the best constant", "MAE of TF-IDF", "MAE", "RMSE", "Spearman", "slope"], rows
    )
    yield ""


def _cascades(runs: Sequence[Result]) -> Iterator[str]:
    yield "## What the cascade finds from end to end\n"
    yield "Of the oracle's finds that the prefilter lets through, one of each near-duplicate group.\n"
    rows = [
        [run.subject, row["filter"], percent(row["share_probe"]), f"{row['found']['by_student']}",
         f"{row['found']['selected']} of {row['found']['positives']}",
         _between(row["found"]["interval"], 100).strip(" ()") or None, row["found"]["positives_for_a_tenth"]]
        for run in runs for row in run.rows
    ]  # fmt: skip
    yield table(
        ["model", "filter", "answered by the probe", "student alone", "cascade", "interval, %",
         "finds that make it a tenth wide"], rows
    )  # fmt: skip
    yield ""
