"""The gate: a form of a model that keeps the verdicts is let through, one that does not is refused by name."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from distillery_exporter.variants.acceptance import Comparison, Route, compare, objections, refit
from distillery_runtime.errors import InputError
from distillery_runtime.spec.calibration import Calibration, CalibrationMap, identity
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.reading import parse_spec
from distillery_runtime.spec.routing import Routing

FIXTURE = Path(__file__).parents[2] / "fixtures" / "bundle-v1" / "filter.json"
RNG = np.random.default_rng(7)


@pytest.fixture(scope="module")
def spec() -> FilterSpec:
    """relevance 0.6, evidence_quality 0.4; evidence below 3 caps at 3; tiers 7, 4, 0."""
    return parse_spec(json.loads(FIXTURE.read_text(encoding="utf-8")), "fixture")


def check(spec: FilterSpec, before: NDArray[np.floating], after: NDArray[np.floating]) -> Comparison:
    labels = np.clip(before + np.sign(RNG.standard_normal(before.shape)), 0, 10)
    return compare(spec, before, np.clip(after, 0, 10), labels, 0.0, 0)


def test_the_same_scores_are_let_through(spec: FilterSpec) -> None:
    scores = RNG.uniform(0, 10, (300, 2))

    found = check(spec, scores, scores)

    assert (found.articles, found.mae_to_fp32, found.spearman) == (300, 0.0, pytest.approx(1.0))
    assert objections(found) == []


def test_noise_is_refused_with_every_reason(spec: FilterSpec) -> None:
    scores = RNG.uniform(0, 10, (300, 2))

    found = check(spec, scores, scores + 2 * RNG.standard_normal(scores.shape))

    reasons = "\n".join(objections(found))
    assert all(word in reasons for word in ("Spearman", "label MAE", "tier flips", "gatekeeper flips", "farther than"))


def test_flips_near_a_boundary_are_told_from_far_ones(spec: FilterSpec) -> None:
    before = np.array([[4.1, 4.1], [5.0, 5.0], [9.0, 3.1], [9.0, 9.0]])
    after = np.array([[3.9, 3.9], [3.9, 3.9], [9.0, 2.9], [9.0, 9.0]])

    found = check(spec, before, after)

    assert (found.tier_flips, found.gatekeeper_flips, found.far_flips) == (3, 1, 1)


def test_an_overall_near_zero_is_near_no_boundary(spec: FilterSpec) -> None:
    found = check(spec, np.array([[0.1, 3.5], [8.0, 8.0]]), np.array([[10.0, 3.5], [8.0, 8.0]]))

    assert found.far_flips == 1


def test_the_order_is_that_before_a_cap_brings_articles_together(spec: FilterSpec) -> None:
    before = np.array([[9.0, 2.0 + i / 100] for i in range(50)] + [[3.0, 3.01 + i / 100] for i in range(50)])
    after = before - 0.02

    found = check(spec, before, after)

    assert found.spearman is not None
    assert found.spearman < 0.99
    assert found.spearman_uncapped == pytest.approx(1.0)


def test_what_a_stage_hands_on_is_judged_by_the_stage_that_answers(spec: FilterSpec) -> None:
    before = np.array([[4.0, 3.2], [5.0, 5.0], [5.0, 5.0], [9.0, 9.0]])
    after = np.array([[4.0, 2.9], [4.4, 4.4], [3.0, 5.0], [6.5, 6.5]])  # stays, moves, moves, is handed on
    route = Route(Routing(4.5), np.array([False, True, False, True]))

    found = compare(spec, before, after, before, 0.0, 0, route)

    assert (found.route_flips, found.dropped, found.tier_flips, found.gatekeeper_flips) == (2, 1, 1, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"non_finite": 1}, "not finite"),
        ({"batch_difference": 0.2}, "alone and in a batch"),
        ({"batch_difference": float("nan")}, "alone and in a batch"),
        ({"spearman_uncapped": 0.98}, "Spearman"),
        ({"label_mae": 1.011}, "label MAE"),
        ({"tier_flips": 2}, "2 tier flips on 300 articles, expected at most 1"),
        ({"gatekeeper_flips": 5}, "5 gatekeeper flips on 300 articles, expected at most 4"),
        ({"route_flips": 5}, "route flips"),
        ({"dropped": 1}, "dropped"),
        ({"far_flips": 1}, "farther than"),
        ({"articles": 799, "far_flips": 2}, "expected at most 1"),
    ],
)
def test_each_limit_is_kept_by_itself(change: dict[str, float], reason: str) -> None:
    good = Comparison(
        articles=300,
        mae_to_fp32=0.01,
        spearman=0.9,
        spearman_uncapped=0.99,
        label_mae=1.01,
        label_mae_fp32=1.0,
        tier_flips=1,
        gatekeeper_flips=4,
        route_flips=4,
        far_flips=0,
        dropped=0,
        batch_difference=0.1,
        non_finite=0,
    )

    assert objections(good) == []
    assert [reason in line for line in objections(replace(good, **change))] == [True]


def test_scores_that_do_not_belong_together_are_refused(spec: FilterSpec) -> None:
    with pytest.raises(InputError, match=r"\(3, 2\), \(2, 2\)"):
        compare(spec, np.ones((3, 2)), np.ones((2, 2)), np.ones((3, 2)), 0.0, 0)


def test_refitting_takes_out_a_shift_and_a_stretch() -> None:
    maps = (
        CalibrationMap(dimension="a", method="isotonic", x=(1.0, 2.0, 6.0), y=(0.0, 3.0, 9.0)),
        CalibrationMap(dimension="b", method="identity", x=(0.0, 10.0), y=(0.0, 10.0)),
    )
    reference = RNG.uniform(0, 8, (50, 2))
    raw = reference * [0.9, 1.2] + [0.3, -0.5]

    moved = refit(Calibration(maps), raw, reference)

    np.testing.assert_allclose(moved.apply(raw), Calibration(maps).apply(reference), atol=1e-5)
    assert [m.method for m in moved.maps] == ["isotonic", "affine"]


@pytest.mark.parametrize("raw", [np.ones((9, 1)), -np.arange(9.0)[:, None]])
def test_a_map_that_nothing_can_be_said_of_stays(raw: NDArray[np.floating]) -> None:
    assert refit(identity(["a"]), raw, np.arange(9.0)[:, None]) == identity(["a"])
