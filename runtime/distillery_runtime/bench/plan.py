"""What is timed in a benchmark: all tasks, what matters most first, each on rows and articles chosen beforehand."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from distillery_runtime.articles.article import parse_article
from distillery_runtime.articles.text import compose
from distillery_runtime.bench.figures import Load
from distillery_runtime.bench.gemm import Gemm, Kind
from distillery_runtime.bench.sample import Record, rows_by_length
from distillery_runtime.bench.timing import TimedTask
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.format.variants import REFERENCE, Device
from distillery_runtime.models.stage import Stage
from distillery_runtime.scoring.cascade import running
from distillery_runtime.scoring.result import Score
from distillery_runtime.scoring.scorer import HybridScorer
from distillery_runtime.scoring.timings import Timings

T = TypeVar("T")

SHORT_TOKENS = 128  # rows of at most so many are measured before whole batches of articles, longer ones after them


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle's stages opened in one variant, and what that took."""

    stages: Sequence[Stage]
    scorer: HybridScorer
    load: Load

    @property
    def variants(self) -> dict[str, str]:
        """The variant of each stage that is run."""
        return {stage.name: stage.variant for stage in running(self.stages)}

    @property
    def is_reference(self) -> bool:
        """Whether all stages are the fp32 that others are compared with."""
        return set(self.variants.values()) == {REFERENCE.name}


class TimedBatch:
    """Scores the sample at once, and remembers for each time its seconds and those of each step."""

    def __init__(self, scorer: HybridScorer, records: Sequence[Record]) -> None:
        self._scorer, self._records = scorer, records
        self.runs: list[tuple[float, dict[str, float]]] = []

    def run(self) -> None:
        """Scores once."""
        timings, began = Timings(), time.perf_counter()
        self._scorer.score_batch(self._records, timings=timings)
        seconds = time.perf_counter() - began
        self.runs.append((seconds, {name: step.seconds for name, step in timings.steps.items()}))


class BenchPlan:
    """All tasks, what matters most first, and what they run on.

    Keys of `tasks`: ("gemm", name), ("batch", opened), ("one", opened), ("stream", opened), ("rows", stage, variant),
    ("latency", stage, variant, tokens), where `opened` is a position. `rows` are those of the articles that reach a
    stage in the first of the opened, or of all where none does; `lengths` those measured one row at a time.

    Args:
        opened: the bundle in each variant to measure.
        records: the articles to measure on at once.
        singles: those to score one at a time, as far as there is time.
        streamed: how many articles to stream, the records repeated; 0 to leave streaming out.
        threads: as for the stages.
    """

    def __init__(
        self,
        opened: Sequence[Opened],
        records: Sequence[Record],
        singles: Sequence[Record],
        streamed: int,
        threads: int | None,
    ) -> None:
        self.opened, self.records, self.streamed = opened, records, streamed
        self.tasks: dict[tuple[object, ...], TimedTask] = {}
        self.left_out: list[str] = []
        self.gemms: dict[str, Gemm] = {}
        self.batches = [TimedBatch(item.scorer, records) for item in opened]
        self.stages = {(stage.name, stage.variant): stage for item in opened for stage in item.stages}
        self.running = frozenset(stage for item in opened for stage in running(item.stages))
        results = opened[0].scorer.score_batch(records)
        self.routes = Counter(result.stage or result.status for result in results)
        texts = {
            stage.name: reaching(opened[0], records, results, index) for index, stage in enumerate(opened[0].stages)
        }
        self.rows = {stage.name: stage.window.encode(texts[stage.name]) for stage in opened[0].stages}
        self._by_length = {stage.name: rows_by_length(stage.window, texts[stage.name]) for stage in opened[0].stages}
        self.lengths = {name: tuple(found) for name, found in self._by_length.items()}
        self._add_gemms(threads)
        self._add_cascades("one", [in_turn(item.scorer.score, singles) for item in opened], "one article")
        self._add_latencies(0, SHORT_TOKENS)
        self._add_cascades("batch", [batch.run for batch in self.batches], f"{len(records)} articles")
        self._add_latencies(SHORT_TOKENS, None)
        for (name, variant), stage in self.stages.items():
            self._add(f"{name} {variant}, batches", partial(stage.run, self.rows[name]), "rows", name, variant)
        if streamed:
            streams = [partial(_stream, item.scorer, records, streamed) for item in opened]
            self._add_cascades("stream", streams, "stream")

    def task(self, *key: object) -> TimedTask | None:
        """The task with this key, if there is one."""
        return self.tasks.get(key)

    def _add(self, name: str, run: Callable[[], object], *key: object) -> None:
        self.tasks[key] = TimedTask(name, run)

    def _add_gemms(self, threads: int | None) -> None:
        wanted = {(gemm_kind(stage), stage.provider) for stage in self.stages.values()}
        wanted |= {("fp32", stage.provider) for stage in self.stages.values()}
        for kind, device in sorted(wanted):
            name = gemm_name(kind, device)
            try:
                self.gemms[name] = Gemm(kind, device, threads)
            except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base but Exception
                self.left_out.append(f"{name}: {error}")
                continue
            self._add(name, self.gemms[name].run, "gemm", name)

    def _add_cascades(self, kind: str, runs: Sequence[Callable[[], object]], what: str) -> None:
        for number, (item, run) in enumerate(zip(self.opened, runs, strict=True)):
            self._add(f"cascade {', '.join(item.variants.values())}, {what}", run, kind, number)

    def _add_latencies(self, above: int, most: int | None) -> None:
        """Short rows first, so that a slow model leaves out the long ones and not a variant."""
        found = [(tokens, *key) for key in self.stages for tokens in self.lengths[key[0]]]
        for tokens, name, variant in sorted(found, key=lambda item: item[0]):
            if above < tokens and (most is None or tokens <= most):
                run = in_turn(self.stages[name, variant].run_batch, [[row] for row in self._by_length[name][tokens]])
                self._add(f"{name} {variant}, {tokens} tokens", run, "latency", name, variant, tokens)


def reaching(opened: Opened, records: Sequence[Record], results: Sequence[Score], index: int) -> list[str]:
    """The texts of the records that reach the stage at `index`; of all that are scored at all, where none does.

    Raises:
        InputError: none of the records is scored.
    """
    names = [stage.name for stage in opened.stages]
    scored = [
        (record, names.index(result.stage)) for record, result in zip(records, results, strict=True) if result.stage
    ]
    if not scored:
        reason = results[0].reason or results[0].status
        found = f"none of {len(records)} is scored ({reason})"
        raise InputError("articles", [Problem("the sample", found, "at least one that is")])
    reach = [record for record, place in scored if place >= index] or [record for record, _ in scored]
    return [compose(parse_article(record), opened.scorer.spec.text).joined for record in reach]


def gemm_kind(stage: Stage) -> Kind:
    """The product of matrices that a stage's linear layers are: what its speed is compared with."""
    if stage.provider == "cuda":
        return "fp32" if stage.variant == REFERENCE.name else "fp16"
    return "int8" if stage.variant == "cpu-int8" else "fp32"


def gemm_name(kind: Kind, device: Device) -> str:
    """How the report calls a product."""
    return f"{kind} on {device}"


def in_turn(run: Callable[[T], object], items: Sequence[T]) -> Callable[[], object]:
    """A function that runs on the next of the items each time, round and round."""
    turns = itertools.cycle(items)
    return lambda: run(next(turns))


def _stream(scorer: HybridScorer, records: Sequence[Record], count: int) -> None:
    for _ in scorer.score_stream(itertools.islice(itertools.cycle(records), count)):
        pass
