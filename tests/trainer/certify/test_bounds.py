"""Upper bounds on a miss rate: exact ones, those by betting, and how many positives they take."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from distillery_trainer.certify.bounds import positives_needed, positives_planned, upper_bound, weighted_upper_bound

FEW = settings(derandomize=True, max_examples=25, deadline=None)


@FEW
@given(st.integers(1, 300), st.floats(0, 1), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_the_bound_is_scipys_one_sided_clopper_pearson(positives: int, share: float, confidence: float) -> None:
    misses = int(share * positives)

    expected = binomtest(misses, positives, alternative="less").proportion_ci(confidence, method="exact").high

    assert upper_bound(misses, positives, confidence) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("misses", "positives"), [(0, 0), (5, 5)])
def test_nothing_seen_or_everything_missed_bounds_nothing(misses: int, positives: int) -> None:
    assert upper_bound(misses, positives, 0.95) == 1.0


@pytest.mark.parametrize(("target", "needed"), [(0.05, 59), (0.02, 149), (0.01, 299)])
def test_so_many_positives_without_a_miss_are_needed(target: float, needed: int) -> None:
    assert positives_needed(target, 0.95) == needed


@FEW
@given(st.floats(0.005, 0.5), st.floats(0.6, 0.99))
def test_the_needed_positives_suffice_and_one_fewer_does_not(target: float, confidence: float) -> None:
    needed = positives_needed(target, confidence)

    assert upper_bound(0, needed, confidence) <= target + 1e-12
    assert upper_bound(0, needed - 1, confidence) > target


@pytest.mark.parametrize(("misses", "count"), [(0, 100), (3, 100), (10, 400)])
def test_with_equal_weights_the_bet_is_near_the_exact_bound_and_above_it(misses: int, count: int) -> None:
    missed = np.arange(count) < misses

    bound = weighted_upper_bound(missed, np.full(count, 2.0), 2.0, 0.95)

    exact = upper_bound(misses, count, 0.95)
    assert exact < bound < 2 * exact


def test_the_order_of_the_positives_does_not_count() -> None:
    generator = np.random.default_rng(0)
    missed, weights = generator.uniform(size=200) < 0.04, generator.uniform(1, 4, 200)
    other = generator.permutation(200)

    bounds = [weighted_upper_bound(missed[o], weights[o], 4.0, 0.95) for o in (np.arange(200), other)]

    assert bounds[0] == pytest.approx(bounds[1], abs=1e-7)


@pytest.mark.parametrize("missed", [[], [True], [True] * 20])
def test_no_hit_bounds_nothing_by_betting_either(missed: list[bool]) -> None:
    assert weighted_upper_bound(np.array(missed, bool), np.ones(len(missed)), 1.0, 0.95) == 1.0


def test_too_few_light_positives_bound_nothing() -> None:
    assert weighted_upper_bound(np.zeros(3, bool), np.full(3, 1e-9), 1.0, 0.95) == 1.0


@FEW
@given(st.integers(0, 10_000))
def test_a_miss_instead_of_a_hit_raises_the_bound(seed: int) -> None:
    generator = np.random.default_rng(seed)
    missed, weights = generator.uniform(size=120) < 0.1, generator.uniform(1, 3, 120)
    more = missed.copy()
    more[int(np.flatnonzero(~missed)[0])] = True

    assert weighted_upper_bound(more, weights, 3.0, 0.95) > weighted_upper_bound(missed, weights, 3.0, 0.95)


@FEW
@given(st.floats(0, 0.03), st.floats(0.04, 0.2))
def test_as_many_positives_as_planned_certify_with_the_power_asked_for(rate: float, target: float) -> None:
    count = positives_planned(target, 0.95, rate)

    assert count is not None
    certifying = [k for k in range(count + 1) if upper_bound(k, count, 0.95) <= target]
    assert binom.cdf(max(certifying), count, rate) >= 0.8


def test_no_number_certifies_a_rate_that_is_above_the_target_or_as_good_as_on_it() -> None:
    assert positives_planned(0.05, 0.95, 0.05) is None
    assert positives_planned(0.05, 0.95, 0.0499) is None


def test_without_a_miss_the_plan_is_the_fewest_that_certify() -> None:
    assert positives_planned(0.02, 0.95, 0.0) == positives_needed(0.02, 0.95) == 149
