"""What goes into our graphs and comes out: token ids or a pooled state in, a pooled state or scores out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distillery_exporter.graphs.builder import GraphBuilder, Port
from distillery_exporter.graphs.tables import add_calibration
from distillery_runtime.spec.calibration import Calibration

IDS = "input_ids"
MASK = "attention_mask"
POOLED = "pooled"

# (B, T) int64, padded on the right; the mask is 1 on real tokens and 0 on padding.
TOKEN_INPUTS = (Port(IDS, np.int64, ("batch", "tokens")), Port(MASK, np.int64, ("batch", "tokens")))


def pooled_port(width: int) -> Port:
    """`pooled`: (B, width) float32."""
    return Port(POOLED, np.float32, ("batch", width))


def save_encoder(g: GraphBuilder, pooled: str, width: int) -> tuple[Path, ...]:
    """Writes a graph from token ids to `pooled`: (B, width) float32. Returns the files written."""
    return g.save(TOKEN_INPUTS, [(pooled, pooled_port(width))])


def save_scorer(g: GraphBuilder, inputs: Sequence[Port], raw: str, calibration: Calibration) -> tuple[Path, ...]:
    """Calibrates `raw` and writes a graph with both as outputs.

    Args:
        g: the graph.
        inputs: the graph's inputs.
        raw: the tensor with the model's raw outputs, (B, D) float32, columns in the calibration's order.
        calibration: D maps.

    Returns:
        The files written. The outputs are `raw`, as given, and `scores`: (B, D) float32 in [0, 10].
    """
    shape = ("batch", len(calibration.maps))
    scores = add_calibration(g, raw, calibration)
    return g.save(inputs, [(raw, Port("raw", np.float32, shape)), (scores, Port("scores", np.float32, shape))])
