"""A read-out as lookup tables in the graph: find the segment, gather its line, follow the line."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from distillery_exporter.graphs.builder import GraphBuilder, replace_tables
from distillery_runtime.spec.calibration import Calibration, CalibrationMap, ReadOut

EDGES, LINES = "calibration_edges", "calibration_lines"
STEP_EDGES, STEP_LINES = "step_edges", "step_lines"


def add_read_out(g: GraphBuilder, raw_name: str, read_out: ReadOut) -> tuple[str, str]:
    """Adds both maps of a read-out, as `ReadOut.apply` does.

    Args:
        g: the graph.
        raw_name: (B, D) float32, or (B, D + 1) with a find head's logit, which is not read.
        read_out: D maps each.

    Returns:
        The names of `expected` and `scores`: (B, D) float32 in [0, 10].
    """
    count = len(read_out.expected.maps)
    scored = g.op("Slice", [raw_name, g.ints(0), g.ints(count), g.ints(1)])
    expected = add_calibration(g, scored, read_out.expected)
    if read_out.scores is None:
        raise ValueError("a read-out without steps, expected one of format 2")
    return expected, add_calibration(g, expected, read_out.scores, (STEP_EDGES, STEP_LINES))


def add_calibration(
    g: GraphBuilder, raw_name: str, calibration: Calibration, names: tuple[str, str] = (EDGES, LINES)
) -> str:
    """Adds the nodes that turn raw outputs into scores, as `Calibration.apply` does, within 1e-6.

    Everything between the casts is float64: with float32 a step between two neighbouring knots is lost.

    Args:
        g: the graph.
        raw_name: (B, D) float32, columns in the maps' order. A value that is NaN or infinite gives NaN.
        calibration: D maps.
        names: of the two tables.

    Returns:
        The name of the scores: (B, D) float32 in [0, 10].
    """
    edges, lines = _tables(calibration)
    rows = edges.shape[1] + 1
    raw = g.op("Cast", [raw_name], to=TensorProto.DOUBLE)
    reached = g.op("GreaterOrEqual", [g.op("Unsqueeze", [raw, g.ints(2)]), g.init(edges[None], names[0])])
    segment = g.op("ReduceSum", [g.op("Cast", [reached], to=TensorProto.INT64), g.ints(2)], keepdims=0)
    offsets = np.arange(len(edges), dtype=np.int64)[None] * rows
    line = g.op("Gather", [g.init(lines, names[1]), g.op("Add", [segment, g.const(offsets)])], axis=0)
    parts = g.multi("Split", [line, g.ints(1, 1, 1)], ("x0", "y0", "slope"), axis=2)
    x0, y0, slope = (g.op("Squeeze", [part, g.ints(2)]) for part in parts)
    score = g.op("Add", [g.op("Mul", [g.op("Sub", [raw, x0]), slope]), y0])
    return g.op("Cast", [score], to=TensorProto.FLOAT)


def replace_calibration(path: Path, calibration: Calibration) -> None:
    """Gives a written graph another calibration, of as many knots as the one that it has.

    Raises:
        ValueError: the graph has no calibration, or one of other dimensions or knots.
    """
    edges, lines = _tables(calibration)
    replace_tables(path, {EDGES: edges[None], LINES: lines})


def _tables(calibration: Calibration) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The knots as tables, for D maps of at most K knots.

    Returns:
        edges: (D, K) float64, each map's knots, filled up with infinity: as many as are at or below a value number
        the segment that it lies in; and lines: (D * (K + 1), 3) float64, each segment's x0, y0 and slope.
    """
    most = max(len(m.x) for m in calibration.maps)
    edges = np.full((len(calibration.maps), most), np.inf)
    for row, m in zip(edges, calibration.maps, strict=True):
        row[: len(m.x)] = m.x
    lines = [_lines(m, most + 1) for m in calibration.maps]
    return edges, np.concatenate(lines)


def _lines(m: CalibrationMap, rows: int) -> NDArray[np.float64]:
    """One map's segments, (rows, 3) float64: flat before the first knot, between knots, flat from the last on."""
    x, y = np.array(m.x), np.array(m.y)
    lines = np.zeros((rows, 3))
    lines[0] = x[0], y[0], 0
    lines[1 : len(x), 0], lines[1 : len(x), 1] = x[:-1], y[:-1]
    lines[1 : len(x), 2] = _slopes(x, y)
    lines[len(x) :] = x[-1], y[-1], 0
    return lines


def _slopes(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slopes between knots; 0 where two knots are too close for a slope, and no value can lie between them."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        slopes = np.diff(y) / np.diff(x)
    return np.where(np.isfinite(slopes), slopes, 0.0)
