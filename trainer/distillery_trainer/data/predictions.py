"""What a run's models say of its test articles, without their texts: `predictions.jsonl`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.strict_json import parse_json
from distillery_runtime.spec.verdict import DECIMALS
from distillery_trainer.store.files import write_jsonl

Array = NDArray[np.float64]

MAKE_AGAIN = "as this version makes it (the same `trainer fit` again)"


STAGES = ("probe", "student")  # columns of `unread`; predictions of before do not have it


@dataclass(frozen=True, slots=True)
class Predictions:
    """N test articles in file order.

    `groups`: their near-duplicate groups. `tokens`, `truncated`: what the student's window made of them. `characters`:
    the length of their texts. `labels`, `probe`, `student`: (N, D) float64 in [0, 10], the models' calibrated.
    `student_raw`: (N, D) float64, the student's raw outputs. `unread`: (N, 2) float64, the shares in [0, 1] of the text
    that probe and student cannot read, None where it is not known. All rounded to 4 decimals, columns in spec order.
    """

    ids: Sequence[str]
    groups: Sequence[str]
    tokens: Sequence[int]
    truncated: Sequence[bool]
    characters: Sequence[int]
    labels: Array
    probe: Array
    student: Array
    student_raw: Array
    unread: Array | None = None

    def select(self, places: Sequence[int]) -> "Predictions":
        """The articles at these places, in this order."""
        chosen = np.array(places, dtype=np.int64)
        return Predictions(
            [self.ids[i] for i in places],
            [self.groups[i] for i in places],
            [self.tokens[i] for i in places],
            [self.truncated[i] for i in places],
            [self.characters[i] for i in places],
            self.labels[chosen],
            self.probe[chosen],
            self.student[chosen],
            self.student_raw[chosen],
            None if self.unread is None else self.unread[chosen],
        )


def rounded_scores(scores: NDArray[np.floating]) -> Array:
    """As predictions keep them: float64 with 4 decimals."""
    return np.asarray(scores, np.float64).round(DECIMALS)


def write_predictions(path: Path, predictions: Predictions, names: Sequence[str]) -> None:
    """Writes one line for each article."""
    write_jsonl(path, _rows(predictions, names))


def read_predictions(path: Path, names: Sequence[str]) -> Predictions:
    """Reads what `write_predictions` wrote for a filter of these dimensions.

    Raises:
        InputError: the file is missing, a line lacks a field, or a value is no finite number.
    """
    try:
        rows: list[Any] = [parse_json(line) for line in path.read_bytes().split(b"\n") if line]  # Any: as below
        return _read(rows, names)
    except FileNotFoundError as error:
        raise InputError(str(path.parent), [Problem(path.name, "missing", MAKE_AGAIN)]) from error
    except (ValueError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise InputError(str(path), [Problem("(file)", found, "the predictions that a fit writes")]) from error


def _read(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Predictions:  # Any: JSON of known shape
    def scores(key: str) -> Array:
        values = np.array([[row[key][name] for name in names] for row in rows], np.float64).reshape(-1, len(names))
        if not np.all(np.isfinite(values)):
            raise ValueError(f"{key}: a value that is not finite")
        return values

    return Predictions(
        ids=[str(row["id"]) for row in rows],
        groups=[str(row["group"]) for row in rows],
        tokens=[int(row["tokens"]) for row in rows],
        truncated=[bool(row["truncated"]) for row in rows],
        characters=[int(row["characters"]) for row in rows],
        labels=scores("labels"),
        probe=scores("probe"),
        student=scores("student"),
        student_raw=scores("student_raw"),
        unread=np.array([[row.get("unread", {}).get(stage, 0.0) for stage in STAGES] for row in rows]).reshape(-1, 2),
    )


def _rows(made: Predictions, names: Sequence[str]) -> Iterator[dict[str, object]]:
    for i, article in enumerate(made.ids):
        unread = {} if made.unread is None else {"unread": dict(zip(STAGES, made.unread[i].tolist(), strict=True))}
        yield {
            "id": article,
            "split": "test",
            "tokens": made.tokens[i],
            "truncated": made.truncated[i],
            "characters": made.characters[i],
            **unread,
            "labels": _named(names, made.labels[i]),
            "probe": _named(names, made.probe[i]),
            "student": _named(names, made.student[i]),
            "student_raw": _named(names, made.student_raw[i]),
            "group": made.groups[i],
        }


def _named(names: Sequence[str], values: Array) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))
