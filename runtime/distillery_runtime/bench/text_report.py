"""A benchmark's figures as text to read; figures without a unit beside them have it in their column's name."""

from collections.abc import Iterator, Sequence

from distillery_runtime.bench.figures import (
    BatchFigures,
    CascadeFigures,
    Latency,
    Millis,
    Report,
    SampleFigures,
    StageFigures,
    StepFigures,
)
from distillery_runtime.bench.machine import Machine, ProcessMemory
from distillery_runtime.bench.timing import Spread

NONE = "-"
LATENCY_COLUMNS = ("tokens", "p50 ms", "p95", "p99", "p10-p90", "runs", "tokens/s", "GFLOP/s", "of GEMM", "x fp32")
ACCURACY_NAMES = {
    "mae_to_fp32": "MAE to fp32",
    "spearman": "Spearman to fp32",
    "label_mae": "label MAE",
    "label_mae_fp32": "label MAE of fp32",
    "tier_flips": "tier flips",
}


def text(report: Report) -> str:
    """The whole report, for a terminal."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"{report.bundle}, {report.threads} {'thread' if report.threads == 1 else 'threads'}"
    yield from _machine(report.machine)
    yield f"  articles   {_sample(report.sample)}"
    yield f"  digests    checked in {report.verify_s:.2f} s"
    yield f"  memory     {_memory(report.memory_before)} before, {_memory(report.memory_after)} after"
    for name, speed in report.gemm_gflop_per_s.items():
        yield f"  GEMM       {name}: {_spread(speed)} GFLOP/s"
    for stage in report.stages:
        yield ""
        yield from _stage(stage)
    for cascade in report.cascades:
        yield ""
        yield from _cascade(cascade, report.sample)
    yield ""
    if report.interrupted:
        yield "interrupted: the figures are of the runs until then"
    if report.left_out:
        yield f"not measured, for want of time or hardware: {'; '.join(report.left_out)}"
    yield "p50 is the median; p10-p90, in brackets, the middle 80 % of the runs; p95 needs 20 runs and p99 100."
    yield "A single tokens/s or GFLOP/s is a median. With more --seconds there are more runs."


def _machine(machine: Machine) -> Iterator[str]:
    processor, memory = machine.processor, machine.memory_bytes
    yield (
        f"  machine    {processor.name}, {machine.usable_cores} of {machine.logical_cpus} cores"
        f"{f', {memory / 2**30:.1f} GiB' if memory else ''}; {' '.join(processor.instructions) or machine.architecture}"
    )
    if machine.gpu:
        yield f"  GPU        {machine.gpu}"
    yield f"  versions   {machine.system}, {', '.join(f'{name} {v}' for name, v in machine.versions.items())}"


def _sample(sample: SampleFigures) -> str:
    refused = f", {sample.refused} lines were none" if sample.refused else ""
    routes = ", ".join(f"{name} {count}" for name, count in sample.routes.items())
    return f"{sample.used} of {sample.available} from {sample.source}{refused}; answered by {routes}"


def _stage(stage: StageFigures) -> Iterator[str]:
    why = stage.reason.removeprefix(f"{stage.variant}: ")
    idle = "" if stage.runs else "; the cascade does not run it: no threshold was certified"
    yield f"stage {stage.stage}, {stage.variant} on {stage.provider} ({why}){idle}"
    accuracy = [f"{ACCURACY_NAMES[key]} {value:.4g}" for key, value in stage.accuracy.items()]
    yield f"  accuracy   {', '.join(accuracy) or NONE} (quality.json)"
    if stage.latency:
        yield from _table([LATENCY_COLUMNS, *(_latency_row(row) for row in stage.latency)])
    if stage.batch:
        yield f"  in batches {_batch(stage.batch, stage.gemm)}"


def _latency_row(row: Latency) -> tuple[str, ...]:
    share = NONE if row.share_of_gemm is None else f"{row.share_of_gemm:.0%}"
    return (
        f"{row.tokens:,}",
        *_millis(row.ms),
        number(row.tokens_per_s.p50),
        NONE if row.gflop_per_s is None else number(row.gflop_per_s.p50),
        share,
        NONE if row.ratio is None else f"{row.ratio.p50:.2f}",
    )


def _batch(batch: BatchFigures, gemm: str) -> str:
    parts = [
        f"{_spread(batch.articles_per_s)} articles/s, {number(batch.tokens_per_s.p50)} tokens/s",
        f"{batch.articles} articles of {batch.tokens / batch.articles:.0f} tokens in the mean",
    ]
    if batch.gflop_per_s and batch.share_of_gemm is not None:
        parts.append(f"{number(batch.gflop_per_s.p50)} GFLOP/s, {batch.share_of_gemm:.0%} of GEMM {gemm}")
    if batch.ratio:
        parts.append(_ratio(batch.ratio))
    return "; ".join(parts)


def _cascade(cascade: CascadeFigures, sample: SampleFigures) -> Iterator[str]:
    yield f"cascade {', '.join(f'{stage} {variant}' for stage, variant in cascade.variants.items())}"
    load = cascade.load
    opened = f"{load.open_s:.2f} s to open, {load.first_score_s * 1000:.0f} ms for the first article"
    yield f"  load       {opened}; memory {_memory(load.memory)}"
    if cascade.articles_per_s:
        compared = f"; {_ratio(cascade.ratio)}" if cascade.ratio else ""
        yield f"  throughput {_spread(cascade.articles_per_s)} articles/s, {sample.used} articles at once{compared}"
    if cascade.stream_articles_per_s:
        yield f"  stream     {_spread(cascade.stream_articles_per_s)} articles/s, {sample.streamed} articles"
    if cascade.one_article_ms:
        yield from _table([LATENCY_COLUMNS[1:6], _millis(cascade.one_article_ms)], "one by one")
    if cascade.steps:
        rows = [_step_row(step) for step in cascade.steps]
        yield from _table([("step", "ms/article", "share", "p10-p90", "runs"), *rows])


def _step_row(step: StepFigures) -> tuple[str, ...]:
    share, per_article = step.share, step.ms_per_article
    middle, low, high = (f"{value:.1%}" for value in (share.p50, share.p10, share.p90))
    return step.step, number(per_article.p50), middle, f"{low} to {high}", f"{share.runs}"


def _millis(ms: Millis) -> tuple[str, ...]:
    high = (NONE if value is None else number(value) for value in (ms.p95, ms.p99))
    return (number(ms.p50), *high, f"{number(ms.p10)}-{number(ms.p90)}", f"{ms.runs}")


def _spread(found: Spread) -> str:
    return f"{number(found.p50)} ({number(found.p10)}-{number(found.p90)}, {found.runs} runs)"


def _ratio(found: Spread) -> str:
    return f"{found.p50:.2f} x fp32 ({found.p10:.2f}-{found.p90:.2f}, {found.runs} rounds)"


def _memory(memory: ProcessMemory) -> str:
    if memory.resident is None:
        return NONE if memory.peak is None else f"peak {memory.peak / 2**20:,.0f} MiB"
    mapped = "" if memory.file_mapped is None else f" ({memory.file_mapped / 2**20:,.0f} mapped from files)"
    peak = "" if memory.peak is None else f", peak {memory.peak / 2**20:,.0f}"
    return f"{memory.resident / 2**20:,.0f} MiB{mapped}{peak}"


def number(value: float) -> str:
    """A figure with three significant digits, or all those before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _table(rows: Sequence[Sequence[str]], head: str = "") -> Iterator[str]:
    """Rows as columns, right-aligned but for a first column of words, under an indent that may hold a name."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    words = any(row[0][:1].isalpha() for row in rows[1:])
    for index, row in enumerate(rows):
        cells = [f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)]
        if words:
            cells[0] = f"{row[0]:<{widths[0]}}"
        yield f"  {head if index == 0 else '':<11}{'  '.join(cells)}"
