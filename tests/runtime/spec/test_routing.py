"""Which articles a stage hands on: by the chance of a find, or by the overall of bundles that have no chance model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillery_runtime.format.manifest import ChanceEntry, StageEntry, VariantEntry
from distillery_runtime.spec.model import Window
from distillery_runtime.spec.routing import ChanceModel, Routing

MODEL = ChanceModel((0.5, 1.0), -4.0)
OPERATING = 4.0


@settings(max_examples=30)
@given(st.lists(st.floats(0, 10), min_size=2, max_size=2))
def test_the_chance_is_the_logistic_of_intercept_and_weighted_values(values: list[float]) -> None:
    expected = 1 / (1 + np.exp(-(-4.0 + 0.5 * values[0] + values[1])))

    assert MODEL.chance(values) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("intercept", [-5000.0, 5000.0])
def test_a_chance_beyond_floats_is_0_or_1(intercept: float) -> None:
    assert ChanceModel((1.0,), intercept).chance([5.0]) == (intercept > 0)


def test_many_chances_are_each_articles_own() -> None:
    values = np.random.default_rng(0).uniform(0, 10, (50, 2)).round(4)

    assert MODEL.chances(values).tolist() == [round(MODEL.chance(row), 6) for row in values.tolist()]


def test_an_article_below_the_threshold_stops_and_one_at_it_goes_on() -> None:
    assert Routing(0.5, MODEL).hands_on(0.5, 3.0, OPERATING)
    assert not Routing(0.5001, MODEL).hands_on(0.5, 3.0, OPERATING)


def test_what_the_stage_itself_finds_goes_on_whatever_its_chance() -> None:
    assert Routing(0.5, MODEL).hands_on(0.0, OPERATING, OPERATING)


def test_what_would_be_selected_goes_on_even_below_the_threshold() -> None:
    assert Routing(0.5, MODEL).hands_on(0.3, 0.0, OPERATING, selects_from=0.3)
    assert not Routing(0.5, MODEL).hands_on(0.29, 0.0, OPERATING, selects_from=0.3)


def test_without_a_threshold_everything_goes_on() -> None:
    assert Routing(None, MODEL).hands_on(0.0, 0.0, OPERATING)


def test_without_a_chance_model_the_overall_is_compared() -> None:
    assert [Routing(2.0).hands_on(0.0, overall, OPERATING) for overall in (1.9, 2.0, 5.0)] == [False, True, True]


@pytest.mark.parametrize("key", ["router", "chance"])
def test_a_manifest_keeps_a_chance_model_and_leaves_it_out_where_there_is_none(key: str) -> None:
    window, variant = Window(max_tokens=16), VariantEntry(name="cpu-fp32", graphs=("a.onnx",))
    entry = StageEntry(
        name="probe", tokenizer="t.json", window=window, prefix="", threshold=0.1, variants=(variant,)
    ).model_copy(update={key: ChanceEntry(weights=(0.5, 1.0), intercept=-4.0)})

    assert entry.routing == Routing(0.1, MODEL)
    assert key not in entry.model_copy(update={key: None}).model_dump(mode="json")
