"""How fast this machine multiplies matrices, measured through onnxruntime: what a model's speed is compared with.

The graphs are written here by hand, for the runtime does not depend on the `onnx` package: a model of one MatMul is a
few small protobuf messages (https://protobuf.dev/programming-guides/encoding/, field numbers from onnx.proto).
"""

import math
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from distillery_runtime.format.variants import Device
from distillery_runtime.models.session import session_options

Kind = Literal["fp32", "int8", "fp16"]
Array = NDArray[Any]  # Any: floats or integers, by kind

IR_VERSION = 8
OPSET = 17
ELEMENT = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "float16": 10}  # TensorProto.DataType
INPUT = {"fp32": "float32", "int8": "uint8", "fp16": "float16"}
OUTPUT = {"fp32": "float32", "int8": "int32", "fp16": "float16"}
# Rows, inner and columns: on a CPU about a long article in a wide layer, on a GPU enough to fill it.
CPU_SHAPE = (512, 1024, 2048)
GPU_SHAPE = (4096, 4096, 4096)


class Gemm:
    """One product of random matrices, in a session like those of the models, ready to be run again and again.

    `operations`: what one run computes, 2 for each multiply-add.
    """

    def __init__(self, kind: Kind, provider: Device, threads: int | None) -> None:
        shape = CPU_SHAPE if provider == "cpu" else GPU_SHAPE
        activations, weights = operands(kind, shape)
        self.operations = 2 * math.prod(shape)
        places = ["CUDAExecutionProvider"] if provider == "cuda" else ["CPUExecutionProvider"]
        self._session = ort.InferenceSession(gemm_model(kind, weights), session_options(threads), providers=places)
        # Bound to the device, so that no run copies a matrix.
        self._product = ort.OrtValue.ortvalue_from_shape_and_type((shape[0], shape[2]), OUTPUT[kind], provider, 0)
        self._binding = self._session.io_binding()
        self._activations = activations  # bound without a copy; onnxruntime 1.23 does not keep them alive
        self._binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(activations, provider, 0))
        self._binding.bind_ortvalue_output("y", self._product)

    def run(self) -> None:
        """Multiplies once."""
        self._session.run_with_iobinding(self._binding)

    def product(self) -> Array:
        """The product that the last run gave: (rows, columns)."""
        return self._product.numpy()  # type: ignore[no-any-return]


def operands(kind: Kind, shape: tuple[int, int, int]) -> tuple[Array, Array]:
    """Random activations (rows, inner) and weights (inner, columns) of a kind.

    fp32 and fp16: standard normal. int8: activations uint8, weights int8 of 7 bits (8 would saturate AVX2's products).
    """
    rows, inner, columns = shape
    generator = np.random.default_rng(0)
    if kind == "int8":
        activations = generator.integers(0, 256, (rows, inner), dtype=np.uint8)
        return activations, generator.integers(-63, 64, (inner, columns), dtype=np.int8)
    activations = generator.standard_normal((rows, inner), dtype=np.float32).astype(INPUT[kind])
    return activations, generator.standard_normal((inner, columns), dtype=np.float32).astype(INPUT[kind])


def gemm_model(kind: Kind, weights: Array) -> bytes:
    """A serialised ONNX model `y = x @ w`: MatMul of floats, or MatMulInteger of uint8 x int8 into int32.

    Args:
        weights: (inner, columns), held by the model as real weights are, so that onnxruntime may pack them.
    """
    inner, columns = weights.shape
    operator = b"MatMulInteger" if kind == "int8" else b"MatMul"
    node = _field(1, b"x") + _field(1, b"w") + _field(2, b"y") + _field(4, operator)
    tensor = _field(1, inner) + _field(1, columns) + _field(2, ELEMENT[weights.dtype.name])
    tensor += _field(8, b"w") + _field(9, np.ascontiguousarray(weights).tobytes())
    graph = _field(1, node) + _field(2, b"gemm") + _field(5, tensor)
    graph += _field(11, _port(b"x", INPUT[kind], inner)) + _field(12, _port(b"y", OUTPUT[kind], columns))
    return _field(1, IR_VERSION) + _field(7, graph) + _field(8, _field(2, OPSET))


def _port(name: bytes, dtype: str, width: int) -> bytes:
    """A ValueInfoProto of any number of rows."""
    shape = _field(1, _field(2, b"rows")) + _field(1, _field(1, width))
    return _field(1, name) + _field(2, _field(1, _field(1, ELEMENT[dtype]) + _field(2, shape)))


def _field(number: int, value: int | bytes) -> bytes:
    """One protobuf field: a varint, or bytes with their length before them."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
