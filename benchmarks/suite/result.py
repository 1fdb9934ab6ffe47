"""The suite's result file: pytest-benchmark's figures as rows, in the envelope that all our measurements have."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.parity_result import command, without_folders
from benchmarks.suite.settings import OPTIONS, Settings
from distillery_runtime.bench.machine import this_machine
from distillery_runtime.bench.timing import spread

MS = 1e3
SCHEMA_VERSION = 1

Record = dict[str, object]


def result_record(
    settings: Settings, bundle: str, arguments: Sequence[str], rows: Sequence[Record], skipped: Mapping[str, int]
) -> Record:
    """The content of a result file.

    Args:
        settings: the suite's options.
        bundle: the bundle's name and id.
        arguments: pytest's arguments.
        rows: what was measured.
        skipped: how many measurements were left out, by reason.
    """
    gpu = any(str(row.get("variant", "")).startswith("cuda") for row in rows)
    return {
        "benchmark": "suite",
        "schema_version": SCHEMA_VERSION,
        "command": _command(arguments),
        "machine": asdict(this_machine(gpu)),
        "threads": settings.threads,
        "bundle": bundle,
        "articles": settings.articles.name if settings.articles else "the bundle's golden articles, repeated and cut",
        "rows": list(rows),
        "left_out": [{"reason": without_folders(reason), "count": count} for reason, count in skipped.items()],
    }


# Any: pytest-benchmark's Metadata, which it passes to its hooks without a type.
def rows_of(benchmarks: Iterable[Any]) -> list[Record]:
    """A row for each benchmark that ended well: group, what is known of it, and its milliseconds."""
    return [_row(benchmark) for benchmark in benchmarks if not benchmark.has_error]


def _row(benchmark: Any) -> Record:  # Any: as above
    found = spread([seconds * MS for seconds in benchmark.stats.data])
    assert found is not None  # there is a round at least
    return {"group": benchmark.group, **benchmark.extra_info, "ms": asdict(found)}


def _command(arguments: Sequence[str]) -> str:
    """What was typed, as far as the figures depend on it: of each path, only its last part."""
    kept: list[str] = []
    for place, argument in enumerate(arguments):
        option, equals, _ = argument.partition("=")
        if option in OPTIONS:
            kept += [argument] if equals else arguments[place : place + 2]
    return command(["", *kept]).replace("python benchmarks/", "pytest benchmarks/suite", 1)
