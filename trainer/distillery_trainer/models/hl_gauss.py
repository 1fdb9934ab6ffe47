"""Scores as distributions over bins: the targets of the HL-Gauss loss, and what can be read from a distribution.

Imani & White 2018 (arXiv 1806.04613) learn a number by cross-entropy against a histogram of it, smoothed by a Gaussian;
Farebrother et al. 2024 (arXiv 2403.03950) find a deviation of 0.75 bins good throughout. The bins reach beyond [0, 10]
by four deviations, so that a label at either end keeps its mass, and with it its mean.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

BIN_WIDTH = 0.5  # the step in which oracles answer
DEVIATION = 0.75 * BIN_WIDTH
MARGIN_BINS = 3
SMALLEST_SHARE = 1e-4  # of a bin in the best constant: one that no label reaches may still be learnt

Floats = NDArray[np.float32]


def centres() -> Floats:
    """The middles of the bins: (K,) float32, rising by `BIN_WIDTH` from below 0 to above 10."""
    middles: Floats = ((_edges()[:-1] + _edges()[1:]) / 2).astype(np.float32)
    return middles


def targets(labels: Floats) -> Floats:
    """Each label as shares of the bins: (N, D) in [0, 10] to (N, D, K) float32 that sum to 1 and keep the mean."""
    below = ndtr((_edges() - labels[..., None].astype(np.float64)) / DEVIATION)
    mass = np.diff(below, axis=-1)
    shares: Floats = (mass / mass.sum(axis=-1, keepdims=True)).astype(np.float32)
    return shares


def best_constant(labels: Floats, known: NDArray[np.bool_]) -> Floats:
    """The logits (D, K) float32 of the one distribution for each dimension that suits labels best.

    Args:
        labels: (N, D).
        known: (N, D), which of them there are; at least one in each column.
    """
    shares = targets(labels).mean(axis=0, where=known[..., None])
    logits: Floats = np.log(np.maximum(shares, SMALLEST_SHARE))
    return logits


@dataclass(frozen=True, slots=True)
class Distributions:
    """What a student expects of each score. `shares`: (N, D, K) float32 that sum to 1; `centres`: (K,) float32."""

    shares: Floats
    centres: Floats

    @property
    def mean(self) -> Floats:
        """The expected score, which is the student's raw output: (N, D) float32."""
        mean: Floats = self.shares @ self.centres
        return mean

    @property
    def spread(self) -> Floats:
        """The standard deviation in score points, the smoothing of the targets taken out: (N, D) float32, at least 0.

        It holds the oracle's noise and the student's doubt together, before calibration.
        """
        width = float(self.centres[1] - self.centres[0])
        added = (DEVIATION / BIN_WIDTH * width) ** 2 + width**2 / 12  # the Gaussian's variance and that within a bin
        variance = self.shares @ self.centres**2 - self.mean**2
        spread: Floats = np.sqrt(np.maximum(variance - added, 0)).astype(np.float32)
        return spread

    def at_least(self, score: float) -> Floats:
        """The probability that each dimension's score is at least `score`: (N, D) float32.

        Mass below 0 or above 10 counts as 0 or 10, for no score lies beyond; a bin that `score` cuts counts by its part
        above.
        """
        if score <= 0:
            return np.ones(self.shares.shape[:-1], dtype=np.float32)
        width = self.centres[1] - self.centres[0]
        above = np.clip((self.centres + width / 2 - min(score, 10.0)) / width, 0, 1)
        probability: Floats = self.shares @ above.astype(np.float32)
        return probability


def softmax(logits: Floats) -> Floats:
    """Logits (..., K) as shares that sum to 1."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return shares


def _edges() -> NDArray[np.float64]:
    """The borders of the bins: (K + 1,)."""
    return np.arange(-MARGIN_BINS, round(10 / BIN_WIDTH) + MARGIN_BINS + 1, dtype=np.float64) * BIN_WIDTH
