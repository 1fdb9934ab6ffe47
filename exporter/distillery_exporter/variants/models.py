"""A run's models, each with the forms that it can be written in: its graph in fp32, int8, 4 bits or half precision."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from distillery_exporter.graphs.attention import CHUNKS
from distillery_exporter.graphs.bert import BertEncoder, build_bert_encoder, build_bert_regressor
from distillery_exporter.graphs.builder import GraphBuilder
from distillery_exporter.graphs.gemma import GemmaDecoder, build_gemma_encoder, build_gemma_regressor
from distillery_exporter.graphs.head import DenseLayer, Floats
from distillery_exporter.graphs.precision import GramsOf, Int4, Plain, Precision, RowInt8
from distillery_exporter.graphs.settings import WEIGHTS_NAME, BertSettings, GemmaSettings, read_settings
from distillery_exporter.graphs.smoothing import SmoothedGemma
from distillery_exporter.graphs.token_table import build_static_regressor
from distillery_exporter.graphs.traced import (
    build_traced_decoder,
    build_traced_decoder_regressor,
    build_traced_encoder,
    build_traced_encoder_regressor,
    is_hand_written,
)
from distillery_exporter.graphs.watching import AddModel, Grams, InTurn, Maxima, Watcher, measure, residual_scale
from distillery_exporter.graphs.weights import HEAD, Checkpoint, MergedCheckpoint, Weights, WeightSource
from distillery_runtime.bench.figures import Work
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.format.variants import FORMS, REFERENCE
from distillery_runtime.spec.calibration import ReadOut
from distillery_runtime.spec.model import FilterSpec, ProbeSettings, Window
from distillery_runtime.tokens.window import TokenIds
from distillery_trainer.models import static
from distillery_trainer.models.adapters import normalise_keys
from distillery_trainer.models.choose import Embedder
from distillery_trainer.models.heads import Head
from distillery_trainer.models.records import BaseRecord, EncoderRecord, base_folder, read_bins
from distillery_trainer.models.sentence_models import Dense, Pooling, read_embedder

FLOATS: Mapping[str, type[np.generic]] = {
    "cpu-fp32": np.float32,
    "cuda-fp16": np.float16,
    "cuda-bf16": ml_dtypes.bfloat16,
}
# Rounded weights are fitted to their inputs.
ROUNDED: Mapping[str, Callable[[GramsOf], Precision]] = {"cpu-int8": RowInt8, "cpu-int4": Int4}
EVERY = tuple(name for name in FORMS if name in (*FLOATS, *ROUNDED))
# Of float16's range (65,504) the residual stream may use a fourth, which leaves room for texts that were not measured.
RESIDUAL_LIMIT = 16_384.0


@dataclass(frozen=True, slots=True)
class Texts:
    """Some texts that a model was trained on, and the folder for temporary graphs, each of one layer.

    `rows` gives their token ids; it is only called when a form needs them.
    """

    rows: Callable[[], Sequence[TokenIds]]
    work_folder: Path

    def measure(self, add: AddModel, watcher: Callable[[], Watcher]) -> Iterator[dict[str, Weights]]:
        """Runs the texts through a model, layer by layer."""
        return measure(add, watcher, self.rows(), self.work_folder)


@dataclass(frozen=True, slots=True)
class OutputHead:
    """What follows a pooled state: a head, and the middles of the bins whose logits it gives, or None."""

    head: Head
    centres: Floats | None = None


class Model(Protocol):
    """One model, from token ids to a pooled state or to scores."""

    @property
    def forms(self) -> tuple[str, ...]:
        """The variants that it can be written as."""

    @property
    def work(self) -> Work | None:
        """Its multiply-adds, where they are known."""

    def write(self, path: Path, variant: str, read_out: ReadOut) -> None:
        """Writes its graph as one of its forms. A graph that ends in a pooled state has no use for the read-out."""


@dataclass(frozen=True, slots=True)
class Exact:
    """A model with one form, fp32."""

    build: Callable[[Path, ReadOut], object]
    work: Work | None = None
    forms: tuple[str, ...] = (REFERENCE.name,)

    def write(self, path: Path, variant: str, read_out: ReadOut) -> None:
        """As in `Model`."""
        del variant
        self.build(path, read_out)


@dataclass(frozen=True, slots=True)
class Bert:
    """An encoder: `add` its nodes to a graph, or `build` the whole graph. `texts`: what a form is fitted to.

    `joined`: numbers of the layers whose pooled states are joined; none above them is built.
    """

    checkpoint: Checkpoint
    pooling: Pooling
    build: Callable[[Path, Precision, ReadOut], object]
    texts: Texts
    joined: Sequence[int] = ()
    forms: tuple[str, ...] = EVERY

    @property
    def work(self) -> Work:
        """As in `Model`."""
        return bert_work(self.checkpoint.config, self.checkpoint.where, max(self.joined, default=None))

    def write(self, path: Path, variant: str, read_out: ReadOut) -> None:
        """As in `Model`."""
        self.build(path, _precision(variant, self._add, self.texts), read_out)

    def _add(self, g: GraphBuilder, precision: Precision) -> BertEncoder:
        return BertEncoder(g, self.checkpoint, self.pooling, precision, self.joined)


@dataclass(frozen=True)
class Gemma:
    """A Gemma-3 model: `build` its whole graph from weights, at a residual scale. `texts`: what a form is fitted to."""

    source: WeightSource
    max_tokens: int
    build: Callable[[Path, WeightSource, Precision, float, ReadOut], object]
    texts: Texts
    forms: tuple[str, ...] = EVERY

    @property
    def work(self) -> Work:
        """As in `Model`."""
        return gemma_work(self.source.config, self.source.where)

    def write(self, path: Path, variant: str, read_out: ReadOut) -> None:
        """As in `Model`."""
        source, scale = self.source, 1.0
        if variant == "cpu-int8":
            settings = read_settings(GemmaSettings, source.config, source.where / "config.json")
            source = SmoothedGemma(source, settings, self.maxima)
        elif variant == "cuda-fp16":
            scale = residual_scale(self.maxima, RESIDUAL_LIMIT)
        self.build(path, source, _precision(variant, partial(self._add, source), self.texts), scale, read_out)

    @cached_property
    def maxima(self) -> dict[str, Weights]:
        """The largest magnitudes of its activations, by site and channel."""
        layers = self.texts.measure(partial(self._add, self.source), Maxima)
        return {site: values for layer in layers for site, values in layer.items()}

    def _add(self, source: WeightSource, g: GraphBuilder, precision: Precision) -> GemmaDecoder:
        return GemmaDecoder(g, source, self.max_tokens, precision)


def _precision(variant: str, add: AddModel, texts: Texts) -> Precision:
    """How a form's products are computed; for a rounded one the texts run through the model ahead of its writing."""
    if variant in FLOATS:
        return Plain(FLOATS[variant])
    return ROUNDED[variant](InTurn(texts.measure(add, Grams)))


