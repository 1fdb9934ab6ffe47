"""The page's section on GPUs: times by length and batch, how exact they are, and what the gate says of them."""

from collections.abc import Iterator, Sequence

from benchmarks.render_results import Json, Result, Results
from benchmarks.render_text import Cell, figure, not_measured, provenance, table

COMMAND = "python benchmarks/gpu.py"
INTRODUCTION = """\
From host arrays to host arrays, all contenders in turns; *first run* is what recording a CUDA graph or compiling takes.
Differences are of raw outputs, in points, to PyTorch in fp32 on the same token ids; the 1B shape and the e5-small shape
have random weights, the 270M a trained adapter and head."""


def section(results: Results) -> str:
    """The section."""
    parts = [part for result in results["gpu"] for part in _result(result)] or [not_measured(COMMAND)]
    return "\n".join(["## On a GPU\n", f"{INTRODUCTION}\n", *parts])


def _result(result: Result) -> Iterator[str]:
    yield f"### {result.subject}, GPU\n"
    measured = [row for row in result.rows if row.get("part") == "speed" and "p50_ms" in row]
    for model in dict.fromkeys(str(row["model"]) for row in measured):
        yield from _speed(model, [row for row in measured if row["model"] == model])
    for part, columns in (("parity", PARITY), ("gate", GATE)):
        rows = [row for row in result.rows if row.get("part") == part]
        if rows:
            yield table(list(columns), [[_cell(row.get(key)) for key in columns.values()] for row in rows])
    yield from (f"- {row['step']}: {row['error']}" for row in result.rows if "error" in row)
    yield provenance(result.record)


PARITY = {
    "model": "model",
    "contender": "contender",
    "against": "against",
    "setting": "setting",
    "largest difference": "largest_difference",
    "mean difference": "mean_difference",
    "not finite": "non_finite",
    "lowest Spearman": "spearman_lowest",
    "articles": "articles",
}
GATE = {
    "model": "model",
    "form": "form",
    "on": "on",
    "articles": "articles",
    "MAE to fp32": "mae_to_fp32",
    "Spearman": "spearman",
    "before caps": "spearman_uncapped",
    "label MAE": "label_mae",
    "of fp32": "label_mae_fp32",
    "tier flips": "tier_flips",
    "gatekeeper flips": "gatekeeper_flips",
    "far": "far_flips",
    "in a batch": "batch_difference",
}


def _speed(model: str, rows: Sequence[Json]) -> Iterator[str]:
    """Milliseconds of every batch, a column for each contender; and each contender's answers to one article."""
    names = list(dict.fromkeys(str(row["contender"]) for row in rows))
    shapes = sorted({(row["batch"], row["tokens"]) for row in rows})
    cells: list[list[Cell]] = []
    for batch, tokens in shapes:
        of = {row["contender"]: row for row in rows if (row["batch"], row["tokens"]) == (batch, tokens)}
        cells.append([f"{batch} x {tokens}", *(figure(of[name]["p50_ms"]) if name in of else None for name in names)])
    yield table([f"{model}: articles x tokens, ms (p50)", *names], cells)
    single = [row for row in rows if row["batch"] == 1]
    header = ["contender", "tokens", "p50 ms", "p95 ms", "p99 ms", "runs", "first run s", "mean difference"]
    keys = ("contender", "tokens", "p50_ms", "p95_ms", "p99_ms", "runs", "first_run_s", "mean_difference")
    yield table(
        [f"{model}: one article, {header[0]}", *header[1:]], [[_cell(row[key]) for key in keys] for row in single]
    )


def _cell(value: object) -> Cell:
    if isinstance(value, float) and 0.9 < value < 1:
        return f"{value:.5f}"
    return value if isinstance(value, (str, int, float)) else None
