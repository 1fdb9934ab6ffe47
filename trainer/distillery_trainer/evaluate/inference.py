"""Prediction-powered inference: a mean over many machine answers, put right by few human ones, with a valid interval.

Angelopoulos, Bates, Fannjiang, Jordan and Zrnic, "Prediction-powered inference", Science 382 (2023).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

LEVEL = 0.95

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval at 95 %, and the interval that the human answers alone would have given."""

    value: float
    low: float
    high: float
    alone_low: float
    alone_high: float
    people: int
    machine: int

    def record(self) -> dict[str, object]:
        """As JSON holds it, with 4 decimals."""
        return {
            "value": round(self.value, 4),
            "interval": [round(self.low, 4), round(self.high, 4)],
            "people_alone": [round(self.alone_low, 4), round(self.alone_high, 4)],
            "n_people": self.people,
            "n_machine": self.machine,
        }


def powered_mean(human: Array, proxy: Array, others: Array) -> Estimate:
    """The mean of a quantity that people measured on few articles and a machine on all.

    Args:
        human: (n,) as people have it, on articles drawn at random, n at least 2.
        proxy: (n,) as the machine has it, on the same articles.
        others: (N,) as the machine has it, on other articles of the same source, N at least 2.
    """
    right = human - proxy
    value = float(others.mean() + right.mean())
    error = float(np.sqrt(others.var(ddof=1) / len(others) + right.var(ddof=1) / len(right)))
    alone = classical_mean(human)
    wide = _width() * error
    return Estimate(value, value - wide, value + wide, alone.low, alone.high, len(human), len(others))


def classical_mean(human: Array) -> Estimate:
    """The mean of (n,) values that only people can tell, n at least 2."""
    value = float(human.mean())
    wide = _width() * float(human.std(ddof=1) / np.sqrt(len(human)))
    return Estimate(value, value - wide, value + wide, value - wide, value + wide, len(human), 0)


def _width() -> float:
    return float(norm.ppf((1 + LEVEL) / 2))
