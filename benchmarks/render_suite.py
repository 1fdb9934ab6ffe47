"""The page's section on the parts of scoring, from `pytest benchmarks/suite`, and a chart of latency by length."""

from collections.abc import Sequence

from benchmarks.render_charts import Series, line_chart
from benchmarks.render_results import Json, Result, Results
from benchmarks.render_text import Cell, details, figure, fixed, not_measured, percent, provenance, spread, table, times

COMMAND = "python benchmarks/run.py --only suite --bundle DIR --articles FILE --work DIR"
STAGES = (
    "stage",
    "variant",
    "tokens",
    "batch",
    "ms",
    "articles/s",
    "times PyTorch",
    "to fp32",
    "Spearman",
    "tier flips",
)
PARTS = ("part", "of", "ms", "articles/s", "beside", "exactness")
MEMORY = ("variant", "imported", "loaded", "first score", "sample scored", "peak")
MEMORY_KEYS = ("resident_imported_mib", "resident_loaded_mib", "resident_first_mib", "resident_scored_mib", "peak_mib")
WHOLE = ("prefilter", "tokenise", "cascade", "panel", "import", "cold start")


def charts(results: Results) -> dict[str, str]:
    """A chart for each bundle whose stages were measured at several lengths, by file name."""
    found = {f"{result.name}.svg": _series(result) for result in results["suite"]}
    return {
        name: line_chart(f"One article: {name.removeprefix('suite-').removesuffix('.svg')}", "tokens", "ms", series)
        for name, series in found.items()
        if series
    }


def section(results: Results) -> str:
    """The section."""
    intro = (
        "Each part of scoring by itself. *To fp32*: mean absolute difference of scores, in points, to cpu-fp32 on "
        "the same articles, one at a time; *Spearman* and *tier flips* likewise. Rows are real articles cut to "
        "exactly the length; a batch is what the cascade is handed at once, which it divides as it always does. "
        "*Times PyTorch*: how many times as fast as the same weights in PyTorch (sdpa, fp32), which gets the batch "
        "as one, in turns. Where there is nothing to be accurate about, *exactness* says whether the result is that "
        "of a plain implementation.\n"
    )
    parts = [_result(result) for result in results["suite"]] or [not_measured(COMMAND)]
    return "\n".join(["## Part by part\n", intro, *parts])


def _result(result: Result) -> str:
    record, rows = result.record, result.rows
    stages = [row for row in rows if "tokens" in row]
    memory = [row for row in rows if row["group"] == "memory"]
    blocks = [f"### {result.subject}, part by part\n", f"Bundle {record['bundle']}; articles: {record['articles']}.\n"]
    if _series(result):
        blocks.append(f"![Milliseconds by length](benchmarks/{result.name}.svg)\n")
    blocks.append(table(PARTS, [_part(row) for row in rows if row["group"] in WHOLE]))
    if memory:
        blocks += ["Memory of a process, in MiB:\n", table(MEMORY, [_memory(row) for row in memory])]
    if stages:
        blocks.append(details(f"Stages by length and batch ({len(stages)} rows)", table(STAGES, _stages(stages))))
    left_out = [f"- left out {item['count']} times: {item['reason']}\n" for item in record["left_out"]]
    return "\n".join([*blocks, provenance(record), "".join(left_out)])


def _stages(rows: Sequence[Json]) -> list[list[Cell]]:
    return [
        [
            row["stage"] + (" (target)" if row["group"] == "targets" else ""),
            row["variant"],
            row["tokens"],
            row["batch"],
            spread(row["ms"]),
            figure(1e3 * row["batch"] / row["ms"]["p50"]),
            times(row.get("times_as_fast_as_pytorch")),
            figure(row["mean_abs_to_fp32"]),
            fixed(row["spearman_to_fp32"], 4),
            f"{row['tier_flips']} of {row['compared_articles']}",
        ]
        for row in rows
    ]


def _part(row: Json) -> list[Cell]:
    articles = row.get("articles")
    per_s = figure(1e3 * articles / row["ms"]["p50"]) if articles else None
    return [row["group"], _of(row), spread(row["ms"]), per_s, _beside(row), _exactness(row)]


def _of(row: Json) -> str:
    match row["group"]:
        case "prefilter":
            return f"{row['articles']} texts, {row['rules']} rules"
        case "tokenise":
            return f"{row['articles']} texts, {row['stage']}'s window of {row['window_tokens']}"
        case "cascade":
            return f"{row['articles']} articles, {row['stages']}; {row['decided_by_last_stage']} reached the last"
        case "panel":
            return f"{row['articles']} articles, {row['filters']} filters"
        case "cold start":
            parts = [f"{name} {figure(row[key])} s" for name, key in _STEPS]
            return f"{row['variant']}: {', '.join(parts)}"
        case _:
            return f"{row['packages']} packages"


_STEPS = (("import", "import_s"), ("load", "load_s"), ("first score", "first_score_s"))


def _beside(row: Json) -> str | None:
    if row["group"] == "tokenise":
        return f"{times(row['times_as_fast_as_whole_texts'])} as fast as whole texts"
    if row["group"] == "panel":
        return f"{times(row['times_as_fast_as_single_scorers'])} as fast as one filter after the other"
    if row["group"] == "import":
        return f"Python alone {figure(row['bare_python_ms'])} ms"
    return None


def _exactness(row: Json) -> str:
    match row["group"]:
        case "prefilter" | "tokenise":
            return f"{percent(row['same_share'], 1)} as {row['against']}"
        case "cascade":
            difference = f"overall {figure(row['mean_abs_to_fp32'])} from fp32"
            flips = f"{row['tier_flips']} tier flips, {row['route_flips']} routes"
            return f"{difference}, Spearman {fixed(row['spearman_to_fp32'], 4)}, {flips}"
        case "panel":
            flips = f"{row['tier_flips']} tier flips"
            return f"largest difference {figure(row['largest_difference'])}, {flips} to {row['against']}"
        case "cold start":
            return f"largest difference {figure(row['largest_difference'])} to {row['against']}"
        case _:
            return f"heavy modules loaded: {row['heavy_modules']}"


def _memory(row: Json) -> list[Cell]:
    return [row["variant"], *(figure(row[key]) for key in MEMORY_KEYS)]


def _series(result: Result) -> list[Series]:
    """Milliseconds by length at batch 1, a line for each stage and variant; none where there is but one length."""
    rows = [row for row in result.rows if row["group"] == row.get("stage") and row.get("batch") == 1]
    names = dict.fromkeys((row["stage"], row["variant"]) for row in rows)
    lines = [
        Series(f"{stage} {variant}", _points([r for r in rows if (r["stage"], r["variant"]) == (stage, variant)]))
        for stage, variant in names
    ]
    return lines if any(len(line.points) > 1 for line in lines) else []


def _points(rows: Sequence[Json]) -> list[tuple[float, float]]:
    return sorted((row["tokens"], row["ms"]["p50"]) for row in rows)
