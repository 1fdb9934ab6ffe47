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
class Answers:
    """A stage's answers on N articles, rounded as results show them.

    `expected`, `scores`: (N, D) float64 in [0, 10], the two read-outs. `chance`: (N,) float64 in [0, 1], that the
    oracle places each at the operating tier or above.
    """

    expected: Array
    scores: Array
    chance: Array

    def select(self, places: Sequence[int] | NDArray[np.integer]) -> "Answers":
        """Those at these places."""
        chosen = np.asarray(places, np.int64)
        return Answers(self.expected[chosen], self.scores[chosen], self.chance[chosen])


@dataclass(frozen=True, slots=True)
class Decided:
    """A system's answers on N articles, and which of them it selects: (N,) bool."""

    answers: Answers
    selected: NDArray[np.bool_]

    @property
    def scores(self) -> Array:
        """The scores that a reader sees: (N, D)."""
        return self.answers.scores

    def select(self, places: Sequence[int] | NDArray[np.integer]) -> "Decided":
        """Those at these places."""
        return Decided(self.answers.select(places), self.selected[np.asarray(places, np.int64)])


def in_cascade(probe: Answers, student: Decided, stopped: NDArray[np.bool_]) -> Decided:
    """What both stages decide together: (N,) bool, which articles the probe answers. None of these is selected."""
    rows, own = stopped[:, None], student.answers
    answers = Answers(
        np.where(rows, probe.expected, own.expected),
        np.where(rows, probe.scores, own.scores),
        np.where(stopped, probe.chance, own.chance),
    )
    return Decided(answers, student.selected & ~stopped)


@dataclass(frozen=True, slots=True)
class Predictions:
    """N test articles in file order.

    `groups`: their near-duplicate groups. `tokens`, `truncated`: what the student's window made of them. `characters`:
    the length of their texts. `labels`: (N, D) float64 in [0, 10]. `probe`, `student`: what the models answer.
    `student_raw`: (N, D) float64, the student's raw outputs. `selects_from`: (N,) float64, the chance from which the
    student selects each, NaN where it selects by the tier; by fold it differs. `unread`: (N, 2) float64, the shares in
    [0, 1] of the text that probe and student cannot read, None where it is not known. All but chances are rounded to 4
    decimals, columns in spec order.
    """

    ids: Sequence[str]
    groups: Sequence[str]
    tokens: Sequence[int]
    truncated: Sequence[bool]
    characters: Sequence[int]
    labels: Array
    probe: Answers
    student: Answers
    student_raw: Array
    selects_from: Array
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
            self.probe.select(chosen),
            self.student.select(chosen),
            self.student_raw[chosen],
            self.selects_from[chosen],
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
    def scores(*path: str) -> Array:
        found = [_at(row, path) for row in rows]
        values = np.array([[own[name] for name in names] for own in found], np.float64).reshape(-1, len(names))
        return _finite(values, path)

    def answers(stage: str) -> Answers:
        chance = _finite(np.array([row[stage]["chance"] for row in rows], np.float64), (stage, "chance"))
        return Answers(scores(stage, "expected"), scores(stage, "scores"), chance)

    return Predictions(
        ids=[str(row["id"]) for row in rows],
        groups=[str(row["group"]) for row in rows],
        tokens=[int(row["tokens"]) for row in rows],
        truncated=[bool(row["truncated"]) for row in rows],
        characters=[int(row["characters"]) for row in rows],
        labels=scores("labels"),
        probe=answers("probe"),
        student=answers("student"),
        student_raw=scores("student_raw"),
        selects_from=np.array([row["selects_from"] for row in rows], np.float64),
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
            "probe": _answer(names, made.probe, i),
            "student": _answer(names, made.student, i),
            "student_raw": _named(names, made.student_raw[i]),
            "selects_from": None if np.isnan(made.selects_from[i]) else float(made.selects_from[i]),
            "group": made.groups[i],
        }


def _named(names: Sequence[str], values: Array) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def _answer(names: Sequence[str], answers: Answers, place: int) -> dict[str, object]:
    """A stage's answer on one article."""
    return {
        "scores": _named(names, answers.scores[place]),
        "expected": _named(names, answers.expected[place]),
        "chance": float(answers.chance[place]),
    }


def _at(row: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:  # Any: JSON of known shape
    for key in path:
        row = row[key]
    return row


def _finite(values: Array, path: Sequence[str]) -> Array:
    if not np.all(np.isfinite(values)):
        raise ValueError(f"{'.'.join(path)}: a value that is not finite")
    return values
