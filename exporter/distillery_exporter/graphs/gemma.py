"""Gemma-3 text models with a linear head on the last real token, as ONNX graphs.

Exact shortcuts: the embedding's scale is in its table and the attention's in the query norm; products of the same rows
are packed, or quantise them once; queries attend in chunks; the last layer computes the pooled token alone.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from distillery_exporter.graphs.attention import Askers, GroupedAttention, Sight, rope_tables
from distillery_exporter.graphs.builder import MICROSOFT, GraphBuilder
from distillery_exporter.graphs.head import Floats, add_linear_head
from distillery_exporter.graphs.ports import MASK, TOKEN_INPUTS, save_encoder, save_scorer
from distillery_exporter.graphs.precision import Plain, Precision, Rows, joined, scaled
from distillery_exporter.graphs.settings import GemmaSettings, LayerType, read_settings
from distillery_exporter.graphs.weights import HEAD, WeightSource
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.calibration import ReadOut

_ADD_NORM = "SkipSimplifiedLayerNormalization"


def build_gemma_regressor(
    path: Path,
    checkpoint: WeightSource,
    dimensions: int,
    read_out: ReadOut,
    max_tokens: int,
    precision: Precision | None = None,
    residual_scale: float = 1.0,
    centres: Floats | None = None,
) -> tuple[Path, ...]:
    """Writes a regressor from token ids to scores.

    Inputs: `input_ids` and `attention_mask`, (B, T) int64, padded on the right, T at most `max_tokens`. Outputs: `raw`
    (B, D) float32 and `scores` (B, D) float32 in [0, 10].

    Args:
        path: the model's file.
        checkpoint: a `gemma3_text` model with a head `score.weight` (D, H), or one with such an adapter merged; the
            head is (D * K, H) where it gives the logits of K bins for each dimension.
        dimensions: D.
        read_out: D maps of either kind.
        max_tokens: the longest input that the graph is made for; a longer one is an error when it runs.
        precision: how products are computed; fp32 by default. Norms and attention are in its `dtype`, the head in fp32.
        residual_scale: what the residual stream is divided by, a power of two; it changes no result, and keeps the
            stream of a large model within the range of float16.
        centres: (K,) the middles of the bins, or None where the head gives scores.

    Returns:
        The files written.

    Raises:
        InputError: the model is of another type, uses what is not supported, or lacks a tensor; the adapter is
            incomplete; the arguments do not fit one another or the model.
    """
    decoder = GemmaDecoder(GraphBuilder(path), checkpoint, max_tokens, precision or Plain(), residual_scale)
    if len(read_out.expected.maps) != dimensions:
        raise InputError("calibration", [Problem("maps", str(len(read_out.expected.maps)), str(dimensions))])
    raw = decoder.add(dimensions, centres)
    checkpoint.check_complete()
    return save_scorer(decoder.g, TOKEN_INPUTS, raw, read_out)


def build_gemma_encoder(
    path: Path,
    checkpoint: WeightSource,
    max_tokens: int,
    precision: Precision | None = None,
    residual_scale: float = 1.0,
) -> tuple[Path, ...]:
    """Writes a Gemma-3 text model from token ids to the last real token's state, without a head.

    Inputs, arguments, files and errors as in `build_gemma_regressor`; the checkpoint has no head. Output: `pooled`
    (B, H) float32.
    """
    decoder = GemmaDecoder(GraphBuilder(path), checkpoint, max_tokens, precision or Plain(), residual_scale)
    pooled = decoder.pooled()
    checkpoint.check_complete()
    return save_encoder(decoder.g, pooled, decoder.settings.hidden_size)


class GemmaDecoder:
    """Adds one model's nodes to a graph. States are (B, T, H); (B, 1, H) once the last layer has attended.

    Arguments and errors as in `build_gemma_regressor`.
    """

    def __init__(
        self,
        g: GraphBuilder,
        checkpoint: WeightSource,
        max_tokens: int,
        precision: Precision,
        residual_scale: float = 1.0,
    ) -> None:
        self.g = g
        self._precision = precision
        self._residual_scale = residual_scale
        self.settings = read_settings(GemmaSettings, checkpoint.config, checkpoint.where / "config.json")
        self._checkpoint = checkpoint
        limit = self.settings.max_position_embeddings
        if not 1 <= max_tokens <= limit:
            raise InputError(str(checkpoint.where), [Problem("max_tokens", str(max_tokens), f"1 to {limit}")])
        sight = Sight(g, self.settings, max_tokens, precision.dtype)
        self._last = g.op("Sub", [g.op("ReduceSum", [MASK, g.ints(1)], keepdims=1), g.ints(1)])  # (B, 1)
        self._all_ask, self._last_asks = sight.all(), sight.one(self._last)
        self._attention = GroupedAttention(g, self.settings)
        tables = {kind: rope_tables(self.settings, kind, max_tokens) for kind in sorted(set(self.settings.layers))}
        self._rope = {kind: [self._init(table) for table in pair] for kind, pair in tables.items()}

    @property
    def layers(self) -> int:
        """How many there are."""
        return self.settings.num_hidden_layers

    def add(self, dimensions: int, centres: Floats | None = None) -> str:
        """From token ids to raw outputs, (B, dimensions) float32."""
        pooled = self.pooled()
        outputs = dimensions * (1 if centres is None else len(centres))
        head = self._checkpoint.get(HEAD, (outputs, self.settings.hidden_size))
        return add_linear_head(self.g, pooled, head, np.zeros(outputs, np.float32), centres)

    def pooled(self) -> str:
        """From token ids to the last real token's state, (B, H) float32."""
        carried = self.embed()
        for index in range(self.layers):
            carried = self.layer(index, carried)
        return self.g.op("Cast", [self.g.op("Squeeze", [carried[0], self.g.ints(1)])], to=TensorProto.FLOAT)

    def embed(self) -> list[str]:
        """From token ids to the first layer's states and the residual stream that they are the norm of."""
        residual = self._embed()
        return [self._rms(residual, self._gain("model.layers.0.input_layernorm"), self._residual_eps), residual]

    def layer(self, index: int, states: Sequence[str]) -> list[str]:
        """From a layer's states and residual stream to the next one's; after the last one, the pooled token's."""
        name, last = f"model.layers.{index}", index == self.layers - 1
        attended, residual = self._attend(index, states[0], last), states[1]
        if last:
            residual = self._pick(residual)
        attended = self._branch_norm(attended, f"{name}.post_attention_layernorm")
        normed, residual = self._add_norm(attended, residual, f"{name}.pre_feedforward_layernorm")
        fed = self._branch_norm(self._feed(f"{name}.mlp", normed), f"{name}.post_feedforward_layernorm")
        following = "model.norm" if last else f"model.layers.{index + 1}.input_layernorm"
        normed, residual = self._add_norm(fed, residual, following)
        self._precision.watch(self.g, f"{name}.residual", residual)
        return [normed, residual]

    def _embed(self) -> str:
        shape = (self.settings.vocab_size, self.settings.hidden_size)
        table = self._checkpoint.get("model.embed_tokens.weight", shape)
        table *= np.float32(math.sqrt(self.settings.hidden_size) / self._residual_scale)
        return self._precision.embed(self.g, table)

    def _attend(self, index: int, states: str, last: bool) -> str:
        s, kind, name = self.settings, self.settings.layers[index], f"model.layers.{index}.self_attn"
        askers = self._last_asks if last else self._all_ask
        queries, keys, values = self._project(name, states, last)
        queries = self._head_norm(queries, f"{name}.q_norm", s.num_attention_heads, s.query_pre_attn_scalar**-0.5)
        keys = self._head_norm(keys, f"{name}.k_norm", s.num_key_value_heads)
        queries = self._turn(queries, askers, kind, s.num_attention_heads)
        keys = self._turn(keys, self._all_ask, kind, s.num_key_value_heads)
        attended = self._attention.add(queries, keys, values, askers.masks[kind], in_chunks=not last)
        site, width = f"{name}.o_proj", s.num_attention_heads * s.head_dim
        rows = self._precision.rows(self.g, site, attended, width)
        return scaled(self.g, self._products(site, rows, width, [(site, s.hidden_size)])[0], rows)

    def _project(self, name: str, states: str, last: bool) -> Sequence[str]:
        """Queries, keys and values."""
        s, g, site = self.settings, self.g, f"{name}.qkv"
        shared = s.num_key_value_heads * s.head_dim
        asking = [(f"{name}.q_proj", s.num_attention_heads * s.head_dim)]
        asked = [(f"{name}.k_proj", shared), (f"{name}.v_proj", shared)]
        rows = self._precision.rows(g, site, states, s.hidden_size)
        if last:
            picked = self._precision.rows(g, site, self._pick(states), s.hidden_size)
            queries = scaled(g, self._products(site, picked, s.hidden_size, asking)[0], picked)
            return queries, *(scaled(g, part, rows) for part in self._products(site, rows, s.hidden_size, asked))
        return [scaled(g, part, rows) for part in self._products(site, rows, s.hidden_size, asking + asked)]

    def _feed(self, name: str, states: str) -> str:
        """The feed-forward part. The factors of `up`'s rows are taken along and multiplied in at the narrow end."""
        s, g = self.settings, self.g
        names = [(f"{name}.gate_proj", s.intermediate_size), (f"{name}.up_proj", s.intermediate_size)]
        wide = self._precision.rows(g, f"{name}.gate_up", states, s.hidden_size)
        gate, up = self._products(f"{name}.gate_up", wide, s.hidden_size, names)
        inner = g.op("Mul", [g.ms("FastGelu", [scaled(g, gate, wide)]), up])
        site = f"{name}.down_proj"
        rows = self._precision.rows(g, site, inner, s.intermediate_size)
        product = self._products(site, rows, s.intermediate_size, [(site, s.hidden_size)])[0]
        return scaled(g, product, joined(g, wide, rows))

    def _products(self, site: str, rows: Rows, width: int, sizes: Sequence[tuple[str, int]]) -> list[str]:
        """The products of the same rows with several weights (size, width), each up to the rows' factors."""
        weights = [self._checkpoint.get(f"{name}.weight", (size, width)) for name, size in sizes]
        return self._precision.products(self.g, site, rows, weights)

    def _head_norm(self, states: str, name: str, heads: int, scale: float = 1.0) -> str:
        """Each head's states normalised by themselves, and multiplied by `scale`."""
        width = self.settings.head_dim
        split = self.g.op("Reshape", [states, self.g.ints(0, 0, heads, width)])
        gain = self._gain(name, width) * np.float32(scale)
        normed = self._rms(split, gain, self.settings.rms_norm_eps)
        return self.g.op("Reshape", [normed, self.g.ints(0, 0, heads * width)])

    def _turn(self, states: str, askers: Askers, kind: LayerType, heads: int) -> str:
        """Each head's states turned by their tokens' positions."""
        return self.g.ms("RotaryEmbedding", [states, askers.positions, *self._rope[kind]], num_heads=heads)

    def _pick(self, states: str) -> str:
        """The last real token's states: (B, 1, H)."""
        picked = self.g.op("GatherND", [states, self._last], batch_dims=1)
        return self.g.op("Unsqueeze", [picked, self.g.ints(1)])

    def _branch_norm(self, states: str, name: str) -> str:
        """What a branch adds to the residual stream, on the stream's scale."""
        gain = self._gain(name) / np.float32(self._residual_scale)
        return self._rms(states, gain, self.settings.rms_norm_eps)

    def _rms(self, states: str, gain: NDArray[np.float32], eps: float) -> str:
        return self.g.op("SimplifiedLayerNormalization", [states, self._init(gain)], axis=-1, epsilon=eps)

    def _add_norm(self, new: str, residual: str, name: str) -> tuple[str, str]:
        """The sum of both normalised, and the sum."""
        gain = self._init(self._gain(name))
        outputs = ("states", "", "", "residual")
        names = self.g.multi(_ADD_NORM, [new, residual, gain], outputs, MICROSOFT, epsilon=self._residual_eps)
        return names[0], names[3]

    @property
    def _residual_eps(self) -> float:
        return self.settings.rms_norm_eps / self._residual_scale**2

    def _gain(self, name: str, width: int | None = None) -> NDArray[np.float32]:
        """A norm's factor, (width,), by default (H,): Gemma stores how far it is from 1."""
        return 1 + self._checkpoint.get(f"{name}.weight", (width or self.settings.hidden_size,))

    def _init(self, array: NDArray[np.float32]) -> str:
        return self.g.init(array.astype(self._precision.dtype, copy=False))
