"""The gate's checks: a target is reached by the bound of the interval, and what is not known is not reached."""

from dataclasses import replace

import pytest

from distillery_runtime.spec.model import Targets
from distillery_trainer.evaluate.evaluation import Evaluation
from distillery_trainer.evaluate.gate import check_targets
from distillery_trainer.evaluate.metrics import Interval


def with_recall(evaluation: Evaluation, recall: float | None, interval: Interval | None, **counts: int) -> Evaluation:
    """The evaluation with another recall of the student's, its interval, and counts of articles."""
    student = evaluation.total.student
    finds = replace(student.finds, recall=recall, **counts)
    changed = replace(student, finds=finds, intervals={**student.intervals, "recall": interval})
    return replace(evaluation, parts={"total": replace(evaluation.total, student=changed)})


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
def test_a_target_is_met_where_the_bound_of_the_interval_reaches_it(
    evaluation: Evaluation, targets: dict[str, float], met: bool
) -> None:
    (check,) = check_targets(Targets(**targets), evaluation)

    assert check.met is met


def test_without_targets_there_is_nothing_to_check(evaluation: Evaluation) -> None:
    assert check_targets(Targets(), evaluation) == []


def test_what_the_test_articles_do_not_tell_is_not_met(evaluation: Evaluation) -> None:
    found = with_recall(evaluation, None, None)

    (check,) = check_targets(Targets(recall_operating=0.1), found)

    assert not check.met
    assert "recall_operating: not known" in str(check)
    assert "0.1" in str(check)


def test_all_of_three_articles_found_is_no_proof_of_recall(evaluation: Evaluation) -> None:
    found = with_recall(evaluation, 1.0, (1.0, 1.0), positives=3)

    (check,) = check_targets(Targets(recall_operating=0.8), found)

    assert not check.met
    assert check.bound == pytest.approx(0.025 ** (1 / 3))  # whose cube is what 2.5 % means for three of three


def test_a_check_states_the_value_the_bound_and_the_target(evaluation: Evaluation) -> None:
    targets = Targets(mae=0.85, better_than_tfidf_ridge_by=0.15)

    assert [str(check) for check in check_targets(targets, evaluation)] == [
        "mae: 0.800, upper bound 0.900, expected at most 0.85",
        "better_than_tfidf_ridge_by: 0.200, lower bound 0.100, expected at least 0.15",
    ]
