"""The page's section on `distillery bench`: what a whole bundle costs, as its users can measure it themselves."""

from benchmarks.render_results import Json, Result, Results
from benchmarks.render_text import Cell, details, figure, not_measured, percent, provenance, spread, table, times

COMMAND = "python benchmarks/run.py --only bench --bundle DIR --articles FILE --work DIR"
CASCADES = ("variants", "articles/s at once", "stream", "one article, ms", "load, s", "resident, MiB", "times fp32")
STAGES = ("stage", "variant", "tokens", "ms", "tokens/s", "of GEMM", "times fp32", "to fp32", "label MAE")
_MIB = 1 << 20


def section(results: Results) -> str:
    """The section."""
    intro = (
        "Whole bundles, as `distillery bench` measures them on any machine "
        "([how](guides/measure-on-your-machine.md)). Accuracy is what the bundle records: mean absolute difference "
        "of scores *to fp32*, and to the oracle's labels.\n"
    )
    parts = [_bundle(result) for result in results["bench"]] or [not_measured(COMMAND)]
    return "\n".join(["## Whole bundles\n", intro, *parts])


def _bundle(result: Result) -> str:
    report = result.record["report"]
    sample = report["sample"]
    routes = ", ".join(f"{name} {count}" for name, count in sample["routes"].items())
    rows = [_latency(stage, row) for stage in report["stages"] for row in stage["latency"]]
    facts = f"{sample['used']} articles at once ({routes}), {report['seconds']:g} s"
    peaks = ", ".join(f"{name} {spread(found)}" for name, found in report["gemm_gflop_per_s"].items())
    left_out = "".join(f"- left out: {line}\n" for line in report["left_out"])
    return "\n".join(
        [
            f"### {result.subject}, whole\n",
            table(CASCADES, [_cascade(cascade) for cascade in report["cascades"]]),
            details(f"One row at a time, by length ({len(rows)} rows)", table(STAGES, rows)),
            provenance(result.record, f"bundle {report['bundle']}", facts, f"GEMM in GFLOP/s: {peaks}"),
            left_out,
        ]
    )


def _cascade(found: Json) -> list[Cell]:
    load = found["load"]
    resident = load["memory"]["resident"]
    return [
        ", ".join(f"{stage} {variant}" for stage, variant in found["variants"].items()),
        spread(found["articles_per_s"]),
        spread(found["stream_articles_per_s"]),
        spread(found["one_article_ms"]),
        figure(load["open_s"] + load["first_score_s"]),
        figure(resident / _MIB) if resident else None,
        times(found["ratio"] and found["ratio"]["p50"]),
    ]


def _latency(stage: Json, row: Json) -> list[Cell]:
    accuracy = stage["accuracy"]
    return [
        stage["stage"],
        stage["variant"],
        row["tokens"],
        spread(row["ms"]),
        figure(row["tokens_per_s"]["p50"]),
        percent(row["share_of_gemm"]),
        times(row["ratio"] and row["ratio"]["p50"]),
        figure(accuracy.get("mae_to_fp32")),
        figure(accuracy.get("label_mae")),
    ]
