"""float16 arithmetic on a CPU: a graph that computes in float32 and rounds every result through float16.

onnxruntime's CPU has few float16 kernels. Given a float16 graph it puts casts to float32 around the others and may then
drop casts between them, so that what overflows or is rounded on CUDA may be neither on a CPU: such a run proves
nothing. PyTorch on a CPU would run another graph than ours. So the written float16 graph is copied: the same nodes and
the same float16 weights, held as float32, and after each node that computes a cast to float16 and back, which rounds
and overflows to infinity. That is what a CUDA kernel does that reads float16, sums in float32 and stores float16, as
matrix products and norms do. What only a GPU can tell is whether a kernel sums in float16.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from distillery_runtime.models.session import session_options
from distillery_runtime.models.stage import INPUTS
from distillery_runtime.tokens.window import TokenIds, pad

# Nodes that only move numbers, and those whose results are no floats.
_MOVES = {"Gather", "GatherND", "Reshape", "Slice", "Split", "Concat", "Transpose", "Squeeze", "Unsqueeze", "Where"}
_NO_FLOATS = {"Shape", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "And"}


class RoundingModel:
    """A float16 graph of ours, run on the CPU with every result rounded to float16.

    Args:
        path: the float16 graph.
        copy: where its rounding copy is written.
        threads: threads of the session.
    """

    def __init__(self, path: Path, copy: Path, threads: int) -> None:
        write_rounding(path, copy)
        options = session_options(threads)
        # Fusing nodes would take roundings away.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = ort.InferenceSession(str(copy), options, providers=["CPUExecutionProvider"])

    def answers(self, rows: Sequence[TokenIds]) -> NDArray[np.float32]:
        """The raw outputs of texts padded into one batch: (B, D) float32, perhaps not finite."""
        raw: NDArray[np.float32] = self._session.run(["raw"], dict(zip(INPUTS, pad(rows), strict=True)))[0]
        return raw


def write_rounding(path: Path, copy: Path) -> None:
    """Writes the rounding copy of a float16 graph; its weights go to a file beside it."""
    model = onnx.load(str(path))
    half = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    nodes = [made for node in model.graph.node for made in _rounded(node, half)]
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save_model(model, str(copy), save_as_external_data=True, location=f"{copy.name}.data")


def _rounded(node: NodeProto, half: set[str]) -> Iterator[NodeProto]:
    """A node in float32, and the roundings of its results. Adds to `half` the names of those that were float16."""
    if node.op_type == "Cast":
        becomes_half = node.attribute[0].i == TensorProto.FLOAT16
        if becomes_half:
            node.attribute[0].i = TensorProto.FLOAT
    else:
        becomes_half = node.op_type not in _NO_FLOATS and any(name in half for name in node.input)
    results = [name for name in node.output if name] if becomes_half else []
    half.update(results)
    if node.op_type in _MOVES:
        results = []
    for index, name in enumerate(node.output):
        if name in results:
            node.output[index] = f"{name}_exact"
    yield node
    for name in results:
        yield helper.make_node("Cast", [f"{name}_exact"], [f"{name}_half"], to=TensorProto.FLOAT16)
        yield helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT)
