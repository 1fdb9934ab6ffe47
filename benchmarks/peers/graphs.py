"""Our graphs of a model, written by the exporter into the work folder and kept there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.models import Kind
from benchmarks.peers.texts import Texts
from distillery_exporter.graphs.bert import build_bert_encoder
from distillery_exporter.graphs.checkpoint import Checkpoint, WeightSource
from distillery_exporter.models import Bert, Gemma
from distillery_exporter.models import Texts as ModelTexts
from distillery_runtime.calibration import Calibration, identity

DIMENSIONS = 6
HEAD = "score.weight"


@dataclass(frozen=True, slots=True)
class WithHead:
    """A checkpoint with a head (D, H) of ours: a `WeightSource`."""

    source: WeightSource
    head: NDArray[np.float32]

    @property
    def where(self) -> Path:
        """As the source's."""
        return self.source.where

    @property
    def config(self) -> Mapping[str, object]:
        """As the source's."""
        return self.source.config

    def get(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The head, or a tensor of the source."""
        return self.head.copy() if name == HEAD else self.source.get(name, shape)

    def check_complete(self) -> None:
        """As the source's."""
        self.source.check_complete()


def write_head(work: Path, width: int) -> Path:
    """Writes the same random head for everyone, (D, width) float32, and gives its file."""
    path = work / "head.npy"
    rows = np.random.default_rng(0).standard_normal((DIMENSIONS, width), dtype=np.float32)
    np.save(path, rows / np.float32(np.sqrt(width)))
    return path


def our_model(folder: Path, head: NDArray[np.float32] | None, texts: ModelTexts, max_tokens: int) -> Bert | Gemma:
    """A checkpoint as the exporter writes it: a decoder with a head (D, H), or an encoder, whose head is None."""
    checkpoint = Checkpoint(folder)
    if head is not None:
        return Gemma(WithHead(checkpoint, head), len(head), max_tokens, texts)
    write = build_bert_encoder
    return Bert(checkpoint, "mean", lambda path, precision, _: write(path, checkpoint, "mean", True, precision), texts)


def plain_maps(count: int) -> Calibration:
    """A calibration of `count` dimensions that only clips."""
    return identity([f"d{i}" for i in range(count)])


def our_graph(kind: Kind, form: str, folder: Path, work: Path, texts: Texts, max_tokens: int) -> Path:
    """The graph of a checkpoint, "fp32" or "int8", written unless it is there."""
    path = work / f"ours-{form}" / "model.onnx"
    if path.exists():
        return path
    beside = work / f"ours-{form}.part"
    beside.mkdir(parents=True, exist_ok=True)
    head = np.load(work / "head.npy") if kind == "decoder" else None
    model = our_model(folder, head, ModelTexts(texts.tuning_rows, work), max_tokens)
    model.write(beside / path.name, f"cpu-{form}", plain_maps(DIMENSIONS))
    beside.rename(path.parent)
    return path
