"""The page's section on other programs, and a chart for each model."""

from benchmarks.render_charts import Bar, Group, bar_chart
from benchmarks.render_results import Json, Result, Results
from benchmarks.render_text import NOTHING, figure, not_measured, percent, provenance, spread, table, times

COMMAND = "python benchmarks/run.py --only peers --models DIR --articles FILE --environments DIR --work DIR"
HEADER = ("program", "tokens", "ms", "tokens/s", "times PyTorch", "of GEMM", "difference", "lowest cosine", "versions")
OURS = "ours-"


def charts(results: Results) -> dict[str, str]:
    """A chart for each model, by file name."""
    return {f"{result.name}.svg": _chart(result) for result in results["peers"] if result.rows}


def section(results: Results) -> str:
    """The section."""
    intro = (
        "The same weights and the same token ids of real articles, one at a time. All programs take turns on the "
        "same texts, so that whatever else the machine does slows all alike; a ratio is the median of the ratios "
        "within each round. *Times PyTorch*: how many times as fast as PyTorch with sdpa attention in fp32. *Of "
        "GEMM*: operations per second as a share of what one large product of matrices reaches in the same rounds, "
        "int8 against int8. *Difference*: mean absolute difference of single outputs to PyTorch's, in brackets "
        "their standard deviation over the texts. Where a time has brackets, they hold the 10th and 90th "
        "percentile.\n"
    )
    parts = [_model(result) for result in results["peers"]] or [not_measured(COMMAND)]
    return "\n".join(["## Beside other programs\n", intro, *parts])


def _model(result: Result) -> str:
    record = result.record
    settings = record["settings"]
    rows = sorted(result.rows, key=lambda row: (row["tokens"], row["ms"]["p50"]))
    body = table(HEADER, [_row(row) for row in rows])
    facts = f"{settings['articles']} articles, {settings['rounds']} rounds; weights {record['weights'][:23]}"
    peaks = [f"{kind} {spread(found['gflops'])}" for kind, found in record["gemm"].items()]
    gemm = f"The product of matrices, in GFLOP/s: {', '.join(peaks)}.\n" if peaks else ""
    skipped = [f"- {item['peer']} was left out: {item['reason']}\n" for item in record["skipped"]]
    picture = f"![Milliseconds by program and length](benchmarks/{result.name}.svg)\n" if rows else ""
    head = [f"### {result.subject}\n", picture, body, provenance(record, facts)]
    return "\n".join([*head, gemm, "".join(skipped)])


def _row(row: Json) -> list[str]:
    accuracy, versions = row["accuracy"], row["versions"]
    found = accuracy.get("note") or f"{figure(accuracy['mean_abs'])} ({figure(accuracy['spread'])})"
    cosine = accuracy.get("cosine_min")
    return [
        row["peer"],
        str(row["tokens"]),
        spread(row["ms"]),
        figure(row["tokens_per_s"]["p50"]),
        times(row["ratio"] and row["ratio"]["p50"]),
        percent(row["share_of_gemm"] and row["share_of_gemm"]["p50"]),
        found,
        NOTHING if cosine is None else f"{cosine:.5f}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]


def _chart(result: Result) -> str:
    lengths = sorted({row["tokens"] for row in result.rows})
    groups = [
        Group(f"{tokens} tokens", [_bar(row) for row in result.rows if row["tokens"] == tokens]) for tokens in lengths
    ]
    return bar_chart(f"{result.subject}, batch 1", "ms", groups)


def _bar(row: Json) -> Bar:
    ms = row["ms"]
    return Bar(row["peer"], ms["p50"], ms["p10"], ms["p90"], row["peer"].startswith(OURS))
