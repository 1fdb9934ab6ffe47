"""The routing threshold's certificate: exact bounds, a ladder tested from below, and the promise it makes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from distillery_trainer.certify import STEP, certify, positives_needed, upper_bound

FEW = settings(derandomize=True, max_examples=25, deadline=None)
FOUND, PASSED_OVER = 9.5, 0.05


def certified(probe_of_positives: np.ndarray, negatives: int = 50, target: float = 0.05, **changes: float) -> object:
    """A certificate for positives with these probe overalls, and negatives that the probe sees too."""
    student = np.concatenate([np.full(len(probe_of_positives), FOUND), np.full(negatives, PASSED_OVER)])
    probe = np.concatenate([probe_of_positives, np.full(negatives, 0.1)])
    settings_ = {"operating_overall": 4.0, "target_miss_rate": target, "confidence": 0.95} | changes
    return certify(probe, student, **settings_)


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


@pytest.mark.parametrize(("count", "threshold"), [(58, None), (59, 4.0)])
def test_with_59_positives_above_it_the_operating_tier_itself_is_certified_for_5_percent(
    count: int, threshold: float | None
) -> None:
    assert certified(np.full(count, 7.0)).threshold == threshold


def test_too_few_positives_give_no_threshold_and_say_how_many_are_needed() -> None:
    certificate = certified(np.full(12, 7.0), target=0.02)

    assert (certificate.threshold, certificate.share_below) == (None, 0.0)
    assert certificate.statement() == (
        "No threshold is certified: 12 articles at the operating tier are too few, or too many of them were missed; "
        "149 without a miss would certify a miss rate of 2 % at 95 % confidence. Every article goes to the student."
    )


def test_without_any_positive_the_bound_is_1() -> None:
    certificate = certified(np.array([]))

    assert (certificate.threshold, certificate.positives, certificate.upper_bound) == (None, 0, 1.0)


def test_the_statement_of_a_threshold_names_bound_confidence_and_numbers() -> None:
    probe = np.concatenate([np.full(197, 7.0), np.full(3, 3.0)])

    statement = certified(probe).statement()

    bound = binomtest(3, 200, alternative="less").proportion_ci(0.95, method="exact").high
    assert statement == (
        "Of articles that the student places at the operating tier or above, the probe drops at most "
        f"{math.ceil(bound * 1000) / 10:g} % (95 % confidence; 3 missed of 200)."
    )


@FEW
@given(st.integers(0, 10_000), st.integers(60, 300))
def test_the_ladder_stops_at_its_first_failure(seed: int, count: int) -> None:
    probe = np.random.default_rng(seed).normal(5, 1.5, size=count).clip(0, 10)

    found = certified(probe).threshold

    def passes(threshold: float) -> bool:
        return upper_bound(int(np.sum(probe < threshold)), count, 0.95) <= 0.05

    ladder = [*np.arange(STEP, 4.0, STEP), 4.0]
    passed = [float(step) for step in ladder if passes(step)]
    assert found == (max(passed) if passed else None)
    assert all(passes(step) for step in ladder if found is not None and step <= found)


@pytest.mark.parametrize("operating", [0.1, 0.25, 1.1, 4.0, 6.9])
def test_no_threshold_lies_above_the_operating_tier(operating: float) -> None:
    assert certified(np.full(80, 9.0), operating_overall=operating).threshold == operating


@FEW
@given(st.integers(0, 10_000))
def test_misses_and_share_are_those_of_the_threshold(seed: int) -> None:
    probe = np.random.default_rng(seed).normal(6, 1.5, size=150).clip(0, 10)

    certificate = certified(probe, negatives=50)

    below = np.sum(probe < certificate.threshold)
    assert (certificate.articles, certificate.positives, certificate.misses) == (200, 150, below)
    assert certificate.share_below == pytest.approx((below + 50) / 200)  # the probe puts all negatives at 0.1


def test_a_probe_overall_exactly_at_the_threshold_goes_to_the_student() -> None:
    certificate = certified(np.full(80, 4.0))

    assert (certificate.threshold, certificate.misses) == (4.0, 0)


def test_a_student_overall_exactly_at_the_operating_tier_is_a_positive() -> None:
    certificate = certify(np.full(70, 9.0), np.full(70, 4.0), 4.0, 0.05, 0.95)

    assert certificate.positives == 70


def test_the_record_is_the_certificate_with_its_statement() -> None:
    certificate = certified(np.full(80, 9.0))

    record = certificate.to_record()

    assert (record["schema_version"], record["threshold"], record["statement"]) == (1, 4.0, certificate.statement())


@pytest.mark.parametrize("positives", [80, 200])
def test_the_certified_miss_rate_is_exceeded_no_more_often_than_stated(positives: int) -> None:
    # The true miss rate jumps from 0 to just above the 5 % target at the step from 2.0 to 2.25, the hardest place.
    rng = np.random.default_rng(positives)
    draws, true_rate = 400, 0.0505
    exceeded = 0
    for _ in range(draws):
        probe = np.where(rng.uniform(size=positives) < true_rate, 2.1, 7.0)
        threshold = certified(probe, negatives=0).threshold
        exceeded += threshold is not None and threshold > 2.1

    monte_carlo = 3 * np.sqrt(0.05 * 0.95 / draws)  # three standard errors of the simulated share
    assert exceeded / draws <= 0.05 + monte_carlo