def frozen_encoder(embedder: Embedder, settings: ProbeSettings, texts: Texts) -> Model:
    """An encoder as it comes: from token ids to an embedding."""
    folder = embedder.folder
    reading = read_embedder(settings.embedder, folder, settings.prefix, settings.pooling, settings.layers)
    dense = read_dense(folder, reading.dense)
    return _pooled_encoder(Checkpoint(folder), reading.pooling, reading.normalise, texts, reading.layers, dense)


def backbone(spec: FilterSpec, source: Path, texts: Texts) -> tuple[Model, OutputHead]:
    """A student in two: from token ids to a pooled state, and its head."""
    centres = read_bins(source)
    if spec.student.backend == "encoder":
        head, record = load_file(source / "head.safetensors"), EncoderRecord.read(source / "encoder.json")
        model = _pooled_encoder(Checkpoint(source), record.pooling, False, texts)
        return model, OutputHead(_linear(head["weight"], head["bias"]), centres)
    stored = load_file(source / WEIGHTS_NAME)
    weight = next(stored[key] for key, short in normalise_keys(stored).items() if short == HEAD)
    linear = _linear(weight, np.zeros(len(weight), np.float32))
    return _pooled_decoder(spec, source, texts), OutputHead(linear, centres)


def gemma_regressor(
    source: WeightSource, dimensions: int, max_tokens: int, texts: Texts, centres: Floats | None = None
) -> Gemma:
    """A Gemma-3 model with its head, from token ids to scores; arguments as in `build_gemma_regressor`."""

    def build(path: Path, weights: WeightSource, precision: Precision, scale: float, maps: ReadOut) -> object:
        return build_gemma_regressor(path, weights, dimensions, maps, max_tokens, precision, scale, centres)

    return Gemma(source, max_tokens, build, texts)


def student(spec: FilterSpec, source: Path, texts: Texts) -> Model:
    """A fitted encoder or decoder student, from token ids to scores; `source` is the run's folder of it."""
    return _encoder(source, texts) if spec.student.backend == "encoder" else _decoder(spec, source, texts)


