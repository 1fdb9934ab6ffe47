"""Calibration: per dimension monotone maps from a model's raw output to its two read-outs in [0, 10].

`expected` is the mean of what the oracle would answer: it ranks, and chances are made from it. `scores` are `expected`
moved to the oracle's steps: what a reader sees, and what tiers and gatekeepers are decided on.

Every kind of map is kept as the knots of a piecewise linear function and applied as
`numpy.interp` does, flat beyond its ends. The exporter embeds the same knots in the graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from distillery_runtime.spec.model import StrictModel

Knot = Annotated[float, Field(allow_inf_nan=False)]
KnotScore = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]


class CalibrationMap(StrictModel):
    """One dimension's map: `x` raw values, ascending; `y` scores in [0, 10], not descending."""

    dimension: str
    method: Literal["identity", "affine", "isotonic", "centred_isotonic", "step_median"]
    x: Annotated[tuple[Knot, ...], Field(min_length=1)]
    y: Annotated[tuple[KnotScore, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_monotone(self) -> Self:
        if len(self.x) != len(self.y):
            raise ValueError(f"{len(self.x)} x knots and {len(self.y)} y knots, expected as many of each")
        if np.any(np.diff(self.x) < 0) or np.any(np.diff(self.y) < 0):
            raise ValueError("knots that go down, expected ascending x and not descending y")
        return self


@dataclass(frozen=True, slots=True)
class Calibration:
    """The maps of all dimensions, in column order."""

    maps: tuple[CalibrationMap, ...]

    def apply(self, raw: NDArray[np.floating]) -> NDArray[np.float32]:
        """Turns raw outputs into scores.

        Args:
            raw: (N, D) finite values, columns in the maps' order.

        Returns:
            (N, D) float32 in [0, 10], computed in float64 by `numpy.interp`.
        """
        values = np.asarray(raw, dtype=np.float64)
        columns = [np.interp(values[:, i], m.x, m.y) for i, m in enumerate(self.maps)]
        return np.stack(columns, axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class ReadOut:
    """How a model's raw outputs are read: `expected` from raw outputs, `scores` from `expected`.

    `scores` is None in bundles of format 1, whose one read-out is the mean.
    """

    expected: Calibration
    scores: Calibration | None = None

    def apply(self, raw: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Gives both read-outs, (N, D) float32 in [0, 10] each, of (N, D) raw outputs, or more columns after those."""
        expected = self.expected.apply(np.asarray(raw)[:, : len(self.expected.maps)])
        return expected, expected if self.scores is None else self.scores.apply(expected)

    def differences(
        self, raw: NDArray[np.floating], expected: NDArray[np.float32], scores: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """How far each article's read-outs, as a graph gives them, are from these maps: (N,) float32, at least 0.

        Each map is compared on the graph's own input of it, so that rounding does not add up.
        """
        means, _ = self.apply(raw)
        stepped = expected if self.scores is None else self.scores.apply(expected)
        off: NDArray[np.float32] = np.maximum(
            np.abs(means - expected).max(axis=1), np.abs(stepped - scores).max(axis=1)
        )
        return off


def identity(dimensions: Sequence[str]) -> Calibration:
    """Maps that only clip to [0, 10]."""
    return Calibration(
        tuple(CalibrationMap(dimension=d, method="identity", x=(0.0, 10.0), y=(0.0, 10.0)) for d in dimensions)
    )
