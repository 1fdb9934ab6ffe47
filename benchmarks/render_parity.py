"""The page's section on parity: our graphs beside PyTorch, beside themselves in other batches, and in float16."""

from benchmarks.render_results import Json, Result, Results
from benchmarks.render_text import NOTHING, Cell, figure, not_measured, provenance, table

COMMAND = "python benchmarks/run.py --only parity --models DIR --articles FILE --work DIR"
HEADER = ("form", "against", "setting", "articles", "tokens", "largest", "mean", "limit", "holds")
HOLDS = {True: "yes", False: "**no**", None: NOTHING}


def section(results: Results) -> str:
    """The section."""
    intro = (
        "Largest and mean absolute difference of raw outputs on real articles. A decoder has a random head whose "
        "outputs spread like raw scores, so that its differences are in points; an encoder's are those of its "
        "pooled state, which has length 1. int8 rounds activations by what is in their batch, so that it may differ "
        "between one batch and another; the runtime's own batches are the row that counts.\n"
    )
    parts = [_model(result) for result in results["parity"]] or [not_measured(COMMAND)]
    return "\n".join(["## Parity\n", intro, *parts])


def _model(result: Result) -> str:
    rows = [_row(row) for row in result.rows]
    return "\n".join([f"### {result.subject}, parity\n", table(HEADER, rows), provenance(result.record)])


def _row(row: Json) -> list[Cell]:
    limit = row.get("limit")
    shown = f"mean {figure(row['mean_limit'], 1)}" if row.get("mean_limit") else NOTHING
    lost = row.get("non_finite_articles")
    return [
        row["form"],
        row["against"],
        row["setting"] + (f"; {lost} articles with an output that is not finite" if lost is not None else ""),
        row["articles"],
        f"{row['tokens_shortest']}–{row['tokens_longest']}",
        row["largest_difference"],
        row["mean_difference"],
        shown if limit is None else _limit(limit),
        HOLDS[row["holds"]],
    ]


def _limit(limit: float) -> str:
    return f"{limit:g}"