def read_dense(folder: Path, layers: Sequence[Dense]) -> list[DenseLayer]:
    """The weights of a folder's Dense layers.

    Raises:
        InputError: a weight is missing.
    """
    found = []
    for layer in layers:
        path = folder / layer.path / "model.safetensors"
        tensors = load_file(path)
        if "linear.weight" not in tensors:
            raise InputError(str(path), [Problem("linear.weight", "no such tensor", "the weights of this layer")])
        found.append(DenseLayer(tensors["linear.weight"], tensors.get("linear.bias"), layer.activation))
    return found


def _pooled_encoder(
    checkpoint: Checkpoint,
    pooling: Pooling,
    normalise: bool,
    texts: Texts,
    layers: Sequence[int] = (),
    dense: Sequence[DenseLayer] = (),
) -> Model:
    values = (checkpoint, pooling, normalise)
    if not is_hand_written(checkpoint.config):
        return Exact(lambda path, _: build_traced_encoder(path, *values, layers, dense))

    def build(path: Path, precision: Precision, _: ReadOut) -> object:
        return build_bert_encoder(path, *values, precision, layers, dense)

    return Bert(checkpoint, pooling, build, texts, layers)


def _pooled_decoder(spec: FilterSpec, source: Path, texts: Texts) -> Model:
    base = Checkpoint(base_folder(BaseRecord.read(source / "base.json")))
    merged, most = MergedCheckpoint(base, source, with_head=False), spec.student.window.max_tokens
    if not is_hand_written(base.config):
        return Exact(lambda path, _: build_traced_decoder(path, merged, most))

    def build(path: Path, weights: WeightSource, precision: Precision, scale: float, _: ReadOut) -> object:
        return build_gemma_encoder(path, weights, most, precision, scale)

    return Gemma(merged, most, build, texts)


def _linear(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> Head:
    """A linear head on states as they are."""
    width = weight.shape[1]
    return Head(np.zeros(width, np.float32), np.ones(width, np.float32), ((weight, bias),))


def static_student(source: Path, window: Window) -> Model:
    """A static student or probe, from token ids to scores; `source` is the run's folder of it."""
    found = static.load(source, window)
    embedder, head = found.embedder, found.head
    tuned = ((embedder.table, embedder.scale), head) if embedder and head else None
    return Exact(lambda path, maps: build_static_regressor(path, found.words, maps, tuned))


def _encoder(source: Path, texts: Texts) -> Model:
    head = load_file(source / "head.safetensors")
    checkpoint, pooling = Checkpoint(source), EncoderRecord.read(source / "encoder.json").pooling
    values, centres = (checkpoint, pooling, head["weight"], head["bias"]), read_bins(source)
    if not is_hand_written(checkpoint.config):
        return Exact(lambda path, maps: build_traced_encoder_regressor(path, *values, maps, centres))
    build = build_bert_regressor
    return Bert(
        checkpoint, pooling, lambda path, precision, maps: build(path, *values, maps, precision, centres), texts
    )


def _decoder(spec: FilterSpec, source: Path, texts: Texts) -> Model:
    base = Checkpoint(base_folder(BaseRecord.read(source / "base.json")))
    merged, dimensions, most = MergedCheckpoint(base, source), len(spec.dimensions), spec.student.window.max_tokens
    centres = read_bins(source)
    if is_hand_written(base.config):
        return gemma_regressor(merged, dimensions, most, texts, centres)
    return Exact(lambda path, maps: build_traced_decoder_regressor(path, merged, dimensions, maps, most, centres))


def bert_work(config: Mapping[str, object], where: Path, layers: int | None = None) -> Work:
    """The work of a graph of `bert`, with all of its layers or the first ones."""
    s = read_settings(BertSettings, config, where / "config.json")
    count = s.num_hidden_layers if layers is None else layers
    layer = 4 * s.hidden_size**2 + 2 * s.hidden_size * s.intermediate_size
    return Work(count * layer, 2 * count * s.hidden_size)


def gemma_work(config: Mapping[str, object], where: Path) -> Work:
    """The work of a graph of `gemma`: the last layer has only keys and values to make for every token."""
    s = read_settings(GemmaSettings, config, where / "config.json")
    asking, asked = s.num_attention_heads * s.head_dim, 2 * s.num_key_value_heads * s.head_dim
    layer = s.hidden_size * (2 * asking + asked + 3 * s.intermediate_size)
    whole_layers = s.num_hidden_layers - 1
    seen = (CHUNKS + 1) / (2 * CHUNKS)  # of all pairs, by queries in causal chunks
    return Work(whole_layers * layer + s.hidden_size * asked, 2 * whole_layers * asking * seen)
