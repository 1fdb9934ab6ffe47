"""The routing threshold's certificate: exact bounds, a ladder tested from below, and the promise it makes."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from distillery_trainer.certify.bounds import upper_bound
from distillery_trainer.certify.certificate import (
    LADDER,
    Certificate,
    Drawn,
    Wanted,
    certificate,
    certify,
    curve,
    found_by,
    statements,
)

FEW = settings(derandomize=True, max_examples=25, deadline=None)
EVEN = LADDER[-1]  # odds, beyond which no threshold is tried


def certified(
    probe_of_positives: np.ndarray, negatives: int = 50, target: float = 0.05, **changes: float
) -> Certificate:
    """A certificate for positives of these chances, and negatives that the probe sees too."""
    finds = np.arange(len(probe_of_positives) + negatives) < len(probe_of_positives)
    probe = np.concatenate([probe_of_positives, np.full(negatives, 0.0001)])
    return certify(Drawn(probe, finds), Wanted(**{"target_miss_rate": target, "confidence": 0.95} | changes))


@pytest.mark.parametrize(("count", "threshold"), [(58, None), (59, EVEN)])
def test_with_59_positives_above_it_the_highest_threshold_is_certified_for_5_percent(
    count: int, threshold: float | None
) -> None:
    assert certified(np.full(count, 0.7)).threshold == threshold


def test_too_few_positives_give_no_threshold_and_say_how_many_are_needed() -> None:
    certificate = certified(np.full(12, 0.7), target=0.02)

    assert (certificate.threshold, certificate.share_below) == (None, 0.0)
    assert [word for word in ("12 articles", "149 without", "2 %", "95 %") if word not in certificate.statement()] == []


def test_without_any_positive_the_bound_is_1() -> None:
    certificate = certified(np.array([]))

    assert (certificate.threshold, certificate.positives, certificate.upper_bound) == (None, 0, 1.0)


def test_the_statement_of_a_threshold_names_bound_confidence_and_numbers() -> None:
    probe = np.concatenate([np.full(197, 0.7), np.full(3, 0.3)])

    statement = certified(probe).statement()

    bound = binomtest(3, 200, alternative="less").proportion_ci(0.95, method="exact").high
    figures = (f"at most {math.ceil(bound * 1000) / 10:g} %", "95 % confidence", "3 missed of 200")
    assert [figure for figure in figures if figure not in statement] == []


@FEW
@given(st.integers(0, 10_000), st.integers(60, 300))
def test_the_ladder_stops_at_its_first_failure(seed: int, count: int) -> None:
    probe = np.random.default_rng(seed).normal(0.6, 0.25, size=count).clip(0, 1)

    found = certified(probe).threshold

    def passes(threshold: float) -> bool:
        return upper_bound(int(np.sum(probe < threshold)), count, 0.95) <= 0.05

    passed = [step for step in LADDER if passes(step)]
    assert found == (max(passed) if passed else None)
    assert all(passes(step) for step in LADDER if found is not None and step <= found)


def test_no_threshold_lies_above_even_odds() -> None:
    assert max(LADDER) == certified(np.ones(80)).threshold == 0.5


@FEW
@given(st.integers(0, 10_000))
def test_misses_and_share_are_those_of_the_threshold(seed: int) -> None:
    probe = np.random.default_rng(seed).normal(0.7, 0.2, size=150).clip(0, 1)

    certificate = certified(probe, negatives=50)

    below = np.sum(probe < certificate.threshold)
    assert (certificate.articles, certificate.positives, certificate.misses) == (200, 150, below)
    assert certificate.share_below == pytest.approx((below + 50) / 200)  # negatives have a chance of 0.0001


def test_a_chance_exactly_at_the_threshold_goes_to_the_student() -> None:
    certificate = certified(np.full(80, EVEN))

    assert (certificate.threshold, certificate.misses) == (EVEN, 0)


def test_the_record_is_the_certificate_with_its_statement() -> None:
    certificate = certified(np.full(80, 0.9))

    record = certificate.to_record()

    assert (record["schema_version"], record["threshold"], record["statement"]) == (1, EVEN, certificate.statement())


CONFIDENCE, TARGET = 0.9, 0.1


@pytest.fixture(scope="module")
def population() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """4,000 articles' chances, the student's finds and probabilities of being drawn: finds are drawn more often."""
    generator = np.random.default_rng(3)
    student = generator.uniform(0, 10, 4000)
    probe = 1 / (1 + np.exp(4 - student + generator.normal(0, 2.0, 4000)))
    return probe, student >= 4, np.where(probe > 0.3, 1.0, 0.3)


def exceeded(drawn: Drawn, true_rates: np.ndarray) -> bool:
    """Whether the certified threshold's true miss rate is above the target."""
    threshold = certify(drawn, Wanted(TARGET, CONFIDENCE)).threshold
    return threshold is not None and true_rates[LADDER.index(threshold)] > TARGET


