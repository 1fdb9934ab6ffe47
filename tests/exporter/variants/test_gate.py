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
from distillery_runtime.spec.routing import ChanceModel, Routing
from distillery_trainer.data.predictions import Answers

FIXTURE = Path(__file__).parents[2] / "fixtures" / "bundle-v1" / "filter.json"
RNG = np.random.default_rng(7)


@pytest.fixture(scope="module")
def spec() -> FilterSpec:
    """relevance 0.6, evidence_quality 0.4; evidence below 3 caps at 3; tiers 7, 4, 0."""
    return parse_spec(json.loads(FIXTURE.read_text(encoding="utf-8")), "fixture")


BY_TIER = Route(Routing(None), None, None)  # of the last stage, which answers every article


def answers(scores: NDArray[np.floating], chance: NDArray[np.floating] | None = None) -> Answers:
    """One read-out for both; the chance, unless it is given, rises with the scores' mean, even at an overall of 4."""
    odds = np.asarray(scores, np.float64) @ [0.6, 0.4] - 4
    return Answers(scores, scores, 1 / (1 + np.exp(-odds)) if chance is None else np.asarray(chance))


def check(
    spec: FilterSpec, before: NDArray[np.floating], after: NDArray[np.floating], route: Route = BY_TIER
) -> Comparison:
    labels = np.clip(before + np.sign(RNG.standard_normal(before.shape)), 0, 10)
    return compare(spec, answers(before), answers(np.clip(after, 0, 10)), labels, 0.0, 0, route)


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
    route = Route(Routing(4.5), np.array([False, True, False, True]), None)

    found = check(spec, before, after, route)

    assert (found.route_flips, found.dropped, found.tier_flips, found.gatekeeper_flips) == (2, 1, 1, 1)


def test_selection_flips_are_counted_by_chance_and_told_near_by_the_chances_own_margin(spec: FilterSpec) -> None:
    same = np.full((3, 2), 5.5)
    chance_of = ChanceModel((0.6, 0.4), -4.0)
    route = Route(Routing(None, chance_of), None, 0.5)

    found = compare(spec, answers(same, np.array([0.51, 0.9, 0.2])), answers(same, np.array([0.49, 0.4, 0.2])),
                    same, 0.0, 0, route)  # fmt: skip

    # Log odds of 0.04 and 2.2: as many points of the weighted mean, of which 0.25 is near.
    assert (found.selection_flips, found.tier_flips, found.far_flips) == (2, 0, 1)


def test_by_tier_a_selection_flips_where_the_overall_crosses_the_operating_tier(spec: FilterSpec) -> None:
    found = check(spec, np.array([[4.1, 4.1], [8.0, 8.0]]), np.array([[3.9, 3.9], [6.0, 6.0]]))

    assert (found.selection_flips, found.tier_flips) == (1, 2)


def test_a_stage_that_would_select_an_article_hands_it_on_and_selects_none_itself(spec: FilterSpec) -> None:
    low = np.full((3, 2), 3.5)
    route = Route(Routing(0.6, ChanceModel((0.6, 0.4), -4.0)), np.array([True, True, False]), 0.3)

    found = compare(spec, answers(low, np.array([0.35, 0.2, 0.2])), answers(low, np.array([0.25, 0.2, 0.35])),
                    low, 0.0, 0, route)  # fmt: skip

    assert (found.route_flips, found.dropped, found.selection_flips) == (2, 1, 0)


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
        ({"selection_flips": 2}, "2 selection flips on 300 articles, expected at most 1"),
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
        selection_flips=1,
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
        compare(spec, answers(np.ones((3, 2))), answers(np.ones((2, 2))), np.ones((3, 2)), 0.0, 0, BY_TIER)


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
