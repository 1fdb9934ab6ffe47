"""Choosing between models or penalties on the same validation articles: the simplest that none is clearly better than.

Two candidates that are equally good differ by the order in which a processor sums. So a more complex one replaces a
simpler one only if a paired test says that its mean error is lower (one-sided, 95 %), and by more than `NEGLIGIBLE`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STANDARD_ERRORS = 1.645  # the one-sided 95 % point of a normal distribution
NEGLIGIBLE = 1e-4  # score points: far above rounding, far below what a label can tell

Errors = NDArray[np.floating]


def simplest(candidates: Sequence[Errors]) -> int:
    """The place of the candidate to take.

    Args:
        candidates: simplest first, at least one; the errors of each as in `is_better`, of the same articles.
    """
    chosen = 0
    for place, errors in enumerate(candidates):
        if is_better(errors, candidates[chosen]):
            chosen = place
    return chosen


def is_better(candidate: Errors, incumbent: Errors, weights: Errors | None = None) -> bool:
    """Tell whether a candidate's mean absolute error is lower by more than chance or rounding explains.

    Args:
        candidate, incumbent: (N, D) or (N,) absolute errors in score points of the same N articles.
        weights: of their shape, at least 0 and not all 0, what each error counts; None where all count alike.
    """
    counts = np.ones_like(incumbent, np.float64) if weights is None else np.asarray(weights, np.float64)
    gains = ((np.asarray(incumbent, np.float64) - candidate) * counts).reshape(len(counts), -1).sum(axis=1)
    gain = gains.sum() / counts.sum()
    standard_error = np.sqrt(len(gains)) * gains.std(ddof=1) / counts.sum() if len(gains) > 1 else np.inf
    return bool(gain > max(STANDARD_ERRORS * standard_error, NEGLIGIBLE))
