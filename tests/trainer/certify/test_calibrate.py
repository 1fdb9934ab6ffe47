"""Calibration maps: accepted only where held-out articles say so, monotone, inside [0, 10]."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillery_runtime.spec.calibration import identity
from distillery_trainer.certify.calibrate import (
    MAX_SLOPE,
    _fit_centred,
    _fit_isotonic,
    _fit_step_median,
    cap_slope,
    fit_calibration,
    fit_steps,
)

FEW = settings(derandomize=True, max_examples=25, deadline=None)
SEEDS = st.integers(0, 10_000)


def alone(count: int) -> list[str]:
    """Every article a group of its own."""
    return [f"a{i}" for i in range(count)]


def noisy(seed: int, count: int = 120, noise: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Raw outputs inside [0, 10] and labels that lie around them without bias: (N, 1) each."""
    rng = np.random.default_rng(seed)
    raw = rng.uniform(3, 7, size=(count, 1))
    return raw, raw + rng.normal(0, noise, size=raw.shape).clip(-3, 3)


def test_where_labels_are_only_noise_around_the_output_the_identity_is_kept() -> None:
    methods = []
    for seed in range(20):
        raw, labels = noisy(seed)
        methods.append(fit_calibration(raw, labels, alone(120), ["a"], seed).maps[0].method)

    # Measured over 60 seeds: 59 identities at the 95 % level, 54 at 70 %.
    assert methods.count("identity") >= 19


def test_a_group_is_never_on_both_sides_of_a_fold() -> None:
    # Each group's ten articles have one output and one noise: an isotonic map that had seen half of a group would
    # know the other half, and win by far.
    groups = [f"g{i // 10}" for i in range(400)]
    chosen = []
    for seed in range(10):
        raw, labels = (np.repeat(part, 10, axis=0) for part in noisy(seed, count=40, noise=2.0))
        chosen.append(fit_calibration(raw, labels, groups, ["a"], seed).maps[0].method)

    assert chosen.count("isotonic") <= 1


@pytest.mark.parametrize("seed", range(3))
def test_an_affine_distortion_is_found_and_undone_on_held_out_articles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.uniform(1, 9, size=(600, 1))
    raw = 0.5 * labels + 4 + rng.normal(0, 0.2, size=labels.shape)

    calibration = fit_calibration(raw[:300], labels[:300], alone(300), ["a"], seed)

    error = np.abs(calibration.apply(raw[300:]) - labels[300:]).mean()
    assert calibration.maps[0].method != "identity"
    assert error < 0.3 * np.abs(raw[300:].clip(0, 10) - labels[300:]).mean()


def test_a_curved_distortion_is_found_by_an_isotonic_map() -> None:
    rng = np.random.default_rng(0)
    labels = rng.uniform(0, 10, size=(400, 1))
    raw = labels**2 / 10 + rng.normal(0, 0.1, size=labels.shape)

    calibration = fit_calibration(raw, labels, alone(400), ["a"], 0)

    assert calibration.maps[0].method in ("isotonic", "centred_isotonic")
    assert np.abs(calibration.apply(raw) - labels).mean() < 0.3


def test_the_affine_map_is_the_least_squares_line() -> None:
    rng = np.random.default_rng(1)
    raw = rng.normal(-20, 4, size=60)
    labels = (raw + 20) / 4 + 5 + rng.normal(0, 1.5, size=60)

    calibration = fit_calibration(raw[:, None], labels[:, None], alone(60), ["a"], 0)

    line = np.linspace(-60, 20, 100)
    expected = np.polyval(np.polyfit(raw, labels, 1), line).clip(0, 10)
    assert calibration.maps[0].method == "affine"
    assert np.abs(calibration.apply(line[:, None])[:, 0] - expected).max() < 1e-5  # float32


