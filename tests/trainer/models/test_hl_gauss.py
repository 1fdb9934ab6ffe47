"""HL-Gauss: targets keep the label as their mean; mean, spread and probabilities are those of the distribution."""

import numpy as np
import pytest

from distillery_trainer.models import hl_gauss
from distillery_trainer.models.hl_gauss import Distributions

LABELS = np.linspace(0, 10, 201, dtype=np.float32)[:, None]
# Bins are 1.3 deviations wide: between two half points the mean of a smoothed label is this far off.
MEAN_TOLERANCE = 1e-3


def test_targets_sum_to_one_and_keep_the_label_as_their_mean_at_either_end_too() -> None:
    shares = hl_gauss.targets(LABELS)

    np.testing.assert_allclose(shares.sum(axis=-1), 1, atol=1e-6)
    assert shares.min() >= 0
    np.testing.assert_allclose(shares @ hl_gauss.centres(), LABELS, atol=MEAN_TOLERANCE)


def test_neighbouring_bins_share_a_labels_mass() -> None:
    (share,) = hl_gauss.targets(np.array([[5.25]], dtype=np.float32))[0]

    middle = int(np.argmax(share))
    assert hl_gauss.centres()[middle] == 5.25
    np.testing.assert_allclose(share[middle - 2 : middle + 3], share[middle - 2 : middle + 3][::-1], atol=1e-6)
    assert share[middle] == pytest.approx(0.495, abs=1e-3)  # P(|Z| < 1 / 1.5)


def test_a_certain_label_has_no_spread_and_two_possible_ones_have_theirs() -> None:
    certain = hl_gauss.targets(np.array([[4.0]], dtype=np.float32))
    either = hl_gauss.targets(np.array([[2.0], [6.0]], dtype=np.float32)).mean(axis=0, keepdims=True)

    found = Distributions(np.concatenate([certain, either]), hl_gauss.centres())

    np.testing.assert_allclose(found.mean[:, 0], [4, 4], atol=MEAN_TOLERANCE)
    np.testing.assert_allclose(found.spread[:, 0], [0, 2], atol=0.05)


def test_the_probability_of_a_tier_is_the_mass_above_it() -> None:
    either = hl_gauss.targets(np.array([[2.0], [6.0]], dtype=np.float32)).mean(axis=0, keepdims=True)
    found = Distributions(either, hl_gauss.centres())

    rising = [float(found.at_least(score)[0, 0]) for score in np.arange(0, 10.1, 0.1)]

    assert rising == sorted(rising, reverse=True)
    assert rising[0] == 1
    assert found.at_least(4)[0, 0] == pytest.approx(0.5, abs=1e-3)
    assert found.at_least(6)[0, 0] == pytest.approx(0.25, abs=1e-3)
    assert found.at_least(9)[0, 0] < 1e-6


def test_a_bin_that_the_score_cuts_counts_by_its_part_above() -> None:
    centres = np.array([4.75, 5.25], dtype=np.float32)
    found = Distributions(np.array([[[0.5, 0.5]]], dtype=np.float32), centres)

    assert [float(found.at_least(score)[0, 0]) for score in (4.5, 4.6, 5.0, 5.25)] == pytest.approx([1, 0.9, 0.5, 0.25])


def test_mass_above_ten_counts_as_ten() -> None:
    top = Distributions(hl_gauss.targets(np.array([[10.0]], dtype=np.float32)), hl_gauss.centres())

    assert top.at_least(10)[0, 0] == pytest.approx(0.5, abs=1e-4)


def test_the_best_constant_expects_the_mean_label() -> None:
    labels = np.array([[1, 8], [2, 8], [6, 8]], dtype=np.float32)

    shares = hl_gauss.softmax(hl_gauss.best_constant(labels, np.ones_like(labels, bool)))

    np.testing.assert_allclose(shares @ hl_gauss.centres(), [3, 8], atol=0.02)
