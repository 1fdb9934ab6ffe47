"""Our graphs of a model, written by the exporter into the work folder and kept there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import distillery_exporter
from benchmarks.peers.kept import digest, digest_of_code, digest_of_weights, kept
from benchmarks.peers.texts import Texts
from distillery_exporter.graphs.bert import build_bert_encoder
from distillery_exporter.graphs.weights import Checkpoint, WeightSource
from distillery_exporter.variants.models import Bert, Gemma, gemma_regressor
from distillery_exporter.variants.models import Texts as ModelTexts
from distillery_runtime.spec.calibration import ReadOut, identity

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


def write_head(folder: Path, work: Path, texts: Texts, make: Callable[[], NDArray[np.float32]]) -> Path:
    """Keeps a decoder's head (D, H) for a checkpoint and its tuning articles, made by `make`, and gives its file."""
    key = digest(digest_of_weights(folder), texts.tuning)
    return kept(work / "head", key, lambda place: np.save(place / "head.npy", make())) / "head.npy"


def our_model(folder: Path, head: NDArray[np.float32] | None, texts: ModelTexts, max_tokens: int) -> Bert | Gemma:
    """A checkpoint as the exporter writes it: a decoder with a head (D, H), or an encoder, whose head is None."""
    checkpoint = Checkpoint(folder)
    if head is not None:
        return gemma_regressor(WithHead(checkpoint, head), len(head), max_tokens, texts)
    write = build_bert_encoder
    return Bert(checkpoint, "mean", lambda path, precision, _: write(path, checkpoint, "mean", True, precision), texts)


def plain_maps(count: int) -> ReadOut:
    """A calibration of `count` dimensions that only clips."""
    maps = identity([f"d{i}" for i in range(count)])
    return ReadOut(maps, maps)


def our_graph(form: str, folder: Path, head: Path | None, work: Path, texts: Texts) -> Path:
    """The graph of a checkpoint as this exporter writes it, written unless it is there.

    Args:
        form: "fp32" or "int8".
        folder: the checkpoint.
        head: a file of (D, H) float32 rows for a decoder's last state; None for an encoder.
        work: where it is kept.
        texts: their tuning articles are what the int8 form is fitted to.
    """
    rows = np.load(head) if head else None
    exporter = Path(distillery_exporter.__file__).parent
    code = digest_of_code([exporter / "models.py", *exporter.glob("graphs/*.py")])
    key = digest(form, code, digest_of_weights(folder), None if rows is None else rows.tolist(), texts.tuning)

    def write(place: Path) -> None:
        model = our_model(folder, rows, ModelTexts(texts.tuning_rows, place), texts.longest)
        model.write(place / "model.onnx", f"cpu-{form}", plain_maps(DIMENSIONS))

    return kept(work / f"ours-{form}", key, write) / "model.onnx"
