"""Metrics, against scikit-learn and scipy, and the intervals of the group bootstrap."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    mean_absolute_error,
    precision_score,
    recall_score,
    root_mean_squared_error,
)

from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.evaluate import metrics

ROUNDING = 1e-6  # reports carry six decimals
FEW = settings(derandomize=True, max_examples=25, deadline=None)
SEEDS = st.integers(0, 10_000)


def scores(seed: int, rows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and labelled scores, half points with many ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 21, size=(rows, 2)) / 2
    predicted = np.clip(labels + rng.integers(-6, 7, size=labels.shape) / 2, 0, 10)
    return predicted, labels


@pytest.mark.parametrize("seed", range(5))
def test_errors_of_each_dimension_are_those_of_scikit_learn_and_scipy(spec: FilterSpec, seed: int) -> None:
    predicted, labels = scores(seed)

    found = metrics.describe(predicted, labels, spec).dimensions

    for i, name in enumerate(spec.dimension_names):
        said, true = predicted[:, i], labels[:, i]
        assert asdict(found[name]) == pytest.approx(
            {
                "mae": mean_absolute_error(true, said),
                "rmse": root_mean_squared_error(true, said),
                "bias": (said - true).mean(),
                "spearman": spearmanr(said, true).statistic,
            },
            abs=ROUNDING,
        )


def test_the_total_error_is_the_mean_over_all_cells(spec: FilterSpec) -> None:
    predicted, labels = scores(1)

    found = metrics.describe(predicted, labels, spec)

    assert (found.n, found.mae, found.rmse) == pytest.approx(
        (40, np.abs(predicted - labels).mean(), np.sqrt(np.square(predicted - labels).mean())), abs=ROUNDING
    )


def test_the_overall_is_compared_as_the_verdict_gives_it_gatekeepers_applied(spec: FilterSpec) -> None:
    predicted, labels = scores(2)

    found = metrics.describe(predicted, labels, spec).overall

    said, true = overalls(predicted, spec), overalls(labels, spec)
    assert found.mae == pytest.approx(mean_absolute_error(true, said), abs=ROUNDING)


@FEW
@given(SEEDS, st.floats(0.5, 9.5))
def test_decisions_at_a_threshold_are_those_of_scikit_learn(seed: int, threshold: float) -> None:
    predicted, labels = scores(seed)
    said, true = predicted[:, 0], labels[:, 0]

    found = metrics.decisions(said, true, {"good": threshold})["good"]

    yes, truly = said >= threshold, true >= threshold
    assert (found.positives, found.predicted) == (truly.sum(), yes.sum())
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        if (value := getattr(found, name)) is not None:
            assert value == pytest.approx(score(truly, yes), abs=ROUNDING)


def test_a_score_exactly_at_the_threshold_counts_as_reached() -> None:
    found = metrics.decisions(np.array([4.0, 3.9]), np.array([4.0, 4.0]), {"medium": 4.0})["medium"]

    assert (found.positives, found.predicted) == (2, 1)


@pytest.mark.parametrize(
    ("said", "true", "expected"),
    [
        ([1.0, 1.0], [9.0, 1.0], {"precision": None, "recall": 0.0, "f1": 0.0}),
        ([9.0, 1.0], [1.0, 1.0], {"precision": 0.0, "recall": None, "f1": 0.0}),
        ([1.0, 1.0], [1.0, 1.0], {"precision": None, "recall": None, "f1": None}),
    ],
    ids=["nothing predicted", "nothing to find", "neither"],
)
def test_a_ratio_without_a_denominator_is_none(
    said: list[float], true: list[float], expected: dict[str, float | None]
) -> None:
    found = metrics.decisions(np.array(said), np.array(true), {"medium": 4.0})["medium"]

    assert {key: getattr(found, key) for key in expected} == expected


@FEW
@given(SEEDS)
def test_spearman_is_scipys_also_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 6, 30).astype(float), rng.integers(0, 6, 30).astype(float)

    assert metrics.spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


@pytest.mark.parametrize(("a", "b"), [([3, 3, 3], [1, 2, 3]), ([1, 2, 3], [3, 3, 3]), ([1], [2]), ([], [])])
def test_spearman_of_a_constant_or_of_one_article_is_none(a: list[float], b: list[float]) -> None:
    assert metrics.spearman(np.array(a, float), np.array(b, float)) is None


@FEW
@given(SEEDS)
def test_the_interval_of_a_mean_contains_the_mean(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=60)
    groups = [str(i // 2) for i in range(60)]

    low, high = metrics.group_interval(metrics.weighted_mean(values), groups, seed, resamples=200)

    assert low < values.mean() < high


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(size=400)

    low, high = metrics.group_interval(metrics.weighted_mean(values), [str(i) for i in range(400)], 0, resamples=4000)

    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)  # 4000 draws place an end within 5 %


@pytest.mark.parametrize("seed", range(3))
def test_duplicates_within_their_groups_do_not_narrow_the_interval(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=50)
    groups = [f"g{i}" for i in range(50)]

    once = metrics.group_interval(metrics.weighted_mean(values), groups, seed)
    four_times = metrics.group_interval(metrics.weighted_mean(np.tile(values, 4)), groups * 4, seed)

    assert four_times == once


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_is_wider_by_group_than_for_duplicates_taken_as_articles(seed: int) -> None:
    values = np.tile(np.random.default_rng(seed).normal(size=50), 4)
    by_group = metrics.group_interval(metrics.weighted_mean(values), [str(i % 50) for i in range(200)], seed)

    by_article = metrics.group_interval(metrics.weighted_mean(values), [str(i) for i in range(200)], seed)

    assert by_group[1] - by_group[0] > 1.6 * (by_article[1] - by_article[0])  # twice, in theory


def test_a_statistic_undefined_in_most_resamples_has_no_interval() -> None:
    recall = metrics.weighted_recall(np.array([True, False, False]), np.zeros(3, bool))

    assert metrics.group_interval(recall, ["a", "b", "c"], 0) is None


@FEW
@given(SEEDS)
def test_under_equal_weights_recall_precision_and_f1_are_those_of_scikit_learn(seed: int) -> None:
    selected, true = (part[:, 0] >= 5 for part in scores(seed))

    found = [f(selected, true)(np.ones(40)) for f in
             (metrics.weighted_recall, metrics.weighted_precision, metrics.weighted_f1)]  # fmt: skip

    assert found == pytest.approx([f(true, selected) for f in (recall_score, precision_score, f1_score)])


@FEW
@given(SEEDS)
def test_average_precision_under_weights_is_that_of_the_articles_repeated_ties_found_together(seed: int) -> None:
    ranking, labels = scores(seed)
    ranking, true = ranking[:, 0], labels[:, 0] >= 5
    weights = np.random.default_rng(seed).multinomial(40, np.full(40, 1 / 40))

    found = metrics.weighted_average_precision(ranking, true)(weights.astype(float))

    repeated = np.repeat(true, weights)
    expected = average_precision_score(repeated, np.repeat(ranking, weights)) if repeated.any() else np.nan
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


@FEW
@given(SEEDS)
def test_the_slope_is_that_of_least_squares(seed: int) -> None:
    said, true = (part[:, 0] for part in scores(seed))

    assert metrics.slope(said, true) == pytest.approx(np.polyfit(true, said, 1)[0])


def test_of_labels_that_are_all_the_same_no_slope_is_known() -> None:
    assert metrics.slope(np.array([1.0, 2.0]), np.array([3.0, 3.0])) is None


@FEW
@given(SEEDS)
def test_spearman_under_weights_is_that_of_the_articles_repeated(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 6, 30).astype(float), rng.integers(0, 6, 30).astype(float)
    weights = rng.multinomial(30, np.full(30, 1 / 30))

    found = metrics.weighted_spearman(a, b)(weights.astype(float))

    assert found == pytest.approx(spearmanr(np.repeat(a, weights), np.repeat(b, weights)).statistic, abs=1e-12)


def test_spearman_under_weights_is_undefined_where_only_equal_values_are_drawn() -> None:
    statistic = metrics.weighted_spearman(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]))

    assert np.isnan(statistic(np.array([1.0, 2.0, 0.0])))


@FEW
@given(SEEDS)
def test_a_difference_of_recalls_is_that_of_two_recalls(seed: int) -> None:
    (one, labels), (other, _) = scores(seed), scores(seed + 1)
    weights = np.random.default_rng(seed).multinomial(40, np.full(40, 1 / 40)).astype(float)
    one, other, true = (part[:, 0] >= 5 for part in (one, other, labels))

    found = metrics.weighted_recall_difference(one, other, true)(weights)

    first, second = (metrics.weighted_recall(part, true)(weights) for part in (one, other))
    assert found == pytest.approx(first - second)


@pytest.mark.parametrize(
    ("said", "k", "expected"),
    [([9, 8, 1, 0], 2, 0.5), ([9, 8, 7, 0], 3, 1.0), ([1, 1, 1, 1], 2, 0.5), ([0, 9, 5, 5], 2, 0.25)],
    ids=["one of two", "both", "all tied", "tied at the last place"],
)
def test_recall_at_k_counts_the_highest_and_shares_ties(said: list[float], k: int, expected: float) -> None:
    labels = np.array([8.0, 1.0, 8.0, 1.0])

    assert metrics.recall_at(np.array(said, float), labels, 5.0, k) == expected


def test_recall_at_k_of_nothing_to_find_is_none() -> None:
    assert metrics.recall_at(np.array([9.0, 1.0]), np.array([1.0, 1.0]), 5.0, 1) is None


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(0).normal(size=30)
    groups = [str(i) for i in range(30)]

    first, again, other = (metrics.group_interval(metrics.weighted_mean(values), groups, seed) for seed in (1, 1, 2))

    assert first == again != other


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), (float("nan"), None), (float("inf"), None), (1 / 3, 0.333333)]
)
def test_a_report_carries_six_decimals_or_none(value: float | None, expected: float | None) -> None:
    assert metrics.rounded(value) == expected
