"""The operating point: a curve that counts right, the three aims, and answers that a fold's own labels do not touch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillery_runtime.spec.model import FilterSpec, OperatingPoint
from distillery_runtime.spec.routing import ChanceModel, Routing
from distillery_runtime.spec.selection import MAX_POINTS, CurvePoint, best_point, f1, precision
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.certify.operating_point import (
    choose_selection,
    curve,
    handed_on,
    nested,
    read_selection,
    selected,
    write_selection,
)
from distillery_trainer.certify.read_out import HeldOutRaw
from distillery_trainer.data.predictions import Answers
from distillery_trainer.filters.overrides import apply_overrides

FEW = settings(derandomize=True, max_examples=25, deadline=None)
SEEDS = st.integers(0, 10_000)
F1 = OperatingPoint(max="f1")


def drawn(seed: int, count: int = 60, levels: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Chances with many ties, and finds that are likelier where the chance is high: (N,) each."""
    generator = np.random.default_rng(seed)
    chance = (generator.integers(0, levels + 1, count) / levels).round(6)
    return chance, generator.uniform(size=count) < 0.1 + 0.6 * chance


@FEW
@given(SEEDS, st.sampled_from([3, 25, 1_000_000]))
def test_the_curve_counts_what_each_threshold_selects(seed: int, levels: int) -> None:
    chance, positive = drawn(seed, levels=levels)

    points = curve(chance, positive)

    assert [(p.selected, p.hits) for p in points] == [
        (np.sum(chance >= p.chance), np.sum(positive & (chance >= p.chance))) for p in points
    ]
    assert [p.chance for p in points] == sorted({p.chance for p in points})
    assert not positive.any() or points[0].hits == positive.sum()


@FEW
@given(SEEDS)
def test_no_threshold_at_all_has_a_better_f1_than_the_chosen_one(seed: int) -> None:
    chance, positive = drawn(seed)

    found = choose_selection(chance, positive, F1, "a draw").chance

    def score(at: float) -> float:
        return 2 * np.sum(positive & (chance >= at)) / (np.sum(chance >= at) + positive.sum())

    assert found is not None or not positive.any()
    assert found is None or score(found) == max(score(at) for at in chance)


@FEW
@given(SEEDS, st.integers(1, 100))
def test_a_least_recall_is_kept_by_the_highest_chance_that_keeps_it(seed: int, percent: int) -> None:
    chance, positive = drawn(seed)
    count, rule = int(positive.sum()), OperatingPoint(min_recall=percent / 100)

    point = best_point(curve(chance, positive), count, rule)

    assert (point is None) == (count == 0)
    if point:
        assert 100 * point.hits >= percent * count
        assert all(100 * np.sum(positive & (chance >= at)) < percent * count for at in chance if at > point.chance
                   and np.sum(positive & (chance >= at)) < point.hits)  # fmt: skip


@pytest.mark.parametrize(("percent", "positives"), [(28, 25), (7, 100), (80, 10)])
def test_a_recall_that_is_reached_exactly_is_reached(percent: int, positives: int) -> None:
    points = [CurvePoint(chance=(positives - k) / 200, selected=k, hits=k) for k in range(positives, 0, -1)]

    point = best_point(points, positives, OperatingPoint(min_recall=percent / 100))

    assert point
    assert point.hits == percent * positives // 100  # 0.28 * 25 is above 7 in floating point


@FEW
@given(SEEDS, st.integers(1, 100))
def test_a_least_precision_is_had_by_the_lowest_chance_that_has_it(seed: int, percent: int) -> None:
    chance, positive = drawn(seed)

    points = curve(chance, positive)
    point = best_point(points, int(positive.sum()), OperatingPoint(min_precision=percent / 100))

    good = [p for p in points if precision(p) >= percent / 100]
    assert point == (good[0] if good else None)


@pytest.mark.parametrize("rule", [F1, OperatingPoint(min_recall=0.5), OperatingPoint(min_precision=0.5), "tier"])
def test_without_a_positive_articles_are_selected_by_their_tier(rule: OperatingPoint | str) -> None:
    found = choose_selection(np.linspace(0, 1, 20), np.zeros(20, bool), rule, "a draw")  # type: ignore[arg-type]  # of the literal

    assert (found.chance, found.positives, found.curve) == (None, 0, ())


def test_a_precision_that_no_point_has_selects_by_tier() -> None:
    chance, positive = np.array([0.9, 0.8, 0.1]), np.array([False, True, False])

    assert choose_selection(chance, positive, OperatingPoint(min_precision=0.9), "a draw").chance is None


