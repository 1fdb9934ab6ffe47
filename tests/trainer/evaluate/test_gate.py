"""The gate's checks: a target is reached by the bound of the interval, and what is not known is not reached."""

from typing import Any

import pytest

from distillery_runtime.spec.model import Targets
from distillery_trainer.evaluate.gate import check_targets


def evaluation(**changes: object) -> dict[str, Any]:
    """An `eval.json` as far as the gate reads it: MAE 0.7 to 0.9, recall 0.6 to 1, a gain of 0.1 to 0.3."""
    found: dict[str, Any] = {
        "mae": [0.7, 0.9],
        "recall": 0.8,
        "positives": 1000,
        "recall_interval": [0.6, 1.0],
        "gain": [-0.3, -0.1],
    }
    found |= changes
    student = {
        "mae": 0.8,
        "tiers": {"medium": {"recall": found["recall"], "positives": found["positives"]}},
        "intervals": {"mae": found["mae"], "recall_medium": found["recall_interval"]},
    }
    gain = {"mae": {"difference": -0.2, "interval": found["gain"]}}
    return {"parts": {"total": {"student": student}}, "differences": {"total": {"student_minus_tfidf_ridge": gain}}}


@pytest.mark.parametrize(
    ("targets", "met"),
    [
        ({"mae": 0.9}, True),
        ({"mae": 0.89}, False),
        ({"recall_operating": 0.6}, True),
        ({"recall_operating": 0.61}, False),
        ({"better_than_tfidf_ridge_by": 0.1}, True),
        ({"better_than_tfidf_ridge_by": 0.11}, False),
    ],
)
def test_a_target_is_met_where_the_bound_of_the_interval_reaches_it(targets: dict[str, float], met: bool) -> None:
    (check,) = check_targets(Targets(**targets), evaluation(), "medium")

    assert check.met is met


def test_without_targets_there_is_nothing_to_check() -> None:
    assert check_targets(Targets(), evaluation(), "medium") == []


def test_what_the_test_articles_do_not_tell_is_not_met() -> None:
    found = evaluation(recall=None, recall_interval=None)

    (check,) = check_targets(Targets(recall_operating=0.1), found, "medium")

    assert not check.met
    assert str(check) == "recall_operating: not known, no interval, expected at least 0.1"


def test_all_of_three_articles_found_is_no_proof_of_recall() -> None:
    found = evaluation(recall=1.0, positives=3, recall_interval=[1.0, 1.0])

    (check,) = check_targets(Targets(recall_operating=0.8), found, "medium")

    assert not check.met
    assert check.bound == pytest.approx(0.025 ** (1 / 3))  # whose cube is what 2.5 % means for three of three


def test_a_check_states_the_value_the_bound_and_the_target() -> None:
    targets = Targets(mae=0.85, better_than_tfidf_ridge_by=0.15)

    assert [str(check) for check in check_targets(targets, evaluation(), "medium")] == [
        "mae: 0.800, upper bound 0.900, expected at most 0.85",
        "better_than_tfidf_ridge_by: 0.200, lower bound 0.100, expected at least 0.15",
    ]