def rates_of(probe: np.ndarray, finds: np.ndarray) -> np.ndarray:
    """The true miss rate of each threshold of the ladder."""
    return np.array([np.mean(probe[finds] < step) for step in LADDER])


def most_failures(draws: int) -> float:
    """The largest share of draws that may exceed the target: three standard errors of Monte Carlo above the stated."""
    return 1 - CONFIDENCE + 3 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / draws)


DRAWS = pytest.mark.parametrize("draws", [400, pytest.param(2000, marks=pytest.mark.slow)])


@DRAWS
@pytest.mark.parametrize("count", [120, 300])
def test_the_certified_rate_is_exceeded_no_more_often_than_stated(
    population: tuple[np.ndarray, ...], count: int, draws: int
) -> None:
    probe, finds, _ = population
    rates, generator = rates_of(probe, finds), np.random.default_rng(count)

    drawn = (generator.integers(0, len(probe), count) for _ in range(draws))
    failures = sum(exceeded(Drawn(probe[chosen], finds[chosen]), rates) for chosen in drawn)

    assert rates[-1] > TARGET > rates[0]  # some thresholds are too high
    assert 0 < failures / draws <= most_failures(draws)


@DRAWS
def test_with_weighted_draws_it_is_not_exceeded_more_often_either(
    population: tuple[np.ndarray, ...], draws: int
) -> None:
    probe, finds, inclusion = population
    rates, generator = rates_of(probe, finds), np.random.default_rng(7)

    drawn = [generator.choice(len(probe), 300, p=inclusion / inclusion.sum()) for _ in range(draws)]
    failures = sum(exceeded(Drawn(probe[c], finds[c], 1 / inclusion[c]), rates) for c in drawn)
    unweighted = sum(exceeded(Drawn(probe[c], finds[c]), rates) for c in drawn)

    assert failures / draws <= most_failures(draws) < unweighted / draws  # without the weights it would be


def test_weighted_articles_certify_where_there_are_enough() -> None:
    generator = np.random.default_rng(1)
    weights = generator.choice([1.0, 4.0], 400)

    certificate = certify(Drawn(np.full(400, 0.9), np.ones(400, bool), weights), Wanted(0.05, 0.95))

    assert certificate.threshold == EVEN


def test_of_weighted_articles_it_is_not_said_how_many_would_certify() -> None:
    weights = np.where(np.arange(59) % 2, 4.0, 1.0)

    found = certify(Drawn(np.full(59, 0.9), np.ones(59, bool), weights), Wanted(0.05, 0.95))

    assert (found.threshold, found.positives_needed) == (None, None)
    assert "59 articles" in found.statement()
    assert "would certify" not in found.statement()
    assert "a miss rate of 5 % at 95 % confidence" in found.statement()


def test_a_weight_that_the_draw_happens_not_to_hold_makes_the_bound_wider() -> None:
    drawn = Drawn(np.full(200, 0.9), np.ones(200, bool), np.where(np.arange(200) % 2, 2.0, 1.0))
    wanted = Wanted(0.05, 0.95)

    alone, of_a_wider_source = certify(drawn, wanted), certify(replace(drawn, most=20.0), wanted)

    assert alone.upper_bound < of_a_wider_source.upper_bound


def test_the_share_below_counts_articles_by_their_weight() -> None:
    probe = np.array([0.0] * 100 + [0.9] * 300)
    weights = np.array([3.0] * 100 + [1.0] * 300)

    certificate = certify(Drawn(probe, probe > 0.4, weights), Wanted(0.2, 0.95))

    assert certificate.share_below == pytest.approx(0.5)


def test_the_curve_has_every_threshold_with_what_it_saves_and_may_miss() -> None:
    probe = np.concatenate([np.full(95, 0.7), np.full(5, 0.2), np.full(100, 0.0001)])

    rows = curve(Drawn(probe, np.arange(200) < 100), Wanted(0.05, 0.95))

    assert [row["threshold"] for row in rows] == list(LADDER)
    below, above = rows[26], rows[27]  # log odds of -1.5 and -1.25: chances of 0.18 and 0.22
    assert (below["misses"], below["share_below"]) == (0, 0.5)
    assert (above["misses"], above["share_below"]) == (5, 0.525)
    assert above["upper_bound"] == pytest.approx(upper_bound(5, 100, 0.95), abs=1e-6)


