"""Another program's ONNX file taken over into a graph of ours: its nodes under our names, its weights streamed."""

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from distillery_exporter.graphs.builder import OPSET, SMALL_BYTES, GraphBuilder
from distillery_runtime.errors import InputError, Problem

_SUBGRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def add_model(g: GraphBuilder, path: Path) -> tuple[str, int]:
    """Adds the nodes of an ONNX file with one output, whose inputs must be tensors of the same names in `g`.

    The file's own names are not kept, so that the bytes of `g` depend on its nodes and weights alone. One weight at a
    time is in memory.

    Args:
        g: the graph.
        path: the file, its larger weights beside it.

    Returns:
        The output's name in `g`, and the size of its last axis.

    Raises:
        InputError: the file is of another opset, or uses operators other than ONNX's own, functions or subgraphs.
    """
    model = onnx.load(path, load_external_data=False)
    problems = list(_problems(model))
    if problems:
        raise InputError(str(path), problems)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    names = {"": "", **{port.name: port.name for port in model.graph.input}}
    for node in model.graph.node:
        for name in node.input:
            if name not in names:
                names[name] = _add_weight(g, weights[name], path.parent)
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        hints = [node.op_type.lower() if name else "" for name in node.output]
        inputs = [names[name] for name in node.input]
        while inputs and not inputs[-1]:  # onnxruntime 1.31 crashes on a LayerNormalization whose last input is empty
            inputs.pop()
        added = g.multi(node.op_type, inputs, hints, **attributes)
        names.update(zip(node.output, added, strict=True))
    (output,) = model.graph.output
    return names[output.name], output.type.tensor_type.shape.dim[-1].dim_value


def _add_weight(g: GraphBuilder, tensor: TensorProto, folder: Path) -> str:
    array = numpy_helper.to_array(tensor, str(folder))
    return g.const(array) if array.nbytes < SMALL_BYTES else g.init(array)


def _problems(model: ModelProto) -> Iterator[Problem]:
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("") != OPSET:
        yield Problem("opset_import", str(opsets.get("")), str(OPSET))
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain})
    if foreign:
        yield Problem("node", ", ".join(foreign), "ONNX's own operators")
    nested = sorted({n.op_type for n in model.graph.node if any(a.type in _SUBGRAPHS for a in n.attribute)})
    if nested:
        yield Problem("node", ", ".join(nested), "operators without a subgraph")
