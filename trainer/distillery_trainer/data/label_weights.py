"""What each label counts in training: an article's own weight, times how sure the oracle was of it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# The squared error, in score points, that a student is left with on labels without noise. A label's variance counts
# only beside it: a label that happened to be repeated without a difference is not infinitely sure. (About 0.5 was the
# square of the deployed students' mean error.)
STUDENT_VARIANCE = 0.5
# How many answers the variance of all labels counts as, beside an article's own few.
PRIOR_ANSWERS = 4.0

Matrix = NDArray[np.float32]


def label_weights(own: Sequence[float], repeats: Sequence[Sequence[Sequence[float]]], dimensions: int) -> Matrix:
    """The weights of N articles' labels: (N, D) float32 above 0, 1 for an article without weight or repeats.

    Weights are inverse variances with a floor: (S + V) / (S + v), where v is a label's variance, S is what a student
    errs anyway and V is the variance of a single answer in this dimension. v is V for an article that was answered
    once. Of n answers it is their variance, shrunk towards V where n is small, divided by n: the label is their mean.

    Args:
        own: each article's own weight, above 0.
        repeats: each article's answers, n of D scores each; none where it was answered once.
        dimensions: D.
    """
    answered = [np.asarray(answers, np.float64).reshape(-1, dimensions) for answers in repeats]
    several = [answers for answers in answered if len(answers) > 1]
    weights = np.repeat(np.asarray(own, np.float64)[:, None], dimensions, axis=1)
    if several:
        single = _pooled_variance(several)
        noise = np.stack([_variance(answers, single) for answers in answered])
        weights *= (STUDENT_VARIANCE + single) / (STUDENT_VARIANCE + noise)
    return weights.astype(np.float32)


def _pooled_variance(several: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The variance of one answer around its article's mean, (D,), over all articles that were answered again."""
    squares = sum(((answers - answers.mean(axis=0)) ** 2).sum(axis=0) for answers in several)
    return np.asarray(squares / sum(len(answers) - 1 for answers in several), np.float64)


def _variance(answers: NDArray[np.float64], single: NDArray[np.float64]) -> NDArray[np.float64]:
    """The variance of an article's label, (D,), given that of a single answer."""
    count = len(answers)
    if count < 2:
        return single
    squares = ((answers - answers.mean(axis=0)) ** 2).sum(axis=0)
    shrunk = (PRIOR_ANSWERS * single + squares) / (PRIOR_ANSWERS + count - 1)
    return np.asarray(shrunk / count, np.float64)
