"""What a bundle costs on this machine: latency by length, throughput, memory, load time and share per step.

All tasks take turns, so that variants can be compared on a machine that does other things too (see `timing`).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distillery_runtime.bench import figures
from distillery_runtime.bench.machine import process_memory, this_machine
from distillery_runtime.bench.plan import BenchPlan, Opened, gemm_kind, gemm_name
from distillery_runtime.bench.sample import Sample, sample_from_file, sample_from_goldens
from distillery_runtime.bench.timing import Spread, measure, rates, ratio
from distillery_runtime.bundles.load import Bundle, open_bundle, open_stages, read_quality
from distillery_runtime.errors import ProviderError
from distillery_runtime.format.variants import FORMS, REFERENCE
from distillery_runtime.models.cpu import usable_cores
from distillery_runtime.models.session import Provider
from distillery_runtime.models.shared import Shared
from distillery_runtime.models.stage import Stage
from distillery_runtime.scoring.engine import CHUNK_ARTICLES
from distillery_runtime.scoring.scorer import HybridScorer

ALL = "all"
MIN_ARTICLES, MAX_ARTICLES = 4, 256
ROUND_SHARE = 0.1  # of the time: what all cascades together may take to score the sample once
STREAM_CHUNKS = 4  # fewer chunks than that hardly overlap

OnProgress = Callable[[float, str], object]


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """What to measure. `variant` is a name, "all", or None for what the runtime chooses; `articles` None for golden."""

    bundle: Path
    expected_id: str | None = None
    articles: Path | None = None
    variant: str | None = None
    provider: Provider = "auto"
    threads: int | None = None
    seconds: float = 25.0


def bench(request: BenchRequest, progress: OnProgress) -> figures.Report:
    """Measures a bundle for about `request.seconds`, loading not counted. Ctrl-C ends it with what was measured so far.

    Args:
        request: what to measure.
        progress: called with the share of the time that is gone and what is being done.

    Raises:
        BundleError: the bundle is damaged, or does not have the variant.
        ProviderError: the hardware asked for does not work here.
        InputError: the articles file holds no article.
    """
    before = process_memory()
    progress(0.0, "checking every byte of the bundle")
    began = time.perf_counter()
    bundle = open_bundle(request.bundle, request.expected_id)
    verify_s = time.perf_counter() - began
    quality = read_quality(bundle)
    sample = sample_from_file(request.articles) if request.articles else sample_from_goldens(bundle.goldens)
    opened, left_out = _open_all(bundle, request, sample, progress)
    progress(0.0, "choosing articles")
    plan = _planned(opened, sample, request)
    interrupted = False
    try:
        measure(list(plan.tasks.values()), request.seconds, progress)
    except KeyboardInterrupt:
        interrupted = True
    peaks = _peaks(plan)
    return figures.Report(
        schema_version=figures.SCHEMA_VERSION,
        bundle=bundle.name,
        bundle_id=bundle.id,
        machine=this_machine(gpu=any(stage.provider == "cuda" for stage in plan.stages.values())),
        threads=request.threads or usable_cores(),
        seconds=request.seconds,
        interrupted=interrupted,
        sample=_sample_figures(sample, plan),
        memory_before=before,
        memory_after=process_memory(),
        verify_s=verify_s,
        gemm_gflop_per_s=peaks,
        stages=tuple(_stage_figures(stage, plan, quality, peaks) for stage in plan.stages.values()),
        cascades=tuple(_cascade_figures(number, plan) for number in range(len(opened))),
        left_out=(*left_out, *plan.left_out, *_without_turn(plan)),
    )


def _open_all(
    bundle: Bundle, request: BenchRequest, sample: Sample, progress: OnProgress
) -> tuple[list[Opened], list[str]]:
    """Opens every variant that is wanted and runs here; those that do not are named with the reason."""
    shared, opened, left_out = Shared(), [], []
    for name in _wanted(bundle, request.variant):
        progress(0.0, f"opening {name or 'the bundle'}")
        began = time.perf_counter()
        try:
            stages = open_stages(bundle, request.provider, request.threads, name, shared)
        except ProviderError as error:
            if request.variant != ALL:
                raise
            left_out.append(f"{name}: {error}")
            continue
        scorer = HybridScorer(bundle.spec, stages, bundle.name)
        ready = time.perf_counter()
        scorer.score(sample.records[0])
        load = figures.Load(ready - began, time.perf_counter() - ready, process_memory())
        opened.append(Opened(stages, scorer, load))
    if not opened:
        raise ProviderError(*left_out)
    return opened, left_out


def _wanted(bundle: Bundle, variant: str | None) -> Sequence[str | None]:
    """The variants to open: all known ones of the bundle, the reference first, or the one that was asked for."""
    if variant != ALL:
        return [variant]
    shipped = {item.name for stage in bundle.manifest.stages for item in stage.variants}
    return [name for name in FORMS if name in shipped] or [None]


def _planned(opened: Sequence[Opened], sample: Sample, request: BenchRequest) -> BenchPlan:
    """Plans for as many articles as all of the opened can score several times over in the time given."""
    few = sample.pick(MIN_ARTICLES)
    each = 0.0  # seconds for an article, all of the opened together
    for item in opened:
        began = time.perf_counter()
        item.scorer.score_batch(few)
        each += (time.perf_counter() - began) / len(few)
    count = int(ROUND_SHARE * request.seconds / max(each, 1e-9))
    records = sample.pick(max(MIN_ARTICLES, min(MAX_ARTICLES, count)))
    streamed = STREAM_CHUNKS * max(CHUNK_ARTICLES[stage.provider] for item in opened for stage in item.stages)
    return BenchPlan(opened, records, sample.pick(MAX_ARTICLES), streamed if streamed <= count else 0, request.threads)


def _without_turn(plan: BenchPlan) -> Iterator[str]:
    if not plan.streamed:
        yield "cascade, stream"
    for task in plan.tasks.values():
        if not task.rounds:
            yield task.name


def _peaks(plan: BenchPlan) -> dict[str, Spread]:
    """The products of matrices, in GFLOP/s by name."""
    speeds = {
        name: rates(plan.tasks["gemm", name], gemm.operations / figures.GIGA) for name, gemm in plan.gemms.items()
    }
    return {name: speed for name, speed in speeds.items() if speed}


def _sample_figures(sample: Sample, plan: BenchPlan) -> figures.SampleFigures:
    used, routes = len(plan.records), dict(plan.routes)
    return figures.SampleFigures(sample.source, len(sample.records), sample.refused, used, plan.streamed, routes)


def _stage_figures(stage: Stage, plan: BenchPlan, quality: object, peaks: Mapping[str, Spread]) -> figures.StageFigures:
    name, variant, gemm = stage.name, stage.variant, gemm_name(gemm_kind(stage), stage.provider)
    work, peak = figures.work_of(quality, name, variant), peaks.get(gemm)
    compared = REFERENCE.name if variant != REFERENCE.name else None
    latencies = [
        figures.latency(
            tokens,
            plan.tasks["latency", name, variant, tokens],
            plan.task("latency", name, compared, tokens),
            work,
            peak,
        )
        for tokens in plan.lengths[name]
    ]
    lengths = [len(row.ids) for row in plan.rows[name]]
    batch = figures.batch(lengths, plan.tasks["rows", name, variant], plan.task("rows", name, compared), work, peak)
    return figures.StageFigures(
        stage=name,
        variant=variant,
        provider=stage.provider,
        reason=stage.reason,
        runs=stage in plan.running,
        gemm=gemm,
        accuracy=figures.accuracy_of(quality, name, variant),
        latency=tuple(item for item in latencies if item),
        batch=batch,
    )


def _cascade_figures(number: int, plan: BenchPlan) -> figures.CascadeFigures:
    item, whole, stream = plan.opened[number], plan.tasks["batch", number], plan.task("stream", number)
    reference = next((index for index, other in enumerate(plan.opened) if other.is_reference), number)
    counted = len(whole.seconds)  # the runs before them were warm-up
    return figures.CascadeFigures(
        variants=item.variants,
        load=item.load,
        articles_per_s=rates(whole, len(plan.records)),
        stream_articles_per_s=rates(stream, plan.streamed) if stream else None,
        one_article_ms=figures.in_ms(plan.tasks["one", number]),
        steps=figures.steps(plan.batches[number].runs[-counted:] if counted else (), len(plan.records)),
        ratio=ratio(whole, plan.tasks["batch", reference]) if reference != number else None,
    )
