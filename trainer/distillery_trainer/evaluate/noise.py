"""How far the oracle is from itself: the error that a second answer of its own would have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distillery_trainer.evaluate.metrics import fixed, rounded

MIN_REPEATED = 10

Answers = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Noise:
    """The oracle's own error on the articles that it answered repeatedly: over all dimensions alike, and of each."""

    articles: int
    mae: float
    dimensions: Mapping[str, float]


def noise_floor(repeats: Sequence[Answers], names: Sequence[str]) -> Noise | None:
    """The mean absolute difference between two answers to the same article, per dimension and over all.

    Each article counts once, whatever the number of its answers.

    Args:
        repeats: each article's answers, n of D scores each; none where it was answered once.
        names: the D dimensions.

    Returns:
        None where fewer than 10 articles were answered more than once.
    """
    several = [np.asarray(answers, np.float64) for answers in repeats if len(answers) > 1]
    if len(several) < MIN_REPEATED:
        return None
    apart = np.stack([_between(answers) for answers in several])
    columns = {name: fixed(value) for name, value in zip(names, apart.mean(axis=0), strict=True)}
    return Noise(len(several), fixed(apart.mean()), columns)


def shares_of_reachable(maes: Mapping[str, float], constant: float, floor: float) -> dict[str, float | None]:
    """What each system has achieved of the way from the constant's error down to the floor: 1 is as the oracle."""
    reachable = constant - floor
    return {name: rounded((constant - mae) / reachable if reachable > 0 else None) for name, mae in maes.items()}


def _between(answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean absolute difference over all pairs of n answers: (D,)."""
    first, second = np.triu_indices(len(answers), k=1)
    apart: NDArray[np.float64] = np.abs(answers[first] - answers[second]).mean(axis=0)
    return apart
