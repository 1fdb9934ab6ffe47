"""How the products of a graph are computed: in fp32, in half precision, in int8 with a scale per row, or from 4 bits.

A builder hands the rows of a product's input to `rows`, once for all products that read them, and each weight matrix to
`products`. What comes back is exact up to one positive factor for each row, which `scaled` multiplies in: before a norm
too, whose epsilon would weigh otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from distillery_exporter.graphs.builder import GraphBuilder
from distillery_exporter.graphs.gptq import Weights, round_weights
from distillery_exporter.graphs.ports import IDS

_INT8_LIMIT = 127
_ZERO_POINT = 128
_GELU_ZERO_POINT = 16  # a GELU gives -0.17 at least: half the steps that 128 would leave to it were never used
_AT_ONCE = 4096  # rows of a table that are rounded together: all at once would be in memory several times
_SMALLEST_ROW = 1e-10
BLOCK = 32


@dataclass(frozen=True, slots=True)
class Rows:
    """The input of products: the tensor that they read, and each row's factor, (B, T, 1) float32, if it has one.

    `zero`: which integer stands for 0, where they are integers.
    """

    tensor: str
    factor: str | None = None
    zero: int = _ZERO_POINT


class Precision(Protocol):
    """One way to store weights and compute products. States are (B, T, H) in `dtype`.

    `fused`: one operator may compute several products and what lies between them, and no other method is asked there.
    """

    dtype: type[np.generic]
    fused: bool

    def embed(self, g: GraphBuilder, table: Weights, ids: str = IDS) -> str:
        """The rows of a table (V, H) for the graph's token ids, (B, T, H), or for other ids."""

    def rows(self, g: GraphBuilder, site: str, states: str, width: int, after_gelu: bool = False) -> Rows:
        """Makes states (B, T, width) ready for products; `site` names the place in the model."""

    def products(self, g: GraphBuilder, site: str, rows: Rows, weights: Sequence[Weights]) -> list[str]:
        """Products with weights (N, K) each: (B, T, N), each row up to its factor."""

    def watch(self, g: GraphBuilder, site: str, states: str) -> None:
        """Takes note of states that are not the input of a product."""


def lowest(dtype: type[np.generic]) -> float:
    """The lowest finite number of a float type: what is added to hide a token from attention."""
    return float(ml_dtypes.finfo(dtype).min)  # type: ignore[no-untyped-call]  # ml_dtypes leaves it without types


def scaled(g: GraphBuilder, product: str, rows: Rows) -> str:
    """A product with its rows' factors multiplied in."""
    return product if rows.factor is None else g.op("Mul", [product, rows.factor])


def joined(g: GraphBuilder, first: Rows, then: Rows) -> Rows:
    """The rows of a product whose input was made from a product that was never scaled: both factors, as one."""
    factors = [rows.factor for rows in (first, then) if rows.factor is not None]
    return replace(then, factor=g.op("Mul", factors) if len(factors) == 2 else next(iter(factors), None))


class Plain:
    """Products in the precision that the weights are stored in: one for all weights that read the same rows."""

    def __init__(self, dtype: type[np.generic] = np.float32, fused: bool = True) -> None:
        self.dtype = dtype
        self.fused = fused

    def embed(self, g: GraphBuilder, table: Weights, ids: str = IDS) -> str:
        """As in `Precision`."""
        return g.op("Gather", [g.init(table.astype(self.dtype, copy=False)), ids])

    def rows(self, g: GraphBuilder, site: str, states: str, width: int, after_gelu: bool = False) -> Rows:
        """As in `Precision`."""
        del g, site, width, after_gelu
        return Rows(states)

    def products(self, g: GraphBuilder, site: str, rows: Rows, weights: Sequence[Weights]) -> list[str]:
        """As in `Precision`."""
        del site
        packed = np.concatenate(weights).T if len(weights) > 1 else weights[0].T
        product = g.op("MatMul", [rows.tensor, g.init(packed.astype(self.dtype, copy=False))])
        if len(weights) == 1:
            return [product]
        sizes = g.ints(*(len(weight) for weight in weights))
        return g.multi("Split", [product, sizes], ["part"] * len(weights), axis=-1)

    def watch(self, g: GraphBuilder, site: str, states: str) -> None:
        """Does nothing."""


