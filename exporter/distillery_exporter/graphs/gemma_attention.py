"""Gemma's attention in a graph: rotary tables, which token sees which, and grouped heads folded into rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distillery_exporter.graphs.builder import GraphBuilder
from distillery_exporter.graphs.gemma_settings import GemmaSettings, LayerType
from distillery_exporter.graphs.ports import IDS

# Added to the attention scores of tokens out of sight: finite, and its exponential is 0.
_HIDDEN = float(np.finfo(np.float32).min)


@dataclass(frozen=True, slots=True)
class Askers:
    """The Q tokens that ask in a layer: all of a text's, or only the pooled one.

    `positions`: their positions for the rotary operator, int64, (1,) as the first of consecutive ones, or (B, 1).
    `masks`: for each layer type what is added to their attention scores, float32, broadcast to (B, kv, Q, group, T).
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

    def __init__(self, g: GraphBuilder, settings: GemmaSettings, max_tokens: int) -> None:
        self._g = g
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
        return self._g.op("Where", [seen, self._g.floats(0), self._g.floats(_HIDDEN)])


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
        self._by_head = g.op("Concat", [g.ints(0, 0, -1, self._group), length], axis=0)
        self._by_row = g.op("Concat", [g.ints(0, 0, -1), length], axis=0)

    def add(self, queries: str, keys: str, values: str, mask: str) -> str:
        """Attends.

        Args:
            queries: (B, Q, kv * group * width) float32, already scaled.
            keys: (B, T, kv * width) float32.
            values: (B, T, kv * width) float32.
            mask: added to the scores, broadcast to (B, kv, Q, group, T).

        Returns:
            (B, Q, kv * group * width) float32.
        """
        g = self._g
        rows = self._fold(queries, self._group)
        scores = g.ms("FusedMatMul", [rows, self._fold(keys, 1)], transB=1)
        masked = g.op("Add", [g.op("Reshape", [scores, self._by_head]), mask])
        shares = g.op("Reshape", [g.op("Softmax", [masked], axis=-1), self._by_row])
        return self._unfold(g.op("MatMul", [shares, self._fold(values, 1)]))

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