@FEW
@given(SEEDS, st.integers(2, 60), st.floats(0.01, 20), st.floats(-30, 30))
def test_every_map_is_monotone_and_stays_inside_0_to_10(seed: int, count: int, spread: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 21, size=(count, 2)) / 2
    raw = labels * rng.choice([-1, 0, 0.1, 1]) + rng.normal(shift, spread, size=labels.shape)

    calibration = fit_calibration(raw, labels, alone(count), ["a", "b"], seed)

    line = np.sort(rng.uniform(-100, 100, size=(200, 2)), axis=0)
    scores = calibration.apply(line)
    assert np.all((scores >= 0) & (scores <= 10))
    assert np.all(np.diff(scores, axis=0) >= 0)


@pytest.mark.parametrize("value", [-3.0, 5.0, 40.0])
def test_outputs_that_are_all_the_same_get_the_labels_mean_or_stay(value: float) -> None:
    labels = np.random.default_rng(2).uniform(6, 9, size=(80, 1))

    calibration = fit_calibration(np.full((80, 1), value), labels, alone(80), ["a"], 0)

    assert calibration.apply(np.array([[value]])).item() == pytest.approx(labels.mean(), abs=0.2)


def test_articles_of_a_single_group_leave_the_identity() -> None:
    rng = np.random.default_rng(3)

    calibration = fit_calibration(rng.normal(size=(30, 1)), rng.uniform(0, 10, (30, 1)), ["g"] * 30, ["a"], 0)

    assert calibration.maps[0].method == "identity"


def test_each_dimension_has_its_own_map_in_column_order() -> None:
    raw, labels = noisy(4)
    both_raw, both_labels = np.hstack([raw, raw * 0.2]), np.hstack([labels, labels])

    calibration = fit_calibration(both_raw, both_labels, alone(120), ["first", "second"], 0)

    assert [one.dimension for one in calibration.maps] == ["first", "second"]
    assert [one.method == "identity" for one in calibration.maps] == [True, False]


@FEW
@given(SEEDS)
def test_the_same_articles_and_seed_give_the_same_maps(seed: int) -> None:
    raw, labels = noisy(seed, count=30, noise=2)

    first, second = (fit_calibration(raw * 0.5, labels, alone(30), ["a"], seed) for _ in range(2))

    assert first == second


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=2, max_size=30, unique_by=lambda knot: knot[0]))
def test_a_map_with_capped_slope_is_monotone_and_never_steeper(knots: list[tuple[float, float]]) -> None:
    x, y = (np.sort(np.array(part)) for part in zip(*knots, strict=True))

    points, values = cap_slope(x, y)

    assert np.all(np.diff(values) >= 0)
    assert np.all(np.diff(values) <= MAX_SLOPE * np.diff(points) + 1e-9)
    assert values[0] >= y[0] - 1e-9
    assert values[-1] <= y[-1] + 1e-9


def test_a_map_within_the_slope_limit_stays_as_it_is_and_a_step_keeps_its_middle() -> None:
    x, gentle, step = np.array([2.0, 4.0, 5.0]), np.array([1.0, 3.0, 5.0]), np.array([0.0, 0.0, 9.0])

    points, values = cap_slope(np.array([2.0, 4.0, 4.001]), step)

    np.testing.assert_array_equal(cap_slope(x, gentle)[1], gentle)
    assert np.interp(4.0005, points, values) == pytest.approx(4.5, abs=0.05)
    assert np.interp([0.9, 7.1], points, values) == pytest.approx([0.0, 9.0])


def test_a_centred_map_has_one_knot_for_each_flat_piece_at_its_mean() -> None:
    raw, labels = np.array([1.0, 2.0, 4.0, 6.0, 9.0]), np.array([1.0, 3.0, 2.0, 5.0, 6.0])

    found = _fit_centred("a", raw, labels)

    assert (found.x, found.y) == ((1.0, 3.0, 6.0, 9.0), (1.0, 2.5, 5.0, 6.0))


