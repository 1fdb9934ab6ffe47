"""A growing ONNX graph: its nodes, its weights, and the one or two files that they end up in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

OPSET = 21
IR_VERSION = 10
MICROSOFT = "com.microsoft"

# Up to this many bytes of weights the model is a single file; beyond it they move to `<model>.data`. protobuf itself
# ends at 2 GiB, and a file of its own can be mapped into memory instead of being parsed.
INLINE_BYTES = 64 << 20
# Offsets in the data file are multiples of the page size, as mapping needs.
ALIGNMENT_BYTES = 4096
SMALL_BYTES = 1024

Array = NDArray[Any]  # Any: weights, tables and shapes are of many element types
Attribute = int | float | str | Sequence[int]


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the whole graph: public name, element type, and shape (a string names a free axis)."""

    name: str
    dtype: type[np.generic]
    shape: tuple[int | str, ...]


class GraphBuilder:
    """Collects a graph node by node and writes it. The same calls give the same bytes.

    Weights are written out as they come, so that no more than one large array need be in memory.

    Args:
        path: the model's file; large weights go to `<path>.data` beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data_path = path.with_name(f"{path.name}.data")
        self._nodes: list[NodeProto] = []
        self._weights: list[TensorProto] = []
        self._inline: list[TensorProto] | None = []
        self._inline_bytes = 0
        self._data_bytes = 0
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def name(self, hint: str) -> str:
        """A name not used before in this graph."""
        self._count += 1
        return f"{hint}_{self._count}"

    def init(self, array: Array, table: str | None = None) -> str:
        """Adds a weight and gives its name. The array is copied or written at once; it may change afterwards.

        Args:
            array: of any shape and element type.
            table: the name of a small table that is to stay in the model's file, where `replace_tables` finds it.
        """
        array = np.asarray(array, order="C")
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = TensorProto(name=table or self.name("weight"), data_type=kind, dims=array.shape)
        if table or array.nbytes < SMALL_BYTES:
            tensor.raw_data = array.tobytes()
        elif self._inline is not None and self._inline_bytes + array.nbytes <= INLINE_BYTES:
            tensor.raw_data = array.tobytes()
            self._inline.append(tensor)
            self._inline_bytes += array.nbytes
        else:
            self._move_out()
            self._write_out(tensor, array)
        self._weights.append(tensor)
        return tensor.name

    def const(self, array: Array) -> str:
        """Adds a small constant, once for equal ones, and gives its name."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.init(array)
        return self._constants[key]

    def ints(self, *values: int) -> str:
        """The constant 1-D int64 tensor of these values: a shape, axes, split sizes."""
        return self.const(np.array(values, dtype=np.int64))

    def floats(self, *values: float) -> str:
        """The constant 1-D float32 tensor of these values."""
        return self.const(np.array(values, dtype=np.float32))

    def op(self, kind: str, inputs: Sequence[str], **attributes: Attribute) -> str:
        """Adds a node of ONNX's own operators with one output, and gives the output's name."""
        return self._add(kind, inputs, [kind.lower()], "", attributes)[0]

    def ms(self, kind: str, inputs: Sequence[str], **attributes: Attribute) -> str:
        """Adds a node of onnxruntime's operators with one output, and gives the output's name."""
        return self._add(kind, inputs, [kind.lower()], MICROSOFT, attributes)[0]

    def multi(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: Attribute
    ) -> list[str]:
        """Adds a node with any number of outputs.

        Args:
            kind: the operator.
            inputs: names; "" leaves an optional input out.
            outputs: a hint for each output's name; "" leaves an optional output out.
            domain: whose operator it is; "" is ONNX itself.
            **attributes: the node's attributes.

        Returns:
            The outputs' names, "" for those left out.
        """
        return self._add(kind, inputs, outputs, domain, attributes)

    def save(self, inputs: Sequence[Port], outputs: Sequence[tuple[str, Port]]) -> tuple[Path, ...]:
        """Writes the model.

        Args:
            inputs: the graph's inputs, under the names that the nodes use.
            outputs: a tensor's name in the graph and the output that it becomes, for each output.

        Returns:
            The files written: the model, and the weights' file if there is one.
        """
        for source, port in outputs:
            self._nodes.append(helper.make_node("Identity", [source], [port.name], self.name("node_Identity")))
        graph = GraphProto(
            name="distillery",
            node=self._nodes,
            initializer=self._weights,
            input=[_value_info(port) for port in inputs],
            output=[_value_info(port) for _, port in outputs],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = ModelProto(ir_version=IR_VERSION, producer_name="distillery", graph=graph, opset_import=opsets)
        self._path.write_bytes(model.SerializeToString(deterministic=True))
        return (self._path,) if self._inline is not None else (self._path, self._data_path)

    def _add(
        self, kind: str, inputs: Sequence[str], hints: Sequence[str], domain: str, attributes: Mapping[str, Attribute]
    ) -> list[str]:
        names = [self.name(hint) if hint else "" for hint in hints]
        node = helper.make_node(kind, inputs, names, self.name(f"node_{kind}"), domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self._nodes.append(node)
        return names

    def _move_out(self) -> None:
        """Moves the weights kept inline so far to a fresh data file, once."""
        if self._inline is None:
            return
        self._data_path.write_bytes(b"")
        for tensor in self._inline:
            data = np.frombuffer(tensor.raw_data, dtype=np.uint8)
            tensor.ClearField("raw_data")
            self._write_out(tensor, data)
        self._inline = None

    def _write_out(self, tensor: TensorProto, array: Array) -> None:
        padding = -self._data_bytes % ALIGNMENT_BYTES
        with self._data_path.open("ab") as stream:
            stream.write(bytes(padding))
            array.tofile(stream)
        place = {"location": self._data_path.name, "offset": self._data_bytes + padding, "length": array.nbytes}
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._data_bytes += padding + array.nbytes


def replace_tables(path: Path, tables: Mapping[str, Array]) -> None:
    """Gives tables of a written model other values of the same shape and element type; nothing else changes.

    Raises:
        ValueError: the model has no such table, or one of another shape or element type.
    """
    model = ModelProto.FromString(path.read_bytes())
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, array in tables.items():
        tensor = stored.get(name)
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        if tensor is None or (tensor.data_type, tuple(tensor.dims)) != (kind, array.shape):
            raise ValueError(f"{path.name}: no table {name} of {array.dtype} {array.shape}")
        tensor.raw_data = np.ascontiguousarray(array).tobytes()
    path.write_bytes(model.SerializeToString(deterministic=True))


def _value_info(port: Port) -> ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype))
    return helper.make_tensor_value_info(port.name, kind, port.shape)
