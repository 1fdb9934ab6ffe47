"""BERT, RoBERTa and XLM-R encoders as ONNX graphs, alone or with a regression head.

Attention and bias + GELU are onnxruntime's fused operators: the same sums in fewer passes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from distillery_exporter.graphs.builder import GraphBuilder
from distillery_exporter.graphs.head import DenseLayer, Floats, add_linear_head, check_outputs, finish_embedding
from distillery_exporter.graphs.ports import (
    IDS,
    MASK,
    TOKEN_INPUTS,
    pool_states,
    save_encoder,
    save_scorer,
)
from distillery_exporter.graphs.precision import Plain, Precision, lowest, scaled
from distillery_exporter.graphs.settings import BertSettings, read_settings
from distillery_exporter.graphs.weights import WeightSource
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.calibration import ReadOut
from distillery_trainer.models.base_model import check_layers
from distillery_trainer.models.sentence_models import Pooling


def build_bert_encoder(
    path: Path,
    checkpoint: WeightSource,
    pooling: Pooling,
    normalise: bool,
    precision: Precision | None = None,
    layers: Sequence[int] = (),
    dense: Sequence[DenseLayer] = (),
) -> tuple[Path, ...]:
    """Writes an encoder from token ids to a pooled state.

    Inputs: `input_ids` and `attention_mask`, (B, T) int64, padded on the right, T at most what the model has positions
    for. Output: `pooled` (B, H) float32; (B, L * H) of L joined layers.

    Args:
        path: the model's file.
        checkpoint: a `bert`, `roberta` or `xlm-roberta` model.
        pooling: "mean" or "max" over the real tokens' last states, both ("mean_max"), or the first's ("cls") or the
            last's ("lasttoken").
        normalise: whether each embedding is divided by its length.
        precision: how products are computed; fp32 by default. Norms and attention are in its `dtype`.
        layers: numbers of the layers whose pooled states are joined, ascending from 1; the last one alone by default.
        dense: layers that the pooled state goes through before it is divided.

    Returns:
        The files written.

    Raises:
        InputError: the model is of another type, uses what is not supported, or lacks a layer or a tensor.
    """
    encoder = BertEncoder(GraphBuilder(path), checkpoint, pooling, precision or Plain(), layers)
    pooled, width = encoder.pooled_states(), encoder.settings.hidden_size
    return save_encoder(encoder.g, *finish_embedding(encoder.g, pooled, width, dense, normalise))


def build_bert_regressor(
    path: Path,
    checkpoint: WeightSource,
    pooling: Pooling,
    head_weight: Floats,
    head_bias: Floats,
    read_out: ReadOut,
    precision: Precision | None = None,
    centres: Floats | None = None,
) -> tuple[Path, ...]:
    """Writes an encoder with a linear head on its pooled state, which is not normalised.

    Inputs as in `build_bert_encoder`. Outputs: `raw` (B, D) float32 and `scores` (B, D) float32 in [0, 10].

    Args:
        path: the model's file.
        checkpoint: the encoder, as in `build_bert_encoder`.
        pooling: as in `build_bert_encoder`.
        head_weight: (D, H); (D * K, H) where the head gives the logits of K bins for each dimension.
        head_bias: as many as rows of `head_weight`.
        read_out: D maps of either kind.
        precision: as in `build_bert_encoder`; the head is in fp32.
        centres: (K,) the middles of the bins, or None where the head gives scores.

    Returns:
        The files written.

    Raises:
        InputError: as in `build_bert_encoder`, or the shapes of head and calibration do not fit.
    """
    check_outputs([(head_weight, head_bias)], read_out, centres)
    encoder = BertEncoder(GraphBuilder(path), checkpoint, pooling, precision or Plain())
    expected = (len(head_bias), encoder.settings.hidden_size)
    if head_weight.shape != expected:
        raise InputError("head", [Problem("weight", f"shape {head_weight.shape}", f"{expected}")])
    raw = add_linear_head(encoder.g, encoder.add(), head_weight, head_bias, centres)
    return save_scorer(encoder.g, TOKEN_INPUTS, raw, read_out)


class BertEncoder:
    """Adds one model's nodes to a graph. Names of methods' inputs and results are those of (B, T, H) states."""

    def __init__(
        self,
        g: GraphBuilder,
        checkpoint: WeightSource,
        pooling: Pooling,
        precision: Precision,
        joined_layers: Sequence[int] = (),
    ) -> None:
        self.g = g
        self._precision = precision
        # Added to the attention scores of padding: finite, so that no score is NaN, and its exponential is 0.
        self._masked = lowest(precision.dtype)
        self.settings = read_settings(BertSettings, checkpoint.config, checkpoint.where / "config.json")
        self._checkpoint = checkpoint
        self._pooling = pooling
        check_layers(str(checkpoint.where), joined_layers, self.settings.num_hidden_layers)
        self._joined = tuple(joined_layers) or (self.settings.num_hidden_layers,)
        self._mask = g.op("Cast", [MASK], to=TensorProto.INT32)

    def add(self) -> str:
        """From token ids to the last layer's pooled state, (B, H) float32."""
        (pooled,) = self.pooled_states()
        return pooled

    def pooled_states(self) -> list[str]:
        """From token ids to the pooled state of each joined layer, or its two, (B, H) float32."""
        carried, pooled = self.embed(), []
        for index in range(self.layers):
            carried = self.layer(index, carried)
            if index + 1 in self._joined:
                pooled += self._pool(carried[0], index + 1 == self.layers)
        self._checkpoint.check_complete()
        return pooled

    def _pool(self, layer: str, is_last: bool) -> list[str]:
        states = self.g.op("Cast", [layer], to=TensorProto.FLOAT)
        if self._pooling == "cls" and is_last:  # of the last layer only the first token's states were computed
            return [self.g.op("Squeeze", [states, self.g.ints(1)])]
        return pool_states(self.g, states, self._pooling)

    @property
    def layers(self) -> int:
        """How many are built: none above the last that is pooled."""
        return self._joined[-1]

    def embed(self) -> list[str]:
        """From token ids to the first layer's states."""
        s, g = self.settings, self.g
        table = self._get("embeddings.word_embeddings.weight", s.vocab_size, s.hidden_size)
        words = self._precision.embed(g, table)
        positions = self._get("embeddings.position_embeddings.weight", s.max_position_embeddings, s.hidden_size)
        # Every token is of the first type, whose row is part of its position's.
        positions += self._get("embeddings.token_type_embeddings.weight", s.type_vocab_size, s.hidden_size)[0]
        length = g.op("Squeeze", [g.op("Shape", [IDS], start=1, end=2)])
        places = g.op("Range", [g.const(np.array(0)), length, g.const(np.array(1))])
        here = self._precision.embed(g, positions[s.first_position :], places)
        scale, bias = self._norm("embeddings.LayerNorm")
        total = g.op("Add", [words, here])
        return [g.op("LayerNormalization", [total, scale, bias], axis=-1, epsilon=s.layer_norm_eps)]

    def layer(self, index: int, states: Sequence[str]) -> list[str]:
        """From a layer's states to the next one's; with pooling "cls", the last layer's are the first token's."""
        attended = self._attend(f"encoder.layer.{index}.attention.self", states[0])
        return [self._feed(index, attended, states[0])]

    def _feed(self, index: int, attended: str, states: str) -> str:
        """What follows attention in a layer."""
        s, g, name = self.settings, self.g, f"encoder.layer.{index}"
        if self._pooling == "cls" and index == self.layers - 1:
            attended, states = self._first(attended), self._first(states)
        projected, bias = self._linear(f"{name}.attention.output.dense", attended, s.hidden_size, s.hidden_size)
        states = self._add_norm(f"{name}.attention.output.LayerNorm", projected, states, bias)
        inner, bias = self._linear(f"{name}.intermediate.dense", states, s.intermediate_size, s.hidden_size)
        inner = g.ms("BiasGelu", [inner, bias])
        outer, bias = self._linear(f"{name}.output.dense", inner, s.hidden_size, s.intermediate_size, after_gelu=True)
        return self._add_norm(f"{name}.output.LayerNorm", outer, states, bias)

    def _attend(self, name: str, states: str) -> str:
        g, width, heads = self.g, self.settings.hidden_size, self.settings.num_attention_heads
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        weights = [self._get(f"{part}.weight", width, width) for part in parts]
        bias = self._init(np.concatenate([self._get(f"{part}.bias", width) for part in parts]))
        options = {"num_heads": heads, "mask_filter_value": self._masked}
        if self._precision.fused:  # one operator for products and attention
            return g.ms("Attention", [states, self._init(np.concatenate(weights).T), bias, self._mask], **options)
        rows = self._precision.rows(g, name, states, width)
        products = [scaled(g, product, rows) for product in self._precision.products(g, name, rows, weights)]
        return g.ms("MultiHeadAttention", [*products, bias, self._mask], **options)

    def _add_norm(self, name: str, new: str, states: str, bias: str) -> str:
        """The norm of the sum. On a CPU three operators beat that one: 15 ms against 49 in e5-small at 512."""
        g, norm, epsilon = self.g, self._norm(name), self.settings.layer_norm_eps
        if self._precision.dtype != np.float32:
            return g.ms("SkipLayerNormalization", [new, states, *norm, bias], epsilon=epsilon)
        total = g.op("Add", [g.op("Add", [new, bias]), states])
        return g.op("LayerNormalization", [total, *norm], axis=-1, epsilon=epsilon)

    def _first(self, states: str) -> str:
        """The first token's states alone: (B, 1, H)."""
        return self.g.op("Slice", [states, self.g.ints(0), self.g.ints(1), self.g.ints(1)])

    def _linear(self, name: str, states: str, outputs: int, inputs: int, after_gelu: bool = False) -> tuple[str, str]:
        """A product without its bias, and the bias."""
        weight = self._get(f"{name}.weight", outputs, inputs)
        rows = self._precision.rows(self.g, name, states, inputs, after_gelu)
        product = self._precision.products(self.g, name, rows, [weight])[0]
        return scaled(self.g, product, rows), self._init(self._get(f"{name}.bias", outputs))

    def _norm(self, name: str) -> tuple[str, str]:
        width = self.settings.hidden_size
        return self._init(self._get(f"{name}.weight", width)), self._init(self._get(f"{name}.bias", width))

    def _init(self, array: NDArray[np.float32]) -> str:
        return self.g.init(array.astype(self._precision.dtype, copy=False))

    def _get(self, name: str, *shape: int) -> NDArray[np.float32]:
        return self._checkpoint.get(name, shape)
