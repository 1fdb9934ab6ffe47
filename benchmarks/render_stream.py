"""The page's section on streams of articles: speed, memory pass after pass, and the same cascade in PyTorch."""

from benchmarks.render_charts import Series, line_chart
from benchmarks.render_results import Json, Result, Results
from benchmarks.render_text import Cell, figure, not_measured, percent, provenance, table, times

COMMAND = "python benchmarks/run.py --only stream --bundle DIR --articles FILE --torch-run RUN --work DIR"
CHART = "stream-memory.svg"
HEADER = ("bundle", "passes", "articles", "articles/s", "as a process", "before", "peak", "MiB a pass")
BESIDE = (
    "bundle",
    "articles",
    "ours/s",
    "PyTorch/s",
    "times as fast",
    "by the student",
    "same tier",
    "overall",
)


def charts(results: Results) -> dict[str, str]:
    """The memory of all bundles after each pass, by file name."""
    series = [Series(result.subject, _memory(result)) for result in results["stream"]]
    lines = [line for line in series if line.points]
    return {CHART: line_chart("Resident memory after each pass", "pass", "MiB", lines)} if lines else {}


def section(results: Results) -> str:
    """The section."""
    intro = (
        "A file of articles streamed through a bundle, pass after pass in one process; and as a process of its own "
        "(`distillery score`), loading included. *MiB a pass*: by how much the resident memory grows from one pass "
        "to the next, by least squares, the first left out, for it fills buffers that are then used again.\n"
    )
    beside_intro = (
        "The same cascade beside PyTorch (sdpa, fp32), its batches padded to the window, as is common there. "
        "*Overall*: the mean absolute difference of the overall where both scored. *By the student*: articles that "
        "reached the last stage.\n"
    )
    found = results["stream"]
    if not found:
        return "\n".join(["## Streams\n", intro, not_measured(COMMAND)])
    picture = [f"![Resident memory after each pass](benchmarks/{CHART})\n"] if charts(results) else []
    sources = [f"- {result.subject}: {provenance(result.record)}" for result in found]
    beside = [row for result in found if (row := _beside(result))]
    left_out = [f"- {result.subject}: PyTorch was left out: {reason}\n" for result in found if (reason := _why(result))]
    return "\n".join(
        [
            "## Streams\n",
            intro,
            *picture,
            table(HEADER, [_speed(result) for result in found]),
            beside_intro,
            table(BESIDE, beside) if beside else "No bundle here has an equivalent in PyTorch that was measured.\n",
            "".join([*left_out, *sources]),
        ]
    )


def part(result: Result, name: str) -> Json | None:
    """The row of a part, if there is one."""
    return next((row for row in result.rows if row["part"] == name), None)


def _memory(result: Result) -> list[tuple[float, float]]:
    passes = [row for row in result.rows if row["part"] == "pass" and row["resident_mib"] is not None]
    return [(row["number"], row["resident_mib"]) for row in passes]


def _speed(result: Result) -> list[Cell]:
    whole, process = part(result, "all passes"), part(result, "process")
    assert whole is not None  # stream.py always writes it
    p50, p10, p90 = (figure(whole[f"articles_per_s_{p}"]) for p in ("p50", "p10", "p90"))
    return [
        f"{result.subject} ({whole['bundle']})",
        whole["passes"],
        whole["articles"],
        f"{p50} ({p10}–{p90})",
        f"{figure(process['articles_per_s'])}/s, peak {figure(process['peak_mib'])} MiB" if process else None,
        figure(whole["resident_before_mib"]),
        figure(whole["peak_mib"]),
        figure(whole["resident_slope_mib_per_pass_after_first"]),
    ]


def _beside(result: Result) -> list[Cell] | None:
    row = part(result, "beside PyTorch")
    if row is None or "times_as_fast" not in row:
        return None
    chunks = ", ".join(f"{figure(row[f'times_as_fast_chunks_{p}'])}" for p in ("p10", "p90"))
    return [
        result.subject,
        row["articles"],
        figure(row["ours_articles_per_s"]),
        figure(row["pytorch_articles_per_s"]),
        f"{times(row['times_as_fast'])} (chunks {chunks})",
        row["decided_by_last_stage"],
        percent(row["same_tier"], 1),
        figure(row["overall_mean_difference"]),
    ]


def _why(result: Result) -> str | None:
    row = part(result, "beside PyTorch")
    return str(row["left_out"]) if row and "left_out" in row else None