# What went into a site's products, as `watching.Grams` measures it; builders come to a model's sites in order.
GramsOf = Callable[[str], Weights]


class RowInt8:
    """uint8 rows, each with a scale of its own, times int8 weights, with a scale for each output column.

    A text's answer does not depend on its batch, as no scale is shared between rows. Rows are symmetric around 128, or
    after a GELU lie from 16 units below zero to 239 above.

    Args:
        grams: for a site the products of its input's channels; without them weights are rounded to the nearest.
    """

    dtype: type[np.generic] = np.float32
    fused = False

    def __init__(self, grams: GramsOf | None = None) -> None:
        self._grams = grams
        self._shapes: dict[int, str] = {}

    def embed(self, g: GraphBuilder, table: Weights, ids: str = IDS) -> str:
        """As in `Precision`, from a table of int8 rows with a scale each."""
        values, scales = quantise_rows(table, _INT8_LIMIT)
        row = g.op("Cast", [g.op("Gather", [g.init(values), ids])], to=TensorProto.FLOAT)
        return g.op("Mul", [row, g.op("Gather", [g.init(scales), ids])])

    def rows(self, g: GraphBuilder, site: str, states: str, width: int, after_gelu: bool = False) -> Rows:
        """As in `Precision`; the tensor is (B * T, width) uint8."""
        del site
        zero_point = _GELU_ZERO_POINT if after_gelu else _ZERO_POINT
        flat = g.op("Reshape", [states, g.ints(-1, width)])
        # Two reductions read the rows once each; the maximum of magnitudes wrote them again first (4 % of a Gemma).
        top, bottom = (g.op(kind, [flat, g.ints(1)], keepdims=0) for kind in ("ReduceMax", "ReduceMin"))
        if after_gelu:
            above, below = g.floats(1 / (255 - zero_point)), g.floats(-1 / zero_point)
            step = g.op("Max", [g.op("Mul", [top, above]), g.op("Mul", [bottom, below])])
            scale = g.op("Max", [step, g.floats(_SMALLEST_ROW)])
        else:
            largest = g.op("Max", [top, g.op("Neg", [bottom])])
            scale = g.op("Mul", [g.op("Max", [largest, g.floats(_SMALLEST_ROW)]), g.floats(1 / _INT8_LIMIT)])
        zero = g.op("Expand", [g.const(np.array([zero_point], dtype=np.uint8)), g.op("Shape", [scale])])
        values = g.op("QuantizeLinear", [flat, scale, zero], axis=0)
        return Rows(values, g.op("Reshape", [scale, self._states(g, 1)]), zero_point)

    def products(self, g: GraphBuilder, site: str, rows: Rows, weights: Sequence[Weights]) -> list[str]:
        """As in `Precision`, a product for each: splitting a packed one costs more than it gains."""
        weight = np.concatenate(weights)
        values, scales = quantise_rows(weight, _INT8_LIMIT)
        if self._grams:
            values = round_weights(weight, self._grams(site), scales, -_INT8_LIMIT, _INT8_LIMIT)
        ends = np.cumsum([len(part) for part in weights])[:-1]
        parts = zip(np.split(values, ends), np.split(scales, ends), strict=True)
        return [self._product(g, rows, integers, scale) for integers, scale in parts]

    def _product(self, g: GraphBuilder, rows: Rows, values: NDArray[np.int8], scales: Weights) -> str:
        # Each weight has a zero point of its own: onnxruntime cannot make it unsigned without (see `session_options`).
        zeros = g.const(np.array([rows.zero], dtype=np.uint8)), g.init(np.array([0], dtype=np.int8))
        inputs = [rows.tensor, g.init(values.T), g.floats(1), g.init(scales[:, 0]), *zeros]
        return g.op("Reshape", [g.ms("MatMulIntegerToFloat", inputs), self._states(g, len(values))])

    def _states(self, g: GraphBuilder, width: int) -> str:
        """The shape (B, -1, width), with which a matrix of all rows becomes states again."""
        if width not in self._shapes:
            batch = g.op("Shape", [IDS], start=0, end=1)
            self._shapes[width] = g.op("Concat", [batch, g.ints(-1, width)], axis=0)
        return self._shapes[width]

    def watch(self, g: GraphBuilder, site: str, states: str) -> None:
        """Does nothing."""


