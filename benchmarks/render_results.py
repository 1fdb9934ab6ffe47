"""The result files that the page is written from, by what they measured."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillery_runtime.errors import InputError, Problem

# Any: JSON of a dozen shapes, each known to the module that renders it.
Json = Mapping[str, Any]

KINDS = ("parity", "peers", "suite", "bench", "stream", "gpu", "build", "cascade", "quality", "finds", "losses",
         "joint", "kills", "cost")  # fmt: skip
SCHEMA_VERSION = 1
_CASCADE = {"what", "evaluation"}  # files written by hand for whole cascades name no benchmark


@dataclass(frozen=True, slots=True)
class Result:
    """One file: its name without folder and ending, and its content."""

    name: str
    record: Json

    @property
    def subject(self) -> str:
        """What was measured, as the file's name has it: `peers-x.json` is about x."""
        return self.name.partition("-")[2]

    @property
    def is_of_old_split(self) -> bool:
        """Whether its test articles are those of before near-duplicates were found exactly."""
        return bool(self.record.get("split_version", 1) == 1)

    @property
    def label(self) -> str:
        """The subject, marked where it was tested on the old split's articles."""
        return f"{self.subject} (old split)" if self.is_of_old_split else self.subject

    @property
    def rows(self) -> Sequence[Json]:
        """Its rows; none where it has another shape."""
        rows: Sequence[Json] = self.record.get("rows", [])
        return rows


Results = Mapping[str, Sequence[Result]]


def read_results(folder: Path) -> Results:
    """All result files of a folder, by kind and then by name.

    Raises:
        InputError: a file is no result, or of another schema.
    """
    found: dict[str, list[Result]] = {kind: [] for kind in KINDS}
    problems = []
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        kind = record.get("benchmark", "cascade" if record.keys() >= _CASCADE else None)
        if kind not in found:
            problems.append(Problem(f"{path.name}: benchmark", str(kind), f"one of {', '.join(KINDS)}"))
        elif record.get("schema_version") != SCHEMA_VERSION:
            found_version = str(record.get("schema_version"))
            problems.append(Problem(f"{path.name}: schema_version", found_version, str(SCHEMA_VERSION)))
        else:
            found[kind].append(Result(path.stem, record))
    if problems:
        raise InputError(str(folder), problems)
    return found
