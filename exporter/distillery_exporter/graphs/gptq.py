"""Rounding weights so that their products with real inputs stay, rather than the weights themselves.

GPTQ (Frantar et al. 2022, arXiv 2210.17323): columns are rounded one after the other, and the error of each is made up
for by the columns that are still free, as the inputs' correlations allow. With H the sum of x xᵀ over the inputs x and
H⁻¹ = UᵀU, U upper triangular: the error of column j, divided by U_jj and times U_jk, is taken from each later column k.
Columns whose inputs are largest come first, while most others can still make up for them.
"""

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float32]

# Of the mean of H's diagonal, added to it: what the measured texts leave open must not be inverted.
_DAMPING = 0.01
_COLUMNS = 32  # whose errors reach the columns beyond them together


def round_weights(weight: Weights, grams: Weights, scales: Weights, lowest: int, highest: int) -> NDArray[np.int8]:
    """Rounds a weight to integers, given the inputs that it is multiplied with.

    Args:
        weight: (N, K) float32.
        grams: (blocks, K / blocks, K / blocks), H of each block of columns; blocks know nothing of each other.
        scales: (N, K) or what broadcasts to it, what an integer stands for, not 0.
        lowest: the lowest integer, at least -128.
        highest: the highest, at most 127.

    Returns:
        (N, K) int8; `values * scales` times an input is near `weight` times it.
    """
    parts = len(grams)
    every = np.broadcast_to(scales, weight.shape)
    blocks = zip(np.split(weight, parts, axis=1), grams, np.split(every, parts, axis=1), strict=True)
    return np.concatenate([_round_block(w, gram, scale, lowest, highest) for w, gram, scale in blocks], axis=1)


def _round_block(weight: Weights, gram: Weights, scales: Weights, lowest: int, highest: int) -> NDArray[np.int8]:
    order = np.argsort(-np.diag(gram), kind="stable")
    spread = _spread(gram[np.ix_(order, order)].astype(np.float64))
    # A column of the weight is a row here, so that it lies together in memory.
    left, steps = weight.T[order].astype(np.float64), scales.T[order].astype(np.float64)
    values = np.empty(left.shape, dtype=np.int8)
    for start in range(0, len(order), _COLUMNS):
        end = min(start + _COLUMNS, len(order))
        errors = np.empty((end - start, left.shape[1]))
        for j in range(start, end):
            column = np.clip(np.rint(left[j] / steps[j]), lowest, highest)
            values[order[j]] = column
            error = errors[j - start] = (left[j] - column * steps[j]) / spread[j, j]
            left[j + 1 : end] -= np.outer(spread[j, j + 1 : end], error)
        left[end:] -= spread[start:end, end:].T @ errors
    return values.T


def _spread(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """U of H⁻¹ = UᵀU, upper triangular, with H damped; a channel that was always 0 is a channel by itself."""
    mean = float(np.diag(gram).mean())
    gram[np.diag_indices_from(gram)] += _DAMPING * mean if mean > 0 else 1.0
    upper: NDArray[np.float64] = np.linalg.cholesky(np.linalg.inv(gram)).T
    return upper
