"""A new process that opens a bundle and scores: how long each step took, and its memory after each, as a line of JSON.

    python -m benchmarks.suite.worker BUNDLE VARIANT PROVIDER THREADS ARTICLES COUNT

Nothing but the runtime is imported here, for the process is to be like one that serves.
"""

import time

BEGAN = time.perf_counter()

import json  # noqa: E402 - its time counts, as in any process
import sys  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

import distillery_runtime  # noqa: E402
from distillery_runtime.bench.machine import process_memory  # noqa: E402
from distillery_runtime.format.variants import Device  # noqa: E402

IMPORTED = time.perf_counter()
_MIB = 1 << 20


def main(arguments: Sequence[str]) -> int:
    """Opens the bundle, scores one article and then the others."""
    folder, variant, provider, threads, articles, count = arguments
    record: dict[str, object] = {"import_s": IMPORTED - BEGAN, "resident_imported_mib": resident()}
    records = [json.loads(line) for line in Path(articles).read_text(encoding="utf-8").splitlines()][: int(count)]
    began = time.perf_counter()
    device: Device = "cuda" if provider == "cuda" else "cpu"
    scorer = distillery_runtime.load(folder, provider=device, threads=int(threads), variant=variant)
    loaded = time.perf_counter()
    record |= {"load_s": loaded - began, "resident_loaded_mib": resident()}
    first = scorer.score(records[0])
    record |= {"first_score_s": time.perf_counter() - loaded, "resident_first_mib": resident()}
    results = [first, *scorer.score_batch(records[1:])]
    memory = process_memory()
    record |= {"resident_scored_mib": resident(), "peak_mib": memory.peak and memory.peak / _MIB}
    record |= {"overalls": [result.overall for result in results], "modules": len(sys.modules)}
    print(json.dumps(record))
    return 0


def resident() -> float | None:
    """What the process holds now, in MiB."""
    found = process_memory().resident
    return None if found is None else found / _MIB


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
