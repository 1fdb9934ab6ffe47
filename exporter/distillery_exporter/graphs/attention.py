"""Gemma's attention in a graph: rotary tables, which token sees which, and grouped heads folded into rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distillery_exporter.graphs.builder import GraphBuilder
from distillery_exporter.graphs.ports import IDS
from distillery_exporter.graphs.precision import lowest
from distillery_exporter.graphs.settings import GemmaSettings, LayerType

# Queries attend in so many chunks, each to the keys up to its own end: 5/8 of the products with all keys.
CHUNKS = 4


@dataclass(frozen=True, slots=True)
class Askers:
    """The Q tokens that ask in a layer: all of a text's, or only the pooled one.

    `positions`: their positions for the rotary operator, int64, (1,) as the first of consecutive ones, or (B, 1).
    `masks`: for each layer type what is added to their attention scores, broadcast to (B, kv, Q, group, T).
    """

    positions: str
    masks: dict[LayerType, str]


def rope_tables(settings: GemmaSettings, layer_type: LayerType, max_tokens: int) -> tuple[NDArray[np.float32], ...]:
    """Cosines and sines, each (max_tokens, head_dim / 2) float32, rounded where transformers rounds."""
    theta, divisor = settings.rope(layer_type)
    exponents = np.arange(0, settings.head_dim, 2, dtype=np.float32) / np.float32(settings.head_dim)
    frequencies = np.float32(1) / np.float32(theta) ** exponents / np.float32(divisor)
    angles = np.arange(max_tokens, dtype=np.float32)[:, None] * frequencies
    return np.cos(angles), np.sin(angles)


class Sight:
    """Which tokens each token sees: itself and those before it, within the window in a sliding layer.

    Padding comes last, so that no real token sees it and no mask of it is needed.
    """

    def __init__(
        self, g: GraphBuilder, settings: GemmaSettings, max_tokens: int, dtype: type[np.generic] = np.float32
    ) -> None:
        self._g = g
        # Added to the attention scores of tokens out of sight: finite, and its exponential is 0.
        self._seen, self._hidden = (np.array([value], dtype=dtype) for value in (0, lowest(dtype)))
        self._types = set(settings.layers)
        # A window that no text outgrows is no window.
        self._window = settings.sliding_window if settings.sliding_window < max_tokens else None
        start, step = (g.const(np.array(value, dtype=np.int64)) for value in (0, 1))
        length = g.op("Squeeze", [g.op("Shape", [IDS], start=1, end=2)])
        self._tokens = g.op("Range", [start, length, step])

    def all(self) -> Askers:
        """Every token asks."""
        return self._askers(self._g.ints(0), self._g.op("Unsqueeze", [self._tokens, self._g.ints(0, 1, 3, 4)]))

    def one(self, positions: str) -> Askers:
        """One token of each text asks; `positions`: (B, 1) int64."""
        return self._askers(positions, self._g.op("Unsqueeze", [positions, self._g.ints(2, 3, 4)]))

    def _askers(self, positions: str, asking: str) -> Askers:
        """The askers at `positions`, which are `asking` in the shape (B or 1, 1, Q, 1, 1)."""
        before = self._g.op("LessOrEqual", [self._tokens, asking])
        full = self._mask(before)
        if self._window is None or "sliding_attention" not in self._types:
            return Askers(positions, dict.fromkeys(self._types, full))
        edge = self._g.op("Sub", [asking, self._g.ints(self._window)])
        near = self._g.op("And", [before, self._g.op("Greater", [self._tokens, edge])])
        return Askers(positions, {"full_attention": full, "sliding_attention": self._mask(near)})

    def _mask(self, seen: str) -> str:
        return self._g.op("Where", [seen, self._g.const(self._seen), self._g.const(self._hidden)])


class GroupedAttention:
    """Softmax attention where `group` query heads share a key-value head.

    The heads of a group are rows of one matrix product, so that keys and values are never repeated. With a single
    key-value head the fold is only another view of the same bytes.
    """

    def __init__(self, g: GraphBuilder, settings: GemmaSettings) -> None:
        self._g = g
        self._heads, self._width = settings.num_key_value_heads, settings.head_dim
        self._group = settings.num_attention_heads // settings.num_key_value_heads
        length = g.op("Shape", [IDS], start=1, end=2)
        step = g.op("Div", [g.op("Add", [length, g.ints(CHUNKS - 1)]), g.ints(CHUNKS)])
        ends = [g.op("Min", [length, g.op("Mul", [step, g.ints(i)])]) for i in range(1, CHUNKS)]
        self._ends = [g.ints(0), *ends, length]
        self._parts: dict[tuple[str, int], str] = {}

    def add(self, queries: str, keys: str, values: str, mask: str, in_chunks: bool) -> str:
        """Attends.

        Args:
            queries: (B, Q, kv * group * width), already scaled.
            keys: (B, T, kv * width).
            values: (B, T, kv * width).
            mask: added to the scores, broadcast to (B, kv, Q, group, T).
            in_chunks: whether Q is T and no token sees a later one, so that early queries need not meet late keys.

        Returns:
            (B, Q, kv * group * width).
        """
        rows, keys, values = self._fold(queries, self._group), self._fold(keys, 1), self._fold(values, 1)
        if not in_chunks:
            return self._unfold(self._attend(rows, keys, values, mask, self._ends[-1]))
        parts = [self._chunk(index, rows, keys, values, mask) for index in range(CHUNKS)]
        return self._unfold(self._g.op("Concat", parts, axis=2))

    def _chunk(self, index: int, rows: str, keys: str, values: str, mask: str) -> str:
        """One chunk of the rows with the keys and values up to its end. It may be empty, the first excepted."""
        g, start, end = self._g, self._ends[index], self._ends[index + 1]
        group, tokens = g.ints(self._group), g.ints(2)
        rows = g.op("Slice", [rows, g.op("Mul", [start, group]), g.op("Mul", [end, group]), tokens])
        if index < CHUNKS - 1:
            keys, values = (g.op("Slice", [states, g.ints(0), end, tokens]) for states in (keys, values))
        if (mask, index) not in self._parts:
            corner = g.op("Concat", [start, g.ints(0)], axis=0), g.op("Concat", [end, end], axis=0)
            self._parts[mask, index] = g.op("Slice", [mask, *corner, g.ints(2, 4)])
        return self._attend(rows, keys, values, self._parts[mask, index], end)

    def _attend(self, rows: str, keys: str, values: str, mask: str, length: str) -> str:
        """Rows (B, kv, Q * group, width) with `length` keys and values (B, kv, length, width), to the rows' shape."""
        g = self._g
        scores = g.ms("FusedMatMul", [rows, keys], transB=1)
        count = g.op("Div", [g.op("Shape", [rows], start=2, end=3), g.ints(self._group)])
        by_head = g.op("Concat", [g.ints(0, 0), count, g.ints(self._group), length], axis=0)
        masked = g.op("Add", [g.op("Reshape", [scores, by_head]), mask])
        flat = g.op("Shape", [scores])
        shares = g.op("Reshape", [g.op("Softmax", [masked], axis=-1), flat])
        return g.op("MatMul", [shares, values])

    def _fold(self, states: str, group: int) -> str:
        """(B, N, kv * group * width) to (B, kv, N * group, width)."""
        if self._heads == 1:
            return self._g.op("Reshape", [states, self._g.ints(0, 1, -1, self._width)])
        split = self._g.op("Reshape", [states, self._g.ints(0, 0, self._heads, group, self._width)])
        turned = self._g.op("Transpose", [split], perm=[0, 2, 1, 3, 4])
        return self._g.op("Reshape", [turned, self._g.ints(0, self._heads, -1, self._width)])

    def _unfold(self, rows: str) -> str:
        """(B, kv, Q * group, width) to (B, Q, kv * group * width)."""
        total = self._heads * self._group * self._width
        if self._heads == 1:
            return self._g.op("Reshape", [rows, self._g.ints(0, -1, total)])
        split = self._g.op("Reshape", [rows, self._g.ints(0, 0, -1, self._group, self._width)])
        turned = self._g.op("Transpose", [split], perm=[0, 2, 1, 3, 4])
        return self._g.op("Reshape", [turned, self._g.ints(0, 0, total)])
