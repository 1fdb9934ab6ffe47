"""What is wrong with calibration maps as such: tiers that cannot be reached, steps, and steps at a gate.

A map can be monotone and fitted well and still harm: where it ends below a tier, the tier never happens; where it rises
steeply, a raw difference that means nothing becomes another verdict.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.calibration import Calibration, CalibrationMap
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import overalls

STEEPEST = 5.0
"""Score points for each raw point beyond which a map is called steep; fitted maps keep to 3."""
CLIFF_RISE, CLIFF_RUN = 1.0, 0.05
"""A cliff rises by so many score points within so few raw points."""

Kind = Literal[
    "ceiling", "gate_never_opens", "gate_never_closes", "slope", "cliff", "cliff_at_gate", "unreachable_tier"
]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its kind, the dimension (or tier, or `normalization`) that has it, and a sentence with the figures."""

    kind: Kind
    where: str
    says: str


@dataclass(frozen=True, slots=True)
class Jump:
    """A map's highest rise within `CLIFF_RUN` raw points: from `low` to `high` at the raw value `raw`."""

    raw: float
    low: float
    high: float


def lint_calibration(calibration: Calibration, spec: FilterSpec | None = None) -> list[Fault]:
    """All faults of maps: those of each map, and with a spec those of gates, tiers and the overall.

    Args:
        calibration: maps, in the order of the spec's dimensions if there is a spec.
        spec: the filter whose gates and tiers they serve.
    """
    gates = {gate.dimension: gate.below for gate in spec.gatekeepers} if spec else {}
    found = [fault for m in calibration.maps for fault in _of_map(m, gates.get(m.dimension))]
    return [*found, *_unreachable(calibration, spec)] if spec else found


def highest_overall(calibration: Calibration, spec: FilterSpec) -> float:
    """The overall of an article whose every raw output is as high as can be, gates applied: in [0, 10]."""
    top = np.array([[m.y[-1] for m in calibration.maps]])
    return float(overalls(top, spec)[0])


def steepest_step(m: CalibrationMap) -> Jump:
    """Where a map rises most within `CLIFF_RUN` raw points."""
    return max(_steps(m), key=lambda step: step.high - step.low)


def _steps(m: CalibrationMap) -> list[Jump]:
    """How far a map rises within `CLIFF_RUN` raw points of each place where that may be most."""
    x, y = np.array(m.x), np.array(m.y)
    # The rise between two raw values so far apart is highest where one of them is a knot; a step's both sides count.
    starts = np.union1d(x, x - CLIFF_RUN)
    lows = np.minimum(_just_before(starts, x, y), np.interp(starts, x, y))
    highs = np.interp(starts + CLIFF_RUN, x, y)
    return [Jump(*map(float, step)) for step in zip(starts, lows, highs, strict=True)]


def lint_normalization(x: Sequence[float], calibration: Calibration, spec: FilterSpec) -> list[Fault]:
    """Whether a table that turns overalls into percentiles was fitted on overalls that these maps cannot give.

    Args:
        x: (K,) the overalls that the table knows, ascending.
    """
    top = highest_overall(calibration, spec)
    if x[-1] <= top + 1e-9:
        return []
    says = f"fitted up to an overall of {x[-1]:.2f}, but calibrated scores reach {top:.2f} at most"
    return [Fault("ceiling", "normalization", says)]


def _of_map(m: CalibrationMap, gate: float | None) -> Iterator[Fault]:
    low, high = m.y[0], m.y[-1]
    if high < 10:
        yield Fault("ceiling", m.dimension, f"no score above {high:.2f}")
    if gate is not None and high < gate:
        yield Fault("gate_never_opens", m.dimension, f"no score above {high:.2f}, and the gate caps below {gate:g}")
    if gate is not None and low >= gate:
        yield Fault("gate_never_closes", m.dimension, f"no score below {low:.2f}, and the gate caps below {gate:g}")
    steepest = _steepest(m)
    if steepest > STEEPEST:
        yield Fault("slope", m.dimension, f"rises by {steepest:.4g} score points for each raw point somewhere")
    cliffs = sorted((s for s in _steps(m) if s.high - s.low >= CLIFF_RISE), key=lambda s: s.low - s.high)
    if cliffs:
        yield Fault("cliff", m.dimension, _in_words(cliffs[0]))
    at_gate = [step for step in cliffs if gate is not None and step.low < gate <= step.high]
    if at_gate:
        yield Fault("cliff_at_gate", m.dimension, f"{_in_words(at_gate[0])}, across the gate at {gate:g}")


def _in_words(step: Jump) -> str:
    return f"{step.low:.2f} becomes {step.high:.2f} within {CLIFF_RUN:g} raw points from {step.raw:.4g}"


def _unreachable(calibration: Calibration, spec: FilterSpec) -> Iterator[Fault]:
    top = highest_overall(calibration, spec)
    for tier in spec.tiers:
        if tier.min_overall > top:
            says = f"begins at {tier.min_overall:g}, and no overall is above {top:.2f}"
            yield Fault("unreachable_tier", tier.name, says)


def _steepest(m: CalibrationMap) -> float:
    runs, rises = np.diff(m.x), np.diff(m.y)
    moves = rises > 0
    if not moves.any():
        return 0.0
    with np.errstate(divide="ignore"):
        return float(np.max(rises[moves] / runs[moves]))


def _just_before(points: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The map's values from the left, which differ from `numpy.interp` at a step."""
    return np.interp(np.nextafter(points, -np.inf), x, y)
