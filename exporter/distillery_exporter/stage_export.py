"""Writing a run's two stages as ONNX graphs, each beside its tokenizer."""

import json
import shutil
from pathlib import Path

from safetensors.numpy import load_file

from distillery_exporter.graphs.bert import build_bert_encoder, build_bert_regressor
from distillery_exporter.graphs.checkpoint import Checkpoint, MergedCheckpoint
from distillery_exporter.graphs.gemma import build_gemma_regressor
from distillery_exporter.graphs.head import build_head
from distillery_exporter.graphs.static import build_static_encoder, build_static_student
from distillery_exporter.graphs.traced import (
    build_traced_decoder_regressor,
    build_traced_encoder,
    build_traced_encoder_regressor,
    is_hand_written,
)
from distillery_runtime.calibration import Calibration
from distillery_runtime.manifest import StageEntry, VariantEntry
from distillery_runtime.spec import FilterSpec
from distillery_trainer.backends.choose import STATIC, reopen_embedder
from distillery_trainer.backends.records import BaseRecord, EncoderRecord, base_folder
from distillery_trainer.heads import load_head
from distillery_trainer.static_embedder import StaticEmbedder

VARIANT = "cpu-fp32"
PROBE, STUDENT = "probe", "student"


def export_probe(
    spec: FilterSpec, run: Path, calibration: Calibration, threshold: float | None, bundle: Path
) -> StageEntry:
    """Writes `probe/`: tokenizer, encoder graph and head graph."""
    settings = spec.cascade.probe
    embedder = reopen_embedder(settings, run / PROBE)
    folder = bundle / PROBE
    folder.mkdir(parents=True)
    shutil.copyfile(embedder.folder / "tokenizer.json", folder / "tokenizer.json")
    if isinstance(embedder, StaticEmbedder):
        build_static_encoder(folder / "encoder.onnx", embedder.table, embedder.scale)
    else:
        checkpoint = Checkpoint(embedder.folder)
        write = build_bert_encoder if is_hand_written(checkpoint.config) else build_traced_encoder
        write(folder / "encoder.onnx", checkpoint, settings.pooling, normalise=True)
    head = load_head(run / PROBE / "head.safetensors")
    build_head(folder / "head.onnx", head.mean, head.scale, head.layers, calibration)
    return StageEntry(
        name=PROBE,
        tokenizer=f"{PROBE}/tokenizer.json",
        window=settings.window,
        prefix="" if settings.embedder == STATIC else settings.prefix,
        threshold=threshold,
        variants=(VariantEntry(name=VARIANT, graphs=(f"{PROBE}/encoder.onnx", f"{PROBE}/head.onnx")),),
    )


def export_student(spec: FilterSpec, run: Path, calibration: Calibration, bundle: Path) -> StageEntry:
    """Writes `student/`: tokenizer and one graph."""
    source, folder = run / STUDENT, bundle / STUDENT
    folder.mkdir(parents=True)
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
    graph = folder / f"{VARIANT}.onnx"
    _STUDENT_GRAPHS[spec.student.backend](spec, source, calibration, graph)
    encoder = spec.student.backend == "encoder"
    return StageEntry(
        name=STUDENT,
        tokenizer=f"{STUDENT}/tokenizer.json",
        window=spec.student.window,
        prefix=EncoderRecord.read(source / "encoder.json").prefix if encoder else "",
        threshold=None,
        variants=(VariantEntry(name=VARIANT, graphs=(f"{STUDENT}/{graph.name}",)),),
    )


def _static(_spec: FilterSpec, source: Path, calibration: Calibration, graph: Path) -> None:
    table, head = load_file(source / "table.safetensors"), load_head(source / "head.safetensors")
    build_static_student(graph, table["table"], table["scale"], head.mean, head.scale, head.layers, calibration)


def _encoder(_spec: FilterSpec, source: Path, calibration: Calibration, graph: Path) -> None:
    head = load_file(source / "head.safetensors")
    pooling = EncoderRecord.read(source / "encoder.json").pooling
    checkpoint = Checkpoint(source)
    write = build_bert_regressor if is_hand_written(checkpoint.config) else build_traced_encoder_regressor
    write(graph, checkpoint, pooling, head["weight"], head["bias"], calibration)


def _decoder(spec: FilterSpec, source: Path, calibration: Calibration, graph: Path) -> None:
    base = Checkpoint(base_folder(BaseRecord.read(source / "base.json")))
    merged = MergedCheckpoint(base, source)
    write = build_gemma_regressor if is_hand_written(base.config) else build_traced_decoder_regressor
    write(graph, merged, len(spec.dimensions), calibration, spec.student.window.max_tokens)


_STUDENT_GRAPHS = {"static": _static, "encoder": _encoder, "decoder": _decoder}


def published_spec(spec: FilterSpec) -> dict[str, object]:
    """The spec as a bundle shows it: a model given as a folder of this machine by its name alone."""
    data: dict[str, object] = json.loads(spec.model_dump_json())
    return {key: _without_paths(value) for key, value in data.items()}


def _without_paths(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: Path(item).name
            if key in ("base_model", "embedder") and Path(item).is_absolute()
            else _without_paths(item)
            for key, item in value.items()
        }
    return [_without_paths(item) for item in value] if isinstance(value, list) else value
