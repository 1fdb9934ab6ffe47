"""A run's models, each with the forms that it can be written in: its graph in fp32, int8, 4 bits or half precision."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file

from distillery_exporter.graphs.bert import Pooling, build_bert_encoder, build_bert_regressor
from distillery_exporter.graphs.checkpoint import Checkpoint, MergedCheckpoint, Weights, WeightSource
from distillery_exporter.graphs.gemma import build_gemma_regressor
from distillery_exporter.graphs.gemma_settings import GemmaSettings
from distillery_exporter.graphs.maxima import gemma_maxima, residual_scale
from distillery_exporter.graphs.precision import Int4, Plain, Precision, RowInt8
from distillery_exporter.graphs.settings import read_settings
from distillery_exporter.graphs.smoothing import SmoothedGemma
from distillery_exporter.graphs.static import build_static_encoder, build_static_student
from distillery_exporter.graphs.traced import (
    build_traced_decoder_regressor,
    build_traced_encoder,
    build_traced_encoder_regressor,
    is_hand_written,
)
from distillery_exporter.graphs.work import bert_work, gemma_work
from distillery_runtime.bench_figures import Work
from distillery_runtime.calibration import Calibration
from distillery_runtime.spec import FilterSpec
from distillery_runtime.variants import REFERENCE
from distillery_runtime.window import TokenIds
from distillery_trainer.backends.choose import Embedder
from distillery_trainer.backends.records import BaseRecord, EncoderRecord, base_folder
from distillery_trainer.heads import load_head
from distillery_trainer.static_embedder import StaticEmbedder

PRECISIONS: Mapping[str, Callable[[], Precision]] = {
    "cpu-fp32": Plain,
    "cpu-int8": RowInt8,
    "cpu-int4": Int4,
    "cuda-fp16": partial(Plain, np.float16),
    "cuda-bf16": partial(Plain, ml_dtypes.bfloat16),
}
# Of float16's range (65,504) the residual stream may use a fourth, which leaves room for texts that were not measured.
RESIDUAL_LIMIT = 16_384.0

Rows = Callable[[], Sequence[TokenIds]]


class Model(Protocol):
    """One model, from token ids to a pooled state or to scores."""

    @property
    def forms(self) -> tuple[str, ...]:
        """The variants that it can be written as."""

    @property
    def work(self) -> Work | None:
        """Its multiply-adds, where they are known."""

    def write(self, path: Path, variant: str, calibration: Calibration) -> None:
        """Writes its graph as one of its forms. A graph that ends in a pooled state has no use for the calibration."""


@dataclass(frozen=True, slots=True)
class Direct:
    """A model that a builder writes in any form: it needs to know the precision, and nothing of the texts."""

    build: Callable[[Path, Precision, Calibration], object]
    work: Work | None
    forms: tuple[str, ...] = tuple(PRECISIONS)

    def write(self, path: Path, variant: str, calibration: Calibration) -> None:
        """As in `Model`."""
        self.build(path, PRECISIONS[variant](), calibration)


@dataclass(frozen=True)
class Gemma:
    """A Gemma-3 student. Texts are run through it, once, when a form needs to know how large its activations are."""

    source: WeightSource
    dimensions: int
    max_tokens: int
    rows: Rows
    work_folder: Path
    forms: tuple[str, ...] = tuple(PRECISIONS)

    @property
    def work(self) -> Work:
        """As in `Model`."""
        return gemma_work(self.source.config, self.source.where)

    def write(self, path: Path, variant: str, calibration: Calibration) -> None:
        """As in `Model`."""
        source, scale = self.source, 1.0
        if variant == "cpu-int8":
            settings = read_settings(GemmaSettings, source.config, source.where / "config.json")
            source = SmoothedGemma(source, settings, self._maxima)
        elif variant == "cuda-fp16":
            scale = residual_scale(self._maxima, RESIDUAL_LIMIT)
        precision = PRECISIONS[variant]()
        build_gemma_regressor(path, source, self.dimensions, calibration, self.max_tokens, precision, scale)

    @cached_property
    def _maxima(self) -> dict[str, Weights]:
        return gemma_maxima(self.source, self.dimensions, self.max_tokens, self.rows(), self.work_folder)


def probe_encoder(embedder: Embedder, pooling: Pooling) -> Model:
    """The probe's encoder, from token ids to a pooled state of length 1."""
    if isinstance(embedder, StaticEmbedder):
        table, scale = embedder.table, embedder.scale
        return Direct(lambda path, _p, _c: build_static_encoder(path, table, scale), None, (REFERENCE.name,))
    checkpoint = Checkpoint(embedder.folder)
    if not is_hand_written(checkpoint.config):
        traced = partial(build_traced_encoder, checkpoint=checkpoint, pooling=pooling, normalise=True)
        return Direct(lambda path, _p, _c: traced(path), None, (REFERENCE.name,))
    write = partial(build_bert_encoder, checkpoint=checkpoint, pooling=pooling, normalise=True)
    return Direct(lambda path, precision, _c: write(path, precision=precision), _bert_work(checkpoint))


def student(spec: FilterSpec, source: Path, rows: Rows, work_folder: Path) -> Model:
    """A fitted student, from token ids to scores.

    Args:
        spec: the filter.
        source: the run's folder of the student.
        rows: gives the token ids of some texts that it was trained on.
        work_folder: where a temporary graph of the model's size may be written.
    """
    if spec.student.backend == "static":
        return _static(source)
    return _encoder(source) if spec.student.backend == "encoder" else _decoder(spec, source, rows, work_folder)


def _static(source: Path) -> Model:
    table, head = load_file(source / "table.safetensors"), load_head(source / "head.safetensors")
    values = (table["table"], table["scale"], head.mean, head.scale, head.layers)
    return Direct(lambda path, _p, maps: build_static_student(path, *values, maps), None, (REFERENCE.name,))


def _encoder(source: Path) -> Model:
    head = load_file(source / "head.safetensors")
    checkpoint, pooling = Checkpoint(source), EncoderRecord.read(source / "encoder.json").pooling
    values = (checkpoint, pooling, head["weight"], head["bias"])
    if not is_hand_written(checkpoint.config):
        return Direct(lambda p, _p, maps: build_traced_encoder_regressor(p, *values, maps), None, (REFERENCE.name,))
    return Direct(lambda p, precision, maps: build_bert_regressor(p, *values, maps, precision), _bert_work(checkpoint))


def _decoder(spec: FilterSpec, source: Path, rows: Rows, work_folder: Path) -> Model:
    base = Checkpoint(base_folder(BaseRecord.read(source / "base.json")))
    merged, dimensions, most = MergedCheckpoint(base, source), len(spec.dimensions), spec.student.window.max_tokens
    if is_hand_written(base.config):
        return Gemma(merged, dimensions, most, rows, work_folder)
    traced = build_traced_decoder_regressor
    return Direct(lambda path, _p, maps: traced(path, merged, dimensions, maps, most), None, (REFERENCE.name,))


def _bert_work(checkpoint: Checkpoint) -> Work:
    return bert_work(checkpoint.config, checkpoint.where)
