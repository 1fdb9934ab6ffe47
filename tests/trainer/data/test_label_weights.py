"""What labels count: an article's own weight, and less for a label that the oracle was less sure of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.data.labels import PRIOR_ANSWERS, STUDENT_VARIANCE, label_weights, read_labels

Row = Callable[..., dict[str, Any]]
Write = Callable[..., Path]

CALM = [[5.0, 5.0], [5.0, 5.2], [5.0, 4.8]]
NOISY = [[2.0, 5.0], [5.0, 5.2], [8.0, 4.8]]


def test_without_repeats_each_label_counts_its_articles_weight() -> None:
    assert label_weights([1, 0.5, 3], [(), (), ()], 2).tolist() == [[1, 1], [0.5, 0.5], [3, 3]]


def test_one_answer_is_no_repeat() -> None:
    assert label_weights([1, 2], [[[5, 5]], ()], 2).tolist() == [[1, 1], [2, 2]]


def test_a_noisy_label_counts_less_than_one_answered_once_and_a_calm_one_more() -> None:
    weights = label_weights([1, 1, 1], [CALM, NOISY, ()], 2)

    assert weights[1, 0] < weights[0, 0]
    assert weights[2].tolist() == [1, 1]
    assert weights[0, 0] > 1
    assert weights[0, 1] == weights[1, 1]  # the same noise in this dimension


def test_a_weight_is_the_inverse_of_what_student_and_label_err_together() -> None:
    weights = label_weights([1, 1], [[[4.0], [6.0]], [[5.0], [5.0]]], 1)

    single = 1.0  # (1 + 1 + 0 + 0) / 2
    variances = [(PRIOR_ANSWERS * single + squares) / (PRIOR_ANSWERS + 1) / 2 for squares in (2.0, 0.0)]
    expected = [(STUDENT_VARIANCE + single) / (STUDENT_VARIANCE + v) for v in variances]
    assert weights[:, 0].tolist() == pytest.approx(expected)


def test_a_label_repeated_without_a_difference_counts_no_more_than_the_floor_allows() -> None:
    same = [[[5.0]] * 1000, *[[[0.0], [10.0]]] * 20]

    weights = label_weights([1.0] * 21, same, 1)

    assert np.isfinite(weights).all()
    assert weights[0, 0] <= (STUDENT_VARIANCE + 50) / STUDENT_VARIANCE


def test_weights_and_repeats_are_read_in_column_order(spec: FilterSpec, row: Row, write_rows: Write) -> None:
    answers = [{"evidence_quality": 4, "relevance": 6}, {"relevance": 8, "evidence_quality": 5}]
    path = write_rows("one.jsonl", [row("a", weight=2, repeats=answers), row("b")])

    found = read_labels([path], spec).articles

    assert [(a.weight, a.repeats) for a in found] == [(2, ((6, 4), (8, 5))), (1, ())]
    assert read_labels([path], spec).weights().shape == (2, 2)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"weight": 0}, "weight"), ({"weight": -1}, "weight"), ({"weight": "1"}, "weight"),
        ({"weight": True}, "weight"),
        ({"weight": 1e7}, "weight"), ({"weight": None}, "weight"), ({"repeats": 3}, "repeats"),
        ({"repeats": [3]}, "repeats[0]"), ({"repeats": [{"relevance": 1, "evidence_quality": 11}]},
         "repeats[0].evidence_quality"),
    ],
)  # fmt: skip
def test_a_weight_or_repeat_that_cannot_count_is_refused(
    spec: FilterSpec, row: Row, write_rows: Write, changes: dict[str, object], path: str
) -> None:
    file = write_rows("one.jsonl", [row("a", **changes)])

    with pytest.raises(InputError) as error:
        read_labels([file], spec)

    assert [problem.path for problem in error.value.problems] == [f"{file}: article 1.{path}"]
