"""A file streamed through a bundle: by the public API, with the memory after each of many passes, and as a process."""

import gc
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.parity_result import Row, news
from distillery_runtime import HybridScorer
from distillery_runtime.articles.jsonl import read_jsonl
from distillery_runtime.bench.machine import process_memory
from distillery_runtime.bench.timing import spread

LOOK_S = 0.02  # how often a process's memory is read: its peak is that of the last look
_MIB = 1 << 20


def stream_passes(scorer: HybridScorer, articles: Path, count: int) -> list[Row]:
    """Streams a file `count` times: a row for each pass, and one for all."""
    before = _resident()
    passes = [_one_pass(scorer, articles, number) for number in range(1, count + 1)]
    residents = [float(row["resident_mib"] or 0) for row in passes]
    rates = spread([float(row["articles_per_s"] or 0) for row in passes])
    assert rates is not None  # there is a pass at least
    summary: Row = {
        "part": "all passes",
        "passes": count,
        "articles": passes[0]["articles"],
        "articles_per_s_p10": rates.p10,
        "articles_per_s_p50": rates.p50,
        "articles_per_s_p90": rates.p90,
        "resident_before_mib": before,
        "peak_mib": _mib(process_memory().peak),
        "resident_slope_mib_per_pass": slope(residents),
        # What the first pass leaves is buffers of the largest batch, kept to be used again.
        "resident_slope_mib_per_pass_after_first": slope(residents[1:]),
    }
    return [*passes, summary]


def slope(values: Sequence[float]) -> float | None:
    """How much values grow from one to the next, by least squares; None for fewer than three."""
    if len(values) < 3:
        return None
    return float(np.polyfit(np.arange(len(values)), values, 1)[0])


def _one_pass(scorer: HybridScorer, articles: Path, number: int) -> Row:
    found: Counter[str] = Counter()
    began, cpu_began = time.perf_counter(), time.process_time()
    with articles.open("rb") as stream:
        for score in scorer.score_stream(read_jsonl(stream)):
            found[f"{score.status} by {score.stage}" if score.stage else score.status] += 1
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    resident = _resident()
    news(f"pass {number}: {found.total() / seconds:.1f} articles/s, {resident or 0:.0f} MiB resident")
    return {
        "part": "pass",
        "number": number,
        "articles": found.total(),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "articles_per_s": found.total() / seconds,
        "resident_mib": resident,
        **dict(sorted(found.items())),
    }


def run_process(bundle: Path, articles: Path, threads: int) -> Row:
    """Runs `distillery score` on the file, start and loading included.

    Raises:
        SystemExit: the process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "scores.jsonl"
        options = ["--bundle", str(bundle), "--provider", "cpu", "--threads", str(threads), "--out", str(out)]
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "distillery_runtime", "score", *options, str(articles)])
        peak = _watch(process)
        seconds = time.perf_counter() - began
        if process.returncode:
            raise SystemExit(f"distillery score ended with {process.returncode}")
        with out.open("rb") as stream:
            results = sum(1 for _ in stream)
    news(f"as a process: {results / seconds:.1f} articles/s, peak {peak or 0:.0f} MiB")
    return {
        "part": "process",
        "articles": results,
        "seconds": seconds,
        "articles_per_s": results / seconds,
        "peak_mib": peak,
    }


def _watch(process: subprocess.Popen[bytes]) -> float | None:
    """Waits for a process and gives its peak memory in MiB, as seen while it ran.

    What the system tells at its end would count this process too, from which it was forked.
    """
    status, peak = Path(f"/proc/{process.pid}/status"), None
    while process.poll() is None:
        memory = process_memory(status)
        if memory.resident is not None:  # it has not ended: `peak` is then its own, and never falls
            peak = _mib(memory.peak)
        time.sleep(LOOK_S)
    return peak


def _resident() -> float | None:
    gc.collect()
    return _mib(process_memory().resident)


def _mib(size: int | None) -> float | None:
    return None if size is None else size / _MIB
