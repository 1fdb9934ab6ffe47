"""The evaluation's file: it comes back as it was written, and what does not belong there is named."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distillery_runtime.errors import InputError
from distillery_trainer.evaluate.evaluation import (
    Evaluation,
    NoiseFloor,
    UnreadCounts,
    read_evaluation,
    write_evaluation,
)

Json = dict[str, Any]  # Any: nested JSON


@pytest.mark.parametrize("unreadable", [None, UnreadCounts(1, 2, 3, 4)])
@pytest.mark.parametrize("floor", [None, NoiseFloor(10, 0.5, {"relevance": 0.5}, {"student": None, "constant": 0.0})])
def test_an_evaluation_comes_back_as_it_was_written(
    evaluation: Evaluation, tmp_path: Path, unreadable: UnreadCounts | None, floor: NoiseFloor | None
) -> None:
    made = replace(evaluation, unreadable=unreadable, noise_floor=floor)
    write_evaluation(tmp_path / "eval.json", made)

    found = read_evaluation(tmp_path / "eval.json")

    assert found == made
    write_evaluation(tmp_path / "again.json", found)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "eval.json").read_bytes()


def without(*path: str) -> Callable[[Json], None]:
    """Removes the key at a path."""

    def change(record: Json) -> None:
        for key in path[:-1]:
            record = record[key]
        del record[path[-1]]

    return change


def with_value(value: object, *path: str) -> Callable[[Json], None]:
    """Sets the key at a path."""

    def change(record: Json) -> None:
        for key in path[:-1]:
            record = record[key]
        record[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (without("cascade"), "cascade"),
        (without("parts", "total"), "parts.total"),
        (without("differences", "total"), "differences.total"),
        (without("parts", "total", "probe"), "parts.total.probe"),
        (without("parts", "total", "probe", "overall", "bias"), "parts.total.probe.overall.bias"),
        (without("parts", "total", "probe", "intervals", "mae"), "parts.total.probe.intervals.mae"),
        (with_value(1, "times"), "times"),
        (with_value(1, "cascade", "missed", "wrongly"), "cascade.missed.wrongly"),
        (with_value("many", "parts", "total", "student", "n"), "parts.total.student.n"),
        (with_value([0.1], "parts", "total", "student", "intervals", "mae"), "parts.total.student.intervals.mae[1]"),
    ],
)
def test_what_is_missing_unknown_or_of_another_type_is_named(
    evaluation: Evaluation, tmp_path: Path, change: Callable[[Json], None], where: str
) -> None:
    record: Json = json.loads(json.dumps(evaluation.to_record()))
    change(record)
    (tmp_path / "eval.json").write_text(json.dumps(record), encoding="utf-8")

    with pytest.raises(InputError) as caught:
        read_evaluation(tmp_path / "eval.json")

    assert [problem.path for problem in caught.value.problems] == [where]


@pytest.mark.parametrize("record", [{}, {"schema_version": 2}])
def test_an_evaluation_of_another_version_is_refused(tmp_path: Path, record: Mapping[str, object]) -> None:
    (tmp_path / "eval.json").write_text(json.dumps(record), encoding="utf-8")

    with pytest.raises(InputError, match="the same `trainer fit` again"):
        read_evaluation(tmp_path / "eval.json")
