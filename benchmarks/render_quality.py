"""The page's section on how well whole cascades learn: each model's error on test articles that it never saw."""

from collections.abc import Iterator

from benchmarks.render_results import Json, Result, Results
from benchmarks.render_text import Cell, figure, fixed, not_measured, table

COMMAND = "trainer fit --filter FILTER --labels FILE"
HEADER = ("part", "model", "articles", "MAE", "95 %", "overall MAE", "overall Spearman")


def section(results: Results) -> str:
    """The section."""
    intro = (
        "Mean absolute error of scores, in points, to the oracle's labels, with a bootstrap interval by "
        "near-duplicate group; a cascade is worth something where it is clearly below `tfidf_ridge` "
        "([evaluation](formats/eval.md)).\n"
    )
    parts = [_cascade(result) for result in results["cascade"]] or [not_measured(COMMAND)]
    return "\n".join(["## How well cascades learn\n", intro, *parts])


def _cascade(result: Result) -> str:
    record = result.record
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in record["settings"].items())
    pool = record["pool"]
    speed = (
        f"{pool['articles']} articles scored in {figure(pool['seconds'])} s ({figure(pool['articles_per_second'])}/s)"
        f"{', by a bundle of the old split' if pool.get('split_version', 1) < record.get('split_version', 1) else ''}"
    )
    return "\n".join(
        [
            f"### {result.name}{' (old split)' if result.is_of_old_split else ''}\n",
            table(HEADER, list(_rows(record["evaluation"]["parts"]))),
            f"{record['certificate']['statement']}\n",
            f"Measured by {record['what']} on {record['machine']}; {settings}; {speed}.\n",
        ]
    )


def _rows(parts: Json) -> Iterator[list[Cell]]:
    for part, models in parts.items():
        for model, found in models.items():
            low, high = found["intervals"]["mae"]
            overall = found["overall"]
            yield [
                part,
                model,
                found["n"],
                f"{found['mae']:.3f}",
                f"{low:.3f}–{high:.3f}",
                f"{overall['mae']:.3f}",
                fixed(overall["spearman"], 3),
            ]
