"""Predictions: they come back from their file as they were, and what two stages decide together."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from distillery_runtime.errors import InputError
from distillery_trainer.data.predictions import (
    Answers,
    Decided,
    Predictions,
    in_cascade,
    read_predictions,
    rounded_scores,
    write_predictions,
)

NAMES = ("first", "second")


def answers(seed: int, count: int = 4) -> Answers:
    generator = np.random.default_rng(seed)
    expected, scores = (rounded_scores(generator.uniform(0, 10, (count, 2))) for _ in range(2))
    return Answers(expected, scores, generator.uniform(size=count).round(6))


@pytest.fixture
def predictions() -> Predictions:
    """Four articles, two of them selected by their tier."""
    return Predictions(
        ids=list("abcd"), groups=list("aacd"), tokens=[1, 2, 3, 4], truncated=[True, False, False, True],
        characters=[10, 20, 30, 40], labels=rounded_scores(np.arange(8).reshape(4, 2)), probe=answers(0),
        student=answers(1), student_raw=rounded_scores(np.random.default_rng(2).normal(size=(4, 2))),
        selects_from=np.array([0.25, np.nan, 0.5, np.nan]), unread=np.full((4, 2), 0.125),
    )  # fmt: skip


def test_predictions_come_back_as_they_were_written(predictions: Predictions, tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions.jsonl", predictions, NAMES)

    found = read_predictions(tmp_path / "predictions.jsonl", NAMES)

    for item in fields(Predictions):
        own, again = getattr(predictions, item.name), getattr(found, item.name)
        if isinstance(own, Answers):
            assert all(np.array_equal(getattr(own, f.name), getattr(again, f.name)) for f in fields(Answers))
        else:
            np.testing.assert_array_equal(again, own)


@pytest.mark.parametrize("stage", ["probe", "student"])
@pytest.mark.parametrize("missing", ["chance", "expected", "scores"])
def test_a_line_without_a_part_of_an_answer_is_refused(
    predictions: Predictions, tmp_path: Path, stage: str, missing: str
) -> None:
    path = tmp_path / "predictions.jsonl"
    write_predictions(path, predictions, NAMES)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    del lines[2][stage][missing]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    with pytest.raises(InputError, match=missing):
        read_predictions(path, NAMES)


def test_in_a_cascade_the_probe_answers_where_it_stops_and_selects_nothing() -> None:
    probe, student = answers(0), Decided(answers(1), np.array([True, True, False, False]))
    stopped = np.array([True, False, True, False])

    found = in_cascade(probe, student, stopped)

    assert found.selected.tolist() == [False, True, False, False]
    for name in ("expected", "scores", "chance"):
        for place, by_probe in enumerate(stopped):
            own = probe if by_probe else student.answers
            np.testing.assert_array_equal(getattr(found.answers, name)[place], getattr(own, name)[place])
