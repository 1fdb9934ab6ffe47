"""A run's two stages, each a model that is written beside its tokenizer in as many variants as are kept."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distillery_exporter.graphs.head import build_head
from distillery_exporter.graphs.tables import replace_calibration
from distillery_exporter.variants.models import (
    Model,
    OutputHead,
    Texts,
    backbone,
    frozen_encoder,
    static_student,
    student,
)
from distillery_runtime.format.manifest import ChanceEntry, StageEntry, VariantEntry
from distillery_runtime.spec.calibration import Calibration, ReadOut
from distillery_runtime.spec.model import FilterSpec, ProbeSettings, Window
from distillery_runtime.spec.routing import Routing
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.models.choose import FROZEN, STATIC, reopen_embedder
from distillery_trainer.models.heads import load_head
from distillery_trainer.models.records import EncoderRecord, read_joint

PROBE, STUDENT = "probe", "student"


@dataclass(frozen=True, slots=True)
class StageModel:
    """One stage: what the bundle says of it, its model, and the head on the model's pooled state if it has one."""

    name: str
    bundle: Path
    window: Window
    prefix: str
    routing: Routing
    model: Model
    head: OutputHead | None = None

    def write(self, variant: str, read_out: ReadOut) -> VariantEntry:
        """Writes the stage's graphs in one of its model's forms."""
        parts = ("",) if self.head is None else ("-encoder", "-head")
        graphs = tuple(f"{self.name}/{variant}{part}.onnx" for part in parts)
        self.model.write(self.bundle / graphs[0], variant, read_out)
        if self.head is not None:
            head = self.head.head
            path = self.bundle / graphs[1]
            build_head(path, head.mean, head.scale, head.layers, read_out, self.head.centres, head.find)
        return VariantEntry(name=variant, graphs=graphs)

    def recalibrate(self, variant: VariantEntry, calibration: Calibration) -> None:
        """Gives a written variant other maps to `expected`, of as many knots."""
        replace_calibration(self.bundle / variant.graphs[-1], calibration)

    def remove(self, variant: VariantEntry) -> None:
        """Deletes a written variant."""
        for graph in variant.graphs:
            for path in self.bundle.glob(f"{graph}*"):
                path.unlink()

    def entry(self, variants: Sequence[VariantEntry]) -> StageEntry:
        """The stage as the manifest has it."""
        chance = self.routing.model
        return StageEntry(
            name=self.name,
            tokenizer=f"{self.name}/tokenizer.json",
            window=self.window,
            prefix=self.prefix,
            threshold=self.routing.threshold,
            variants=tuple(variants),
            chance=ChanceEntry(weights=chance.weights, intercept=chance.intercept) if chance else None,
        )


def open_probe(spec: FilterSpec, run: Path, routing: Routing, texts: Sequence[str], bundle: Path) -> StageModel:
    """The probe of a run, its tokenizer copied to the bundle's folder; arguments as for `open_student`."""
    settings = spec.cascade.probe
    if settings.embedder == STATIC:
        return _open_static(PROBE, settings.window, run, routing, bundle)
    return _open_frozen(PROBE, settings, run, routing, texts, bundle)


def _open_static(name: str, window: Window, run: Path, routing: Routing, bundle: Path) -> StageModel:
    _copy_tokenizer(run / name, bundle / name)
    return StageModel(name, bundle, window, "", routing, static_student(run / name, window))


def _open_frozen(
    name: str, settings: ProbeSettings, run: Path, routing: Routing, texts: Sequence[str], bundle: Path
) -> StageModel:
    """A stage that is an encoder as it comes, and a head: two graphs.

    The first is the same in the bundles of all filters on this encoder, so that a panel passes an article once.
    """
    embedder = reopen_embedder(settings, run / name)
    _copy_tokenizer(embedder.folder, bundle / name)
    prefix = embedder.window.prefix
    reader = TokenWindow(bundle / name / "tokenizer.json", settings.window, prefix)
    model = frozen_encoder(embedder, settings, Texts(lambda: reader.encode(texts), bundle))
    head = OutputHead(load_head(run / name / "head.safetensors"))
    return StageModel(name, bundle, settings.window, prefix, routing, model, head)


def open_student(spec: FilterSpec, run: Path, routing: Routing, texts: Sequence[str], bundle: Path) -> StageModel:
    """The student of a run, its tokenizer copied to the bundle's folder.

    A frozen one, and one that shares its backbone with other filters' students, is written in two graphs.
    Where the first is the same in several bundles, they can share it, and a panel passes an article once.

    Args:
        spec: the filter.
        run: the run's folder.
        routing: its chance model, and no threshold.
        texts: some that it was trained on, which a variant is fitted to.
        bundle: the bundle's folder.
    """
    source, window = run / STUDENT, spec.student.window
    if spec.student.backend == FROZEN:
        return _open_frozen(STUDENT, spec.student.frozen.in_window(window), run, routing, texts, bundle)
    if spec.student.backend == STATIC:
        return _open_static(STUDENT, window, run, routing, bundle)
    _copy_tokenizer(source, bundle / STUDENT)
    prefix = EncoderRecord.read(source / "encoder.json").prefix if spec.student.backend == "encoder" else ""
    reader = TokenWindow(source / "tokenizer.json", window, prefix)
    read = Texts(lambda: reader.encode(texts), bundle)
    model, head = backbone(spec, source, read) if read_joint(source) else (student(spec, source, read), None)
    return StageModel(STUDENT, bundle, window, prefix, routing, model, head)


def _copy_tokenizer(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")


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
