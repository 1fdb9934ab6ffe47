"""Which articles a stage hands on: by its router's chance, or by the overall of bundles that have no router."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillery_runtime.format.manifest import RouterEntry, StageEntry, VariantEntry
from distillery_runtime.scoring.scorer import HybridScorer
from distillery_runtime.spec.model import FilterSpec, Window
from distillery_runtime.spec.routing import Router, Routing, chances, handed_on

ROUTER = Router((0.5, 1.0), -4.0)
OPERATING = 4.0


@pytest.fixture
def spec(scorer: HybridScorer) -> FilterSpec:
    """Two dimensions; tiers from 7, 4 and 0."""
    return scorer.spec


@settings(max_examples=30)
@given(st.lists(st.floats(0, 10), min_size=2, max_size=2))
def test_the_chance_is_the_logistic_of_intercept_and_weighted_scores(values: list[float]) -> None:
    expected = 1 / (1 + math.exp(-(-4.0 + 0.5 * values[0] + values[1])))

    assert ROUTER.chance(values) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("intercept", [-5000.0, 5000.0])
def test_a_chance_beyond_floats_is_0_or_1(intercept: float) -> None:
    assert Router((1.0,), intercept).chance([5.0]) == (intercept > 0)


def test_an_article_below_the_threshold_stops_and_one_at_it_goes_on() -> None:
    at_even_odds = [4.0, 2.0]

    assert Routing(0.5, ROUTER).hands_on(at_even_odds, 3.0, OPERATING)
    assert not Routing(0.5001, ROUTER).hands_on(at_even_odds, 3.0, OPERATING)


def test_what_the_stage_itself_finds_goes_on_whatever_its_chance() -> None:
    assert Routing(0.5, Router((0.0, 0.0), -9.0)).hands_on([9.0, 9.0], OPERATING, OPERATING)


def test_without_a_threshold_everything_goes_on() -> None:
    assert Routing(None, ROUTER).hands_on([0.0, 0.0], 0.0, OPERATING)
    assert Routing(None, ROUTER).margin([0.0, 0.0], 0.0) == math.inf


def test_without_a_router_the_overall_is_compared() -> None:
    assert [Routing(2.0).hands_on([0.0, 0.0], overall, OPERATING) for overall in (1.9, 2.0, 5.0)] == [False, True, True]
    assert Routing(2.0).margin([0.0, 0.0], 1.5) == 0.5


@settings(max_examples=30)
@given(st.lists(st.floats(0, 10), min_size=2, max_size=2), st.floats(0.01, 0.99))
def test_scores_that_move_by_less_than_the_margin_do_not_change_sides(values: list[float], threshold: float) -> None:
    routing = Routing(threshold, ROUTER)
    margin = routing.margin(values, 0.0)
    nearest = [v - s * 0.99 * margin for v in values for s in (1, -1)]

    sides = {routing.hands_on([a, b], 0.0, OPERATING) for a in nearest[:2] for b in nearest[2:]}

    assert sides == {routing.hands_on(values, 0.0, OPERATING)}
    across = 1.01 * margin + 1e-6
    moved = {routing.hands_on([v + s * across for v in values], 0.0, OPERATING) for s in (1, -1)}
    assert len(moved) == 2


def test_many_articles_are_told_as_each_alone(spec: FilterSpec) -> None:
    scores = np.random.default_rng(0).uniform(0, 10, (50, len(spec.dimensions))).astype(np.float32)
    router = Router(tuple(0.4 for _ in spec.dimensions), -4.0)

    below = chances(scores, router, spec) < 0.3

    assert 0 < below.sum() < 50
    assert (~below).tolist() == handed_on(scores, Routing(0.3, router), spec).tolist()


def test_a_manifest_keeps_the_router_and_leaves_it_out_where_there_is_none() -> None:
    window, variant = Window(max_tokens=16), VariantEntry(name="cpu-fp32", graphs=("a.onnx",))
    entry = StageEntry(
        name="probe", tokenizer="t.json", window=window, prefix="", threshold=0.1, variants=(variant,),
        router=RouterEntry(weights=(0.5, 1.0), intercept=-4.0),
    )  # fmt: skip

    assert entry.routing == Routing(0.1, ROUTER)
    assert "router" not in entry.model_copy(update={"router": None}).model_dump(mode="json")
