"""A stage's read-out: the chance of a find, both maps together, and the file that they are kept in."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.routing import ChanceModel
from distillery_runtime.spec.verdict import overalls, round_scores
from distillery_trainer.certify.read_out import (
    HeldOutRaw,
    fit_chance,
    fit_read_out,
    read_read_out,
    write_read_out,
)
from distillery_trainer.filters.overrides import apply_overrides

FEW = settings(derandomize=True, max_examples=15, deadline=None)


def held_out_raw(seed: int, count: int = 150, with_find: bool = True) -> HeldOutRaw:
    """Raw outputs around labels in whole points, and a find head's logit that knows a little more."""
    generator = np.random.default_rng(seed)
    labels = np.rint(generator.gamma(1.5, 1.5, (count, 2))).clip(0, 10)
    raw = labels + generator.normal(0, 1, labels.shape)
    logit = labels[:, :1] - 4 + generator.normal(0, 1, (count, 1))
    columns = [raw, logit] if with_find else [raw]
    return HeldOutRaw(np.concatenate(columns, axis=1).astype(np.float32), labels, [f"g{i}" for i in range(count)])


@pytest.fixture(scope="module")
def stepped_spec(spec: FilterSpec) -> FilterSpec:
    """The filter with an oracle that answers in whole points."""
    return apply_overrides(spec, {"oracle.step": 1.0})


def test_the_chance_is_calibrated_on_what_it_was_fitted_on(spec: FilterSpec) -> None:
    generator = np.random.default_rng(1)
    expected = generator.uniform(0, 10, (2000, 2)).round(4)
    positive = generator.uniform(size=2000) < 1 / (1 + np.exp(4 - expected @ [0.6, 0.4]))

    chances = fit_chance(expected, np.zeros((2000, 0)), positive, spec).chances(expected)

    assert chances.mean() == pytest.approx(positive.mean(), abs=0.01)


def test_a_find_heads_logit_that_ranks_better_counts_for_more(spec: FilterSpec) -> None:
    generator = np.random.default_rng(2)
    expected, find = generator.uniform(0, 10, (400, 2)).round(4), generator.normal(size=(400, 1)).round(4)
    positive = find[:, 0] + generator.normal(0, 0.1, 400) > 1

    model = fit_chance(expected, find, positive, spec)

    chances = model.chances(np.concatenate([expected, find], axis=1))
    assert len(model.weights) == 3
    assert chances[positive].min() > np.quantile(chances[~positive], 0.9)


@FEW
@given(st.integers(0, 10_000), st.sampled_from([-1.0, 0.0, 1.0]), st.sampled_from([-1.0, 0.0, 1.0]))
def test_the_chance_never_falls_where_a_score_or_the_logit_rises(
    spec: FilterSpec, seed: int, by_mean: float, by_find: float
) -> None:
    generator = np.random.default_rng(seed)
    expected, find = generator.uniform(0, 10, (60, 2)).round(4), generator.normal(size=(60, 1)).round(4)
    odds = by_mean * (expected.mean(axis=1) - 5) + by_find * find[:, 0] + generator.normal(size=60)

    model = fit_chance(expected, find, odds > 0, spec)

    assert all(weight >= 0 for weight in model.weights)


@pytest.mark.parametrize("finds", [0, 4, 36, 40])
def test_with_too_few_of_either_kind_it_rises_with_the_weighted_mean(spec: FilterSpec, finds: int) -> None:
    model = fit_chance(np.full((40, 2), 3.0), np.zeros((40, 1)), np.arange(40) < finds, spec)

    assert model == ChanceModel((0.6, 0.4, 0.0), -4.0)
    assert model.chance([4.0, 4.0, 9.0]) == 0.5


@pytest.mark.parametrize("with_find", [True, False])
def test_a_read_out_comes_back_from_its_file_and_answers_the_same(
    stepped_spec: FilterSpec, tmp_path: Path, with_find: bool
) -> None:
    held_out = held_out_raw(0, with_find=with_find)
    made = fit_read_out(held_out, stepped_spec, 0)
    write_read_out(tmp_path / "calibration.json", made)

    found = read_read_out(tmp_path / "calibration.json")

    assert found == made
    for name in ("expected", "scores", "chance"):
        own, again = (getattr(one.answers(held_out.raw), name) for one in (made, found))
        assert own.tobytes() == again.tobytes()


def test_a_read_out_of_the_version_before_is_refused(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text('{"schema_version": 1, "maps": []}')

    with pytest.raises(InputError, match="the same `trainer fit` again"):
        read_read_out(tmp_path / "calibration.json")


def test_on_stepped_labels_scores_are_nearer_to_the_labels_than_the_means_and_rank_alike(
    stepped_spec: FilterSpec,
) -> None:
    fitted, new = held_out_raw(1, 600), held_out_raw(2, 600)

    answers = fit_read_out(fitted, stepped_spec, 0).answers(new.raw)

    before, after = (np.abs(part - new.labels).mean() for part in (answers.expected, answers.scores))
    assert after < before
    for place in range(2):
        order = np.argsort(answers.expected[:, place], kind="stable")
        assert np.all(np.diff(answers.scores[order, place]) >= 0)


def test_without_steps_both_read_outs_are_the_same(spec: FilterSpec) -> None:
    held_out = held_out_raw(3)

    answers = fit_read_out(held_out, spec, 0).answers(held_out.raw)

    assert answers.scores.tobytes() == answers.expected.tobytes()


@FEW
@given(st.integers(0, 10_000), st.sampled_from([0.5, 1.0]), st.integers(1, 9))
def test_half_a_step_lower_a_gatekeeper_treats_every_label_on_the_grid_as_before(
    spec: FilterSpec, seed: int, step: float, below: int
) -> None:
    gate = spec.gatekeepers[0]
    before = replace_gate(spec, below=float(below), step=None)
    after = replace_gate(spec, below=float(below), step=step)
    labels = np.random.default_rng(seed).integers(0, round(10 / step) + 1, (200, 2)) * step

    assert gate.dimension == "evidence_quality"
    np.testing.assert_array_equal(overalls(labels, after), overalls(labels, before))


def test_a_score_just_under_a_gatekeepers_limit_passes_where_the_nearest_answer_passes(spec: FilterSpec) -> None:
    limited = replace_gate(spec, below=3.0, step=1.0)

    passed, capped = overalls(round_scores(np.array([[9.0, 2.6], [9.0, 2.4]])), limited)

    assert (passed, capped) == (pytest.approx(0.6 * 9 + 0.4 * 2.6), limited.gatekeepers[0].overall_cap)


def replace_gate(spec: FilterSpec, below: float, step: float | None) -> FilterSpec:
    """The filter with another limit of its gatekeeper, and an oracle of this step."""
    gate = spec.gatekeepers[0].model_copy(update={"below": below})
    oracle = spec.oracle.model_copy(update={"step": step})
    return spec.model_copy(update={"gatekeepers": (gate,), "oracle": oracle})


def test_the_articles_of_a_mask_keep_their_labels_and_groups() -> None:
    held_out = held_out_raw(4, 6)
    chosen = np.array([True, False, False, True, False, True])

    found = held_out.select(chosen)

    assert found.groups == ["g0", "g3", "g5"]
    np.testing.assert_array_equal(found.labels, held_out.labels[chosen])
    np.testing.assert_array_equal(found.raw, held_out.raw[chosen])