def test_a_centred_map_keeps_unequal_articles_apart_where_an_isotonic_one_does_not() -> None:
    rng = np.random.default_rng(2)
    raw = np.sort(rng.uniform(2, 8, 300))
    labels = (raw + rng.normal(0, 2, 300)).clip(0, 10)
    inner = np.linspace(3, 7, 100)

    isotonic, centred = (
        np.interp(inner, m.x, m.y) for m in (f("a", raw, labels) for f in (_fit_isotonic, _fit_centred))
    )

    assert np.any(np.diff(isotonic) == 0)
    assert np.all(np.diff(centred) > 0)


STEPS = st.sampled_from([0.5, 1.0])


def stepped(seed: int, step: float, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Means of skewed answers in steps, most of them half the mean and some far above, and the answers: (N, 1) each."""
    rng = np.random.default_rng(seed)
    expected = rng.gamma(1.5, 1.2, size=(count, 1)).clip(0, 4)
    labels = expected * np.where(rng.uniform(size=expected.shape) < 0.7, 0.5, 2.17)
    return expected, (np.rint(labels / step) * step).clip(0, 10)


@FEW
@given(SEEDS, STEPS, st.integers(3, 80), st.booleans())
def test_a_step_map_is_monotone_inside_0_to_10_and_never_steeper(
    seed: int, step: float, count: int, are_skewed: bool
) -> None:
    rng = np.random.default_rng(seed)
    expected, labels = (part[:, 0] for part in stepped(seed, step, count))
    if not are_skewed:
        labels = rng.integers(0, round(10 / step) + 1, size=count) * step

    found = _fit_step_median("a", expected, labels, step)

    x, y = np.array(found.x), np.array(found.y)
    assert np.all(np.diff(x) >= 0)
    assert np.all(np.diff(y) >= 0)
    assert np.all(np.diff(y) <= MAX_SLOPE * np.diff(x) + 1e-9)
    assert np.all((y >= 0) & (y <= 10))


@pytest.mark.parametrize("step", [0.5, 1.0])
def test_on_skewed_answers_in_steps_a_step_map_has_a_lower_error_on_held_out_articles(step: float) -> None:
    expected, labels = stepped(0, step, 2000)

    found = fit_steps(expected[:1000], labels[:1000], alone(1000), ["a"], step, 0)

    assert found.maps[0].method == "step_median"
    before, after = (np.abs(one - labels[1000:]).mean() for one in (expected[1000:], found.apply(expected[1000:])))
    assert after < 0.95 * before


def test_a_step_map_answers_the_median_label_on_each_plateau() -> None:
    expected = np.repeat([0.5, 3.0, 7.0], 50)
    labels = np.concatenate([np.where(np.arange(50) % 5, low, high) for low, high in ((0, 4), (2, 6), (5, 1))])

    found = _fit_step_median("a", expected, labels.astype(float), 1.0)

    assert np.interp([0.5, 3.0, 7.0], found.x, found.y) == pytest.approx([0.0, 2.0, 5.0])


def test_without_steps_in_the_labels_scores_are_the_means() -> None:
    expected, labels = stepped(0, 1.0)

    found = fit_steps(np.hstack([expected, expected]), np.hstack([labels, labels]), alone(300), ["a", "b"], None, 0)

    assert found == identity(["a", "b"])


@pytest.mark.parametrize("seed", range(3))
def test_a_step_map_that_gains_nothing_is_not_accepted(seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 11, size=(200, 1)).astype(float)

    found = fit_steps(labels, labels, alone(200), ["a"], 1.0, seed)

    assert found.maps[0].method == "identity"


def test_where_half_of_the_lowest_labels_are_at_a_step_no_score_is_below_it() -> None:
    generator = np.random.default_rng(5)
    expected = generator.uniform(0, 4, (400, 1))
    labels = np.where(expected < 2, 2.0, 4.0)

    steps = fit_steps(expected, labels, [str(i) for i in range(400)], ["a"], 1.0, 0)

    assert steps.apply(np.array([[0.0], [0.5]])).ravel().tolist() == [2.0, 2.0]
