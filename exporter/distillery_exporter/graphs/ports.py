"""What goes into our graphs and comes out: token ids or a pooled state in, a pooled state or scores out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import TensorProto

from distillery_exporter.graphs.builder import GraphBuilder, Port
from distillery_exporter.graphs.tables import add_read_out
from distillery_runtime.spec.calibration import ReadOut
from distillery_trainer.models.sentence_models import Pooled, Pooling, parts_of

IDS = "input_ids"
MASK = "attention_mask"
POOLED = "pooled"

# (B, T) int64, padded on the right; the mask is 1 on real tokens and 0 on padding.
TOKEN_INPUTS = (Port(IDS, np.int64, ("batch", "tokens")), Port(MASK, np.int64, ("batch", "tokens")))
_SMALLEST_NORM = 1e-12


def pooled_port(width: int) -> Port:
    """`pooled`: (B, width) float32."""
    return Port(POOLED, np.float32, ("batch", width))


def save_encoder(g: GraphBuilder, pooled: str, width: int) -> tuple[Path, ...]:
    """Writes a graph from token ids to `pooled`: (B, width) float32. Returns the files written."""
    return g.save(TOKEN_INPUTS, [(pooled, pooled_port(width))])


def save_scorer(
    g: GraphBuilder, inputs: Sequence[Port], raw: str, read_out: ReadOut, outputs: int | None = None
) -> tuple[Path, ...]:
    """Reads `raw` out and writes a graph with it and both read-outs as outputs.

    Args:
        g: the graph.
        inputs: the graph's inputs.
        raw: the tensor with the model's raw outputs, (B, D) float32, columns in the read-out's order, or (B, D + 1)
            with a find head's logit after them.
        read_out: D maps of either kind.
        outputs: columns of `raw`; None for D.

    Returns:
        The files written. The outputs are `raw`, as given, `expected` and `scores`: (B, D) float32 in [0, 10].
    """
    count = len(read_out.expected.maps)
    expected, scores = add_read_out(g, raw, read_out)
    named = (("raw", raw, outputs or count), ("expected", expected, count), ("scores", scores, count))
    return g.save(inputs, [(tensor, Port(name, np.float32, ("batch", width))) for name, tensor, width in named])


def mean_weights(g: GraphBuilder, mask: str) -> str:
    """Each token's share in a masked mean: (B, T) float32 from a mask (B, T) int64; all 0 where the mask is."""
    real = g.op("Cast", [mask], to=TensorProto.FLOAT)
    count = g.op("ReduceSum", [real, g.ints(1)], keepdims=1)
    return g.op("Div", [real, g.op("Max", [count, g.floats(1)])])


def weighted_sum(g: GraphBuilder, weights: str, states: str) -> str:
    """(B, H) float32 from weights (B, T) and states (B, T, H), both float32."""
    row = g.op("Unsqueeze", [weights, g.ints(1)])
    return g.op("Squeeze", [g.op("MatMul", [row, states]), g.ints(1)])


def pool_states(g: GraphBuilder, states: str, pooling: Pooling) -> list[str]:
    """Token states (B, T, H) float32 of padding on the right as one vector each, (B, H) float32, or two of them."""
    return [_pool(g, states, part) for part in parts_of(pooling)]


def _pool(g: GraphBuilder, states: str, pooling: Pooled) -> str:
    if pooling == "mean":
        return weighted_sum(g, mean_weights(g, MASK), states)
    if pooling == "cls":
        return g.op("Gather", [states, g.const(np.array(0))], axis=1)
    if pooling == "lasttoken":
        return last_state(g, states)
    padding = g.op("Equal", [g.op("Unsqueeze", [MASK, g.ints(2)]), g.ints(0)])
    real = g.op("Where", [padding, g.floats(float(np.finfo(np.float32).min)), states])
    return g.op("ReduceMax", [real, g.ints(1)], keepdims=0)


def last_state(g: GraphBuilder, states: str) -> str:
    """Each text's last real token's state: (B, H) from (B, T, H)."""
    last = g.op("Sub", [g.op("ReduceSum", [MASK, g.ints(1)], keepdims=1), g.ints(1)])
    return g.op("GatherND", [states, last], batch_dims=1)


def l2_normalise(g: GraphBuilder, vectors: str) -> str:
    """Vectors (B, H) float32 divided by their length; one of zeros stays as it is."""
    norm = g.op("ReduceL2", [vectors, g.ints(1)], keepdims=1)
    return g.op("Div", [vectors, g.op("Max", [norm, g.floats(_SMALLEST_NORM)])])
