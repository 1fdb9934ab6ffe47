"""The verdict: overall, gatekeepers and tiers, decided on what a result shows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillery_runtime import FilterSpec, HybridScorer, ModelError, decide

SCORE = st.floats(0, 10, width=32)


@pytest.fixture(scope="module")
def spec(scorer: HybridScorer) -> FilterSpec:
    """relevance 0.6, evidence_quality 0.4; evidence below 3 caps at 3; tiers 7, 4, 0."""
    return scorer.spec


@pytest.mark.parametrize(
    ("scores", "overall", "tier", "gatekeeper"),
    [
        ((10.0, 10.0), 10.0, "high", None),
        ((7.0, 7.0), 7.0, "high", None),
        ((6.9999, 7.0), 6.9999, "medium", None),
        ((4.0, 4.0), 4.0, "medium", None),
        ((10.0, 2.9999), 3.0, "low", "evidence_quality"),
        ((10.0, 2.99996), 7.2, "high", None),
        ((10.0, 3.0), 7.2, "high", None),
        ((1.0, 1.0), 1.0, "low", None),
        ((0.0, 0.0), 0.0, "low", None),
    ],
)
def test_scores_become_overall_tier_and_gatekeeper(
    scores: tuple[float, float], overall: float, tier: str, gatekeeper: str | None, spec: FilterSpec
) -> None:
    verdict = decide(np.array(scores, np.float32), spec)

    assert (verdict.overall, verdict.tier, verdict.gatekeeper) == (overall, tier, gatekeeper)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1, 10.1])
def test_what_is_no_score_raises(bad: float, spec: FilterSpec) -> None:
    with pytest.raises(ModelError):
        decide(np.array([bad, 5.0]), spec)


@given(st.tuples(SCORE, SCORE))
def test_rounding_a_result_does_not_change_its_verdict(scores: tuple[float, float]) -> None:
    spec = _spec()

    assert decide(np.array(scores), spec) == decide(np.round(np.array(scores, np.float64), 4), spec)


@given(st.tuples(SCORE, SCORE), st.tuples(SCORE, SCORE))
def test_better_scores_never_lower_the_overall(one: tuple[float, float], other: tuple[float, float]) -> None:
    low, high = np.minimum(one, other), np.maximum(one, other)

    assert decide(low, _spec()).overall <= decide(high, _spec()).overall


def _spec() -> FilterSpec:
    import json
    from pathlib import Path

    from distillery_runtime.spec.reading import parse_spec

    path = Path(__file__).parents[2] / "fixtures" / "bundle-v1" / "filter.json"
    return parse_spec(json.loads(path.read_text(encoding="utf-8")), "fixture")
