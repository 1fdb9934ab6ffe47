"""From token states to one vector per text."""

from onnx import TensorProto

from distillery_exporter.graphs.builder import GraphBuilder

_SMALLEST_NORM = 1e-12


def mean_weights(g: GraphBuilder, mask: str) -> str:
    """Each token's share in a masked mean: (B, T) float32 from a mask (B, T) int64; all 0 where the mask is."""
    real = g.op("Cast", [mask], to=TensorProto.FLOAT)
    count = g.op("ReduceSum", [real, g.ints(1)], keepdims=1)
    return g.op("Div", [real, g.op("Max", [count, g.floats(1)])])


def weighted_sum(g: GraphBuilder, weights: str, states: str) -> str:
    """(B, H) float32 from weights (B, T) and states (B, T, H), both float32."""
    row = g.op("Unsqueeze", [weights, g.ints(1)])
    return g.op("Squeeze", [g.op("MatMul", [row, states]), g.ints(1)])


def l2_normalise(g: GraphBuilder, vectors: str) -> str:
    """Vectors (B, H) float32 divided by their length; one of zeros stays as it is."""
    norm = g.op("ReduceL2", [vectors, g.ints(1)], keepdims=1)
    return g.op("Div", [vectors, g.op("Max", [norm, g.floats(_SMALLEST_NORM)])])
