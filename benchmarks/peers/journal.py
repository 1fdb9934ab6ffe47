"""What was measured of a comparison so far, so that one that is interrupted goes on with the next sitting."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Json = Mapping[str, Any]  # Any: JSON


class Journal:
    """Contenders' rows by name, and the products of matrices that were timed beside the first, kept in a file.

    Args:
        path: the file. One that was kept for another `key` is forgotten.
        key: a digest of all that the rows depend on.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        known = kept.get("key") == key
        self._rows: dict[str, Sequence[Json]] = kept["rows"] if known else {}
        self._gemm: Json = kept["gemm"] if known else {}

    @property
    def rows(self) -> Mapping[str, Sequence[Json]]:
        """The rows of those that are measured."""
        return self._rows

    @property
    def gemm(self) -> Json:
        """Of the first sitting, empty before."""
        return self._gemm

    def add(self, rows: Mapping[str, Sequence[Json]], gemm: Json) -> None:
        """Keeps what a sitting gave. Those who sat before, too, keep their first rows."""
        self._rows = {**rows, **self._rows}
        self._gemm = self._gemm or gemm
        beside = self._path.with_suffix(".part")
        record = {"key": self._key, "rows": self._rows, "gemm": self._gemm}
        beside.write_text(json.dumps(record), encoding="utf-8")
        beside.rename(self._path)