class Int4:
    """fp32 rows times weights of 4 bits in blocks of 32 with a scale each: small, no faster than fp32.

    Args:
        grams: as for `RowInt8`.
    """

    dtype: type[np.generic] = np.float32
    fused = False

    def __init__(self, grams: GramsOf | None = None) -> None:
        self._grams = grams

    def embed(self, g: GraphBuilder, table: Weights, ids: str = IDS) -> str:
        """As in `Precision`, from a table of int8 rows with a scale each: 4 bits move scores too far."""
        return RowInt8().embed(g, table, ids)

    def rows(self, g: GraphBuilder, site: str, states: str, width: int, after_gelu: bool = False) -> Rows:
        """As in `Precision`."""
        del g, site, width, after_gelu
        return Rows(states)

    def products(self, g: GraphBuilder, site: str, rows: Rows, weights: Sequence[Weights]) -> list[str]:
        """As in `Precision`."""
        return [self._product(g, site, rows, weight) for weight in weights]

    def _product(self, g: GraphBuilder, site: str, rows: Rows, weight: Weights) -> str:
        size, width = weight.shape
        blocks, scales = quantise_blocks(weight, self._grams(site) if self._grams else None)
        options = {"K": width, "N": size, "bits": 4, "block_size": BLOCK, "accuracy_level": 1}
        return g.ms("MatMulNBits", [rows.tensor, g.init(blocks), g.init(scales)], **options)

    def watch(self, g: GraphBuilder, site: str, states: str) -> None:
        """Does nothing."""


def quantise_rows(array: Weights, limit: int) -> tuple[NDArray[np.int8], Weights]:
    """Rounds each row to integers of at most `limit` in magnitude.

    Args:
        array: (N, K) float32.
        limit: the integer that a row's largest magnitude becomes, at most 127.

    Returns:
        values: (N, K) int8, and scales: (N, 1) float32, positive; `values * scales` is near `array`.
    """
    scales = np.maximum(array.max(axis=1, keepdims=True), -array.min(axis=1, keepdims=True)) / np.float32(limit)
    scales[scales == 0] = 1
    values = np.empty(array.shape, dtype=np.int8)
    for start in range(0, len(array), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        values[part] = np.rint(array[part] / scales[part])
    return values, scales


def quantise_blocks(weight: Weights, grams: Weights | None = None) -> tuple[NDArray[np.uint8], Weights]:
    """Rounds blocks of 32 along K to 4 bits, symmetric, the value of largest magnitude becoming -8.

    Args:
        weight: (N, K) float32, K any size.
        grams: the products of the input's channels, as for `round_weights`; without them, to the nearest.

    Returns:
        (N, blocks, 16) uint8, two values a byte, the first in the low bits, 8 standing for 0; and scales: (N * blocks,)
        float32, of either sign. This is what onnxruntime's MatMulNBits reads.
    """
    size, width = weight.shape
    count = -(-width // BLOCK)
    padded = np.zeros((size, count * BLOCK), dtype=np.float32)
    padded[:, :width] = weight
    blocks = padded.reshape(size, count, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
    scales = np.asarray(largest / np.float32(-8), dtype=np.float32)
    scales[scales == 0] = 1
    values = np.rint(blocks / scales)
    if grams is not None:
        steps = np.repeat(scales[..., 0], BLOCK, axis=1)[:, :width]
        values = np.zeros_like(padded)
        values[:, :width] = round_weights(weight, grams, steps, -8, 7)
        values = values.reshape(blocks.shape)
    nibbles = (np.clip(values, -8, 7) + 8).astype(np.uint8)
    packed = np.bitwise_or(nibbles[..., 0::2], nibbles[..., 1::2] << 4, dtype=np.uint8)
    return packed, scales.reshape(-1)
