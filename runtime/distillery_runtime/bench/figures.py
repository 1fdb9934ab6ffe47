"""The figures of a benchmark, as `distillery bench --json` gives them; docs/formats/bench.md explains each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distillery_runtime.bench.machine import Machine, ProcessMemory
from distillery_runtime.bench.timing import Spread, TimedTask, rates, ratio, spread, tail
from distillery_runtime.format.variants import REFERENCE

SCHEMA_VERSION = 1
GIGA = 1e9
MS = 1e3
# What is known of a variant's accuracy, from the bundle's quality.json.
ACCURACY = ("mae_to_fp32", "spearman", "label_mae", "label_mae_fp32", "tier_flips")


@dataclass(frozen=True, slots=True)
class Load:
    """Seconds to get ready: open tokenizers and sessions, and score the first article; memory after that."""

    open_s: float
    first_score_s: float
    memory: ProcessMemory


@dataclass(frozen=True, slots=True)
class Millis:
    """How long something took, in ms; `p95` and `p99` are None with fewer than 20 and 100 runs."""

    runs: int
    p10: float
    p50: float
    p90: float
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Latency:
    """One row of `tokens` ids at batch 1. `ratio`: how many times faster than cpu-fp32 at the same length."""

    tokens: int
    ms: Millis
    tokens_per_s: Spread
    gflop_per_s: Spread | None
    share_of_gemm: float | None
    ratio: Spread | None


@dataclass(frozen=True, slots=True)
class BatchFigures:
    """The sample's rows in length-sorted batches, as the cascade runs them."""

    articles: int
    tokens: int
    tokens_per_s: Spread
    articles_per_s: Spread
    gflop_per_s: Spread | None
    share_of_gemm: float | None
    ratio: Spread | None


@dataclass(frozen=True, slots=True)
class StageFigures:
    """One variant of one stage. `gemm` names the product that its speed is compared with.

    `runs`: whether the cascade runs it, which it does not where no threshold was certified.
    """

    stage: str
    variant: str
    provider: str
    reason: str
    runs: bool
    gemm: str
    accuracy: Mapping[str, float]
    latency: tuple[Latency, ...]
    batch: BatchFigures | None


@dataclass(frozen=True, slots=True)
class StepFigures:
    """A part of scoring a batch; `share` is of the whole of the same run. `rest` is what no other step accounts for."""

    step: str
    ms_per_article: Spread
    share: Spread


@dataclass(frozen=True, slots=True)
class CascadeFigures:
    """All stages together: the sample at once, its articles one at a time, and as a stream (None: no time for it).

    `ratio`: how many times more articles/s at once than with all stages in cpu-fp32.
    """

    variants: Mapping[str, str]
    load: Load
    articles_per_s: Spread | None
    stream_articles_per_s: Spread | None
    one_article_ms: Millis | None
    steps: tuple[StepFigures, ...]
    ratio: Spread | None


@dataclass(frozen=True, slots=True)
class SampleFigures:
    """The articles measured on. `routes`: how many of them each stage of the first cascade answered, or a status."""

    source: str
    available: int
    refused: int
    used: int
    streamed: int
    routes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one benchmark found."""

    schema_version: int
    bundle: str
    bundle_id: str
    machine: Machine
    threads: int
    seconds: float
    interrupted: bool
    sample: SampleFigures
    memory_before: ProcessMemory
    memory_after: ProcessMemory
    verify_s: float
    gemm_gflop_per_s: Mapping[str, Spread]
    stages: tuple[StageFigures, ...]
    cascades: tuple[CascadeFigures, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """The multiply-adds of a model: `per_token` in its linear layers, `per_pair` of tokens in its attention."""

    per_token: float
    per_pair: float

    def operations(self, lengths: Sequence[int]) -> float:
        """What rows of these lengths cost, unpadded; 2 operations for each multiply-add."""
        return 2.0 * sum(length * self.per_token + length**2 * self.per_pair for length in lengths)


def work_of(quality: object, stage: str, variant: str) -> Work | None:
    """A stage's work from `quality.json`, or None where that does not say."""
    entry = _entry(quality, stage, variant)
    per_token, per_pair = (_number(entry.get(key)) for key in ("macs_per_token", "attention_macs_per_pair"))
    return None if per_token is None else Work(per_token, per_pair or 0.0)


def accuracy_of(quality: object, stage: str, variant: str) -> dict[str, float]:
    """What `quality.json` says of a variant's accuracy: those of `ACCURACY` that it has."""
    gate = _mapping(_entry(quality, stage, variant).get("gate"))
    found = {key: value for key in ACCURACY if (value := _number(gate.get(key))) is not None}
    if variant == REFERENCE.name and "label_mae" not in found:  # the others' gates compare with it
        for name in _mapping(_mapping(quality).get("variants")):
            value = _number(_mapping(_entry(quality, stage, name).get("gate")).get("label_mae_fp32"))
            if value is not None:
                return {**found, "label_mae": value}
    return found


def in_ms(task: TimedTask) -> Millis | None:
    """How long a task's runs took; None if it had no turn."""
    values = [seconds * MS for seconds in task.seconds]
    found = spread(values)
    return Millis(found.runs, found.p10, found.p50, found.p90, tail(values, 95), tail(values, 99)) if found else None


def latency(
    tokens: int, task: TimedTask, reference: TimedTask | None, work: Work | None, peak: Spread | None
) -> Latency | None:
    """The figures of a task that ran one row of `tokens` ids; None if it had no turn."""
    ms, per_s = in_ms(task), rates(task, tokens)
    if ms is None or per_s is None:
        return None
    speed = rates(task, work.operations([tokens])) if work else None
    return Latency(tokens, ms, per_s, *against(speed, peak), ratio(task, reference) if reference else None)


def batch(
    lengths: Sequence[int], task: TimedTask, reference: TimedTask | None, work: Work | None, peak: Spread | None
) -> BatchFigures | None:
    """The figures of a task that ran rows of these lengths; None if it had no turn."""
    tokens_per_s, articles_per_s = rates(task, sum(lengths)), rates(task, len(lengths))
    if tokens_per_s is None or articles_per_s is None:
        return None
    speed = rates(task, work.operations(lengths)) if work else None
    compared = ratio(task, reference) if reference else None
    return BatchFigures(len(lengths), sum(lengths), tokens_per_s, articles_per_s, *against(speed, peak), compared)


def against(speed: Spread | None, peak: Spread | None) -> tuple[Spread | None, float | None]:
    """A speed in GFLOP/s, and its median's share of a peak in GFLOP/s."""
    if speed is None:
        return None, None
    scaled = speed.scaled(1 / GIGA)
    return scaled, scaled.p50 / peak.p50 if peak else None


def steps(runs: Sequence[tuple[float, Mapping[str, float]]], articles: int) -> tuple[StepFigures, ...]:
    """The steps of a cascade's runs, each run given as its seconds and those of each step, and what is left of it."""
    names = dict.fromkeys(name for _, parts in runs for name in parts)
    found = []
    for name in (*names, "rest"):
        seconds = [total - sum(parts.values()) if name == "rest" else parts.get(name, 0.0) for total, parts in runs]
        per_article = spread([value * MS / articles for value in seconds])
        share = spread([value / total for value, (total, _) in zip(seconds, runs, strict=True)])
        if per_article and share:
            found.append(StepFigures(name, per_article, share))
    return tuple(found)


def _entry(quality: object, stage: str, variant: str) -> Mapping[str, object]:
    entry = _mapping(_mapping(_mapping(quality).get("variants")).get(variant))
    return _mapping(_mapping(entry.get("stages")).get(stage))


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