def test_the_curve_says_how_many_positives_would_certify_and_where_none_would() -> None:
    probe = np.concatenate([np.full(95, 0.7), np.full(5, 0.2)])

    rows = curve(Drawn(probe, np.ones(100, bool)), Wanted(0.05, 0.95))

    assert (rows[0]["positives_planned"], rows[-1]["positives_planned"]) == (59, None)


NEVER = "No threshold is certified"
# Chances of a judge's finds: what it certifies, and what its sentence has to say.
JUDGED = {
    "certifies": (np.full(120, 0.7), "drops at most"),
    "certifies less": (np.concatenate([np.full(100, 0.7), np.full(20, 0.01)]), "drops at most"),
    "too few": (np.full(20, 0.7), "too few"),
    "too many missed": (np.concatenate([np.full(60, 0.7), np.full(60, 0.0001)]), "misses too many"),
    "none": (np.array([]), "none of 50 articles"),
}


@pytest.mark.parametrize("oracle", JUDGED)
@pytest.mark.parametrize("student", JUDGED)
def test_each_judge_has_a_sentence_of_its_own_that_is_true(student: str, oracle: str) -> None:
    drawn = {}
    for name, case in (("student", student), ("oracle", oracle)):
        finds = JUDGED[case][0]
        others = 50 if not len(finds) else 1
        chances = np.concatenate([finds, np.full(others, 0.0001)])
        drawn[name] = Drawn(chances, np.arange(len(chances)) < len(finds))

    record = certificate(drawn, Wanted(0.05, 0.95), "calibration")

    own, other, both = str(record["statement"]), str(record["oracle"]["statement"]), statements(record)
    finds = {"student": own, "oracle": other}
    for name, case in (("student", student), ("oracle", oracle)):
        assert JUDGED[case][1] in finds[name]
        assert f"the {name}" in finds[name]
        assert ("too few" in finds[name]) == (case == "too few")
        assert (NEVER in finds[name]) == (not case.startswith("certifies"))
    answers = record["threshold"] is not None
    assert ("Every article goes to the student" in both) == (not answers)
    assert "Every article" not in other
    assert both.startswith(own)
    assert other in both
    used = "It is not used" not in both
    assert used == (answers or NEVER in other)
    if answers and NEVER not in other:
        higher = record["threshold"] > record["oracle"]["threshold"]
        assert ("it may drop more" in both, "holds for it too" in both) == (higher, not higher)


@FEW
@given(st.integers(0, 10_000), st.sampled_from([None, *LADDER[::4]]))
def test_what_is_found_and_lost_end_to_end_adds_up_to_the_oracles_finds(seed: int, threshold: float | None) -> None:
    generator = np.random.default_rng(seed)
    chances = generator.uniform(0, 0.6, 80)
    oracle, student = generator.uniform(size=(2, 80)) < 0.3

    found = found_by(threshold, Drawn(chances, student), Drawn(chances, oracle))

    kept = sum(
        t and s and (threshold is None or c >= threshold) for t, s, c in zip(oracle, student, chances, strict=True)
    )
    assert (found["positives"], found["selected"]) == (oracle.sum(), kept)
    assert kept <= found["by_student"] == np.sum(oracle & student)
    low, high = found["interval"]
    assert low <= kept / max(1, oracle.sum()) <= high
    words = statements(
        certificate({"student": Drawn(chances, student)}, Wanted(0.05, 0.95), "folds") | {"found": found}
    )
    lost = re.search(r"selects (\d+) .*; (\d+) are lost to the probe, (\d+) to the student", words)
    assert lost
    assert sum(map(int, lost.groups())) == oracle.sum()


def test_of_no_find_of_the_oracle_nothing_is_said_to_be_found() -> None:
    none, chances = np.zeros(30, bool), np.full(30, 0.2)

    found = found_by(0.1, Drawn(chances, ~none), Drawn(chances, none))

    assert (found["positives"], found["selected"], found["interval"]) == (0, 0, None)


@pytest.mark.parametrize("hits", [0, 3])
def test_of_all_or_none_found_nobody_is_sure(hits: int) -> None:
    finds = np.ones(3, np.bool_)
    cascade = Drawn(np.ones(3), np.arange(3) < hits)

    found = found_by(None, cascade, Drawn(np.ones(3), finds))

    assert found["selected"] == hits
    assert int(str(found["positives_for_a_tenth"])) > 100
