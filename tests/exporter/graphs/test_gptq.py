"""Weights that are rounded to fit their inputs: products stay nearer than with rounding to the nearest."""

import numpy as np
import pytest
from numpy.typing import NDArray

from distillery_exporter.graphs.gptq import round_weights
from distillery_exporter.graphs.precision import quantise_blocks, quantise_rows

LIMIT = 7
WIDTH = 300  # more than are rounded together


@pytest.fixture(scope="module")
def weight() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((20, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def inputs() -> NDArray[np.float32]:
    """Inputs whose channels move together, as real ones do."""
    rng = np.random.default_rng(1)
    common = rng.standard_normal((500, 20)) @ rng.standard_normal((20, WIDTH))
    return (common + 0.3 * rng.standard_normal((500, WIDTH))).astype(np.float32)


def test_products_stay_nearer_than_with_rounding_to_the_nearest(
    weight: NDArray[np.float32], inputs: NDArray[np.float32]
) -> None:
    nearest, scales = quantise_rows(weight, LIMIT)
    fitted = round_weights(weight, (inputs.T @ inputs)[None], scales, -LIMIT, LIMIT)

    errors = [np.abs(inputs @ (values * scales - weight).T).mean() for values in (nearest, fitted)]

    assert np.abs(fitted).max() <= LIMIT
    assert errors[1] < errors[0] / 3


def test_blocks_of_four_bits_are_fitted_too(weight: NDArray[np.float32], inputs: NDArray[np.float32]) -> None:
    def restored(grams: NDArray[np.float32] | None) -> NDArray[np.float32]:
        packed, scales = quantise_blocks(weight, grams)
        values = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(weight), -1, 32).astype(np.float32) - 8
        return (values * scales.reshape(len(weight), -1, 1)).reshape(len(weight), -1)[:, :WIDTH]

    each = (None, (inputs.T @ inputs)[None])

    errors = [np.abs(inputs @ (restored(grams) - weight).T).mean() for grams in each]

    assert errors[1] < errors[0] / 3


def test_channels_that_do_not_move_together_are_rounded_to_the_nearest(weight: NDArray[np.float32]) -> None:
    nearest, scales = quantise_rows(weight, LIMIT)

    fitted = round_weights(weight, np.eye(WIDTH, dtype=np.float32)[None], scales, -LIMIT, LIMIT)

    np.testing.assert_array_equal(fitted, nearest)


def test_blocks_of_channels_are_rounded_by_themselves(weight: NDArray[np.float32], inputs: NDArray[np.float32]) -> None:
    _, scales = quantise_rows(weight, LIMIT)
    half = WIDTH // 2
    grams = np.stack([part.T @ part for part in (inputs[:, :half], inputs[:, half:])])

    together = round_weights(weight, grams, scales, -LIMIT, LIMIT)

    first = round_weights(weight[:, :half], grams[:1], scales, -LIMIT, LIMIT)
    np.testing.assert_array_equal(together[:, :half], first)


def test_a_channel_that_is_always_zero_is_no_problem(weight: NDArray[np.float32]) -> None:
    grams = np.zeros((1, WIDTH, WIDTH), dtype=np.float32)
    nearest, scales = quantise_rows(weight, LIMIT)

    np.testing.assert_array_equal(round_weights(weight, grams, scales, -LIMIT, LIMIT), nearest)
