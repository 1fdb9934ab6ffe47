"""How long a call takes, from host arrays to host arrays, for all contenders in turns, and how exact each is."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.gpu_contenders import (
    RECORDED,
    Batch,
    Contender,
    Floats,
    OurGraph,
    OurSession,
    TorchGraph,
    forget,
    time_limit,
)
from benchmarks.gpu_models import Subject
from benchmarks.gpu_parity import gap
from benchmarks.gpu_parts import Setting, attempt
from benchmarks.parity_result import Row, news
from distillery_runtime.bench.timing import TimedTask, measure, tail

WARM_UPS = 3
REFERENCE_ROWS = 8  # PyTorch in fp32 answers so many rows at once, to keep its memory small
TARGET_MS = {"decoder": 40.0, "encoder": 2.0}  # of one text; a decoder's at 512 tokens


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender that answered a batch, how exact its answer was, and how long its first one took."""

    contender: Contender
    accuracy: Row
    first_s: float


def measure_speed(subject: Subject, setting: Setting) -> Iterator[list[Row]]:
    """All lengths and batches, for our half-precision forms with and without CUDA graphs and for PyTorch in bf16."""
    exact, contenders = _open_all(subject, setting)
    best: dict[tuple[str, int], Row] = {}
    for tokens, count in setting.shapes:
        if setting.left_s < 0:
            yield [{**_labels(subject, "speed", tokens, count), "left_out": "no time left"}]
            continue
        rows = _time_shape(subject, setting, exact, contenders, tokens, count)
        yield rows
        for row in rows:
            key = str(row.get("contender")), tokens
            if float(row.get("articles_per_s") or 0) > float(best.get(key, {}).get("articles_per_s") or 0):
                best[key] = row
    yield [{**row, "part": "best batch"} for row in best.values()]
    forget()


def measure_compiled(subject: Subject, setting: Setting) -> Iterator[list[Row]]:
    """`torch.compile` beside PyTorch eager and our fp16 form; compiling a shape ends at the time limit."""
    exact, contenders = _open_all(subject, setting)
    some = [c for c in contenders if RECORDED in c.name or "eager" in c.name]
    compiled = TorchGraph(subject, torch.bfloat16, setting.device, compiled=True)
    for tokens, count in setting.compiled_shapes:
        if setting.left_s < setting.compile_limit_s:
            yield [{**_labels(subject, "speed", tokens, count), "left_out": "no time left to compile"}]
            continue
        yield _time_shape(subject, setting, exact, [compiled, *some], tokens, count)
    forget()


def _open_all(subject: Subject, setting: Setting) -> tuple[Contender, list[Contender]]:
    """PyTorch in fp32, which says what is right, and those that are timed."""
    contenders: list[Contender] = []
    for form in setting.forms[1:]:
        opened = OurSession(subject.graph(form, setting.work), subject.kind, setting.device, setting.threads)
        contenders += [OurGraph(form, opened), OurGraph(form, opened, record=False)]
    contenders.append(TorchGraph(subject, torch.bfloat16, setting.device))
    return TorchGraph(subject, torch.float32, setting.device), contenders


def _time_shape(
    subject: Subject, setting: Setting, exact: Contender, contenders: Sequence[Contender], tokens: int, count: int
) -> list[Row]:
    """Warms everyone up on one batch, times them in turns, and gives a row for each."""
    batch, labels = full_batch(subject, tokens, count), _labels(subject, "speed", tokens, count)
    expected = np.concatenate([exact.run(part) for part in _split(batch)])
    entries: list[Entry] = []
    failed: list[Row] = []
    for contender in contenders:

        def enter(contender: Contender = contender) -> Sequence[Row]:
            limit = setting.compile_limit_s if "compiled" in contender.name else max(setting.left_s, 30.0)
            with time_limit(limit):
                entries.append(_enter(contender, batch, expected))
            return ()

        failed += attempt(enter, {**labels, "contender": contender.name})
    tasks = [TimedTask(entry.contender.name, _task(entry.contender, batch)) for entry in entries]
    seconds = setting.alone_s if count == 1 else setting.batch_s
    measure(tasks, seconds, lambda _share, _name: None)
    pairs = zip(entries, tasks, strict=True)
    rows: list[Row] = [{**labels, **_figures(subject, entry, task, tokens, count)} for entry, task in pairs]
    for row in rows:
        news(f"{subject.name} {tokens} x {count}: {row['contender']}: p50 {row['p50_ms']} ms")
    return rows + failed


def full_batch(subject: Subject, tokens: int, count: int) -> Batch:
    """A batch of the subject's own texts, cut to one length, repeated where there are too few that long."""
    long = [row.ids[:tokens] for row in subject.rows if len(row.ids) >= tokens]
    if not long:
        raise SystemExit(f"{subject.name}: no text of {tokens} tokens")
    ids = np.stack([long[i % len(long)] for i in range(count)])
    return ids, np.ones_like(ids)


def _enter(contender: Contender, batch: Batch, expected: Floats) -> Entry:
    """Runs a contender for the first time, which compiles or records, and a few times more."""
    began = time.perf_counter()
    contender.run(batch)
    first_s = time.perf_counter() - began
    for _ in range(WARM_UPS):
        found = contender.run(batch)
    return Entry(contender, gap(found, expected), first_s)


def _task(contender: Contender, batch: Batch) -> Callable[[], Floats]:
    return lambda: contender.run(batch)


def _split(batch: Batch) -> Iterator[Batch]:
    for first in range(0, len(batch[0]), REFERENCE_ROWS):
        ids, mask = (array[first : first + REFERENCE_ROWS] for array in batch)
        yield ids, mask


def _figures(subject: Subject, entry: Entry, task: TimedTask, tokens: int, count: int) -> Row:
    times = task.seconds
    middle = float(np.median(times)) if times else None
    target = TARGET_MS[subject.kind] if count == 1 and (tokens == 512 or subject.kind == "encoder") else None
    return {
        "contender": entry.contender.name,
        "runs": len(times),
        "p50_ms": _ms(middle),
        "p95_ms": _ms(tail(times, 95)),
        "p99_ms": _ms(tail(times, 99)),
        "articles_per_s": count / middle if middle else None,
        "tokens_per_s": count * tokens / middle if middle else None,
        "first_run_s": entry.first_s,
        "target_ms": target,
        "meets_target": middle * 1000 <= target if middle and target else None,
        **entry.accuracy,
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 4)


def _labels(subject: Subject, part: str, tokens: int, count: int) -> Row:
    return {"part": part, "model": subject.name, "tokens": tokens, "batch": count}
