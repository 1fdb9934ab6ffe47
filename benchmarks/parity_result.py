"""The JSON file of one measurement: what was run, on which machine, and its rows; no place of this machine's in it."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from distillery_runtime.bench.machine import this_machine

Value = str | int | float | bool | None
Row = dict[str, Value]

_FOLDERS = re.compile(r"(?<![\w.])(?:~|\.{1,2})?/(?:[^\s/:'\"]+/)*(?=[^\s/:'\"])")


def write_result(path: Path, benchmark: str, threads: int, rows: Sequence[Row], gpu: bool = False) -> None:
    """Writes a result beside its place and renames it.

    Args:
        path: the file.
        benchmark: what was measured.
        threads: threads of each model.
        rows: flat objects.
        gpu: whether the GPU's name belongs into it.
    """
    record = {
        "benchmark": benchmark,
        "schema_version": 1,
        "command": command(sys.argv),
        "machine": asdict(this_machine(gpu)),
        "threads": threads,
        "rows": list(rows),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    beside.rename(path)
    news(f"{path.name} written")


def command(arguments: Sequence[str]) -> str:
    """A command line as others may read it: of each path, only its last part."""
    script, *rest = arguments
    return " ".join(["python", f"benchmarks/{Path(script).name}", *map(_last_part, rest)])


def _last_part(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    return option + equals + (Path(value).name if "/" in value else value)


def without_folders(message: str) -> str:
    """A message's first line, its paths cut to their last parts."""
    lines = message.strip().splitlines()
    return _FOLDERS.sub("", lines[0])[:300] if lines else ""


def news(message: str) -> None:
    """Tells whoever is watching."""
    print(message, file=sys.stderr, flush=True)