def test_a_long_curve_is_thinned_evenly_and_keeps_the_chosen_point_and_both_ends() -> None:
    chance = np.random.default_rng(0).uniform(size=2000).round(6)
    positive = chance > 0.3

    found = choose_selection(chance, positive, F1, "a draw")

    every = curve(chance, positive)
    assert len(every) > len(found.curve) > MAX_POINTS - 3
    assert len(found.curve) <= MAX_POINTS
    assert {every[0], every[-1]} <= set(found.curve)
    best = max(found.curve, key=lambda point: f1(point, found.positives))
    assert best.chance == found.chance


@pytest.mark.parametrize("rule", [F1, OperatingPoint(min_recall=0.8), "tier"])
def test_a_selection_comes_back_from_its_file(tmp_path: Path, rule: OperatingPoint) -> None:
    made = choose_selection(*drawn(0), rule, "a draw")
    write_selection(tmp_path / "selection.json", made)

    assert read_selection(tmp_path / "selection.json") == made


def folded(seed: int, count: int = 60) -> tuple[HeldOutRaw, np.ndarray]:
    """Raw outputs with a find head's logit, labels in whole points, and each article's fold."""
    generator = np.random.default_rng(seed)
    labels = np.rint(generator.uniform(0, 10, (count, 2)))
    raw = np.concatenate([labels, labels[:, :1] - 5], axis=1) + generator.normal(0, 1.5, (count, 3))
    return HeldOutRaw(raw.astype(np.float32), labels, [f"g{i}" for i in range(count)]), np.arange(count) % 2


def test_a_folds_answers_and_operating_point_do_not_depend_on_its_own_labels(spec: FilterSpec) -> None:
    stepped = apply_overrides(spec, {"oracle.step": 1.0})
    held_out, folds = folded(0)
    own = folds == 1
    labels = np.where(own[:, None], 10 - held_out.labels, held_out.labels)

    before = nested(held_out, folds, stepped, 0)
    after = nested(replace(held_out, labels=labels), folds, stepped, 0)

    for name in ("expected", "scores", "chance"):
        np.testing.assert_array_equal(getattr(before.answers, name)[own], getattr(after.answers, name)[own])
    np.testing.assert_array_equal(before.selects_from[own], after.selects_from[own])
    assert np.any(before.answers.chance[~own] != after.answers.chance[~own])  # the others learn from them


def test_articles_are_selected_by_chance_where_one_is_chosen_and_else_by_tier(spec: FilterSpec) -> None:
    scores = np.array([[9.0, 9.0], [1.0, 5.0], [9.0, 9.0], [1.0, 5.0]])
    answers = Answers(scores, scores, np.array([0.1, 0.6, 0.1, 0.6]))

    found = selected(answers, np.array([0.6, 0.6, np.nan, np.nan]), spec)

    assert found.tolist() == [False, True, True, False]


@FEW
@given(SEEDS, st.floats(0, 10))
def test_of_a_bundle_without_a_chance_model_the_probe_answers_exactly_the_articles_below_an_overall(
    spec: FilterSpec, seed: int, threshold: float
) -> None:
    scores = np.repeat(np.random.default_rng(seed).integers(6, 21, size=(30, 1)) / 2, 2, axis=1)  # no gatekeeper fires
    probe = Answers(scores, scores, np.zeros(30))

    found = handed_on(probe, Routing(threshold), np.full(30, np.nan), spec)

    assert found.tolist() == (scores[:, 0] >= threshold).tolist()


@FEW
@given(SEEDS, st.sampled_from([None, 0.05, 0.3]), st.sampled_from([np.nan, 0.1, 0.6]))
def test_nothing_that_the_probe_selects_or_places_at_the_operating_tier_stops_there(
    spec: FilterSpec, seed: int, threshold: float | None, at: float
) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.uniform(0, 10, (40, 2)).round(4)
    probe = Answers(scores, scores, generator.uniform(size=40).round(6))
    selects_from = np.full(40, at)

    handed = handed_on(probe, Routing(threshold, ChanceModel((0.6, 0.4), -4.0)), selects_from, spec)

    by_tier = overalls(scores, spec) >= spec.operating_overall
    assert np.all(handed[by_tier | selected(probe, selects_from, spec)])
    assert threshold is None or np.all(probe.chance[~handed] < threshold)
    assert threshold is not None or handed.all()
