"""The models that are measured on a GPU, and their graphs: a packed student, and random weights of other shapes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import BertConfig, BertModel

from benchmarks.gpu_student import Gate, read_student
from benchmarks.parity_graphs import random_head
from benchmarks.parity_torch import TorchModel
from benchmarks.peers.graphs import WithHead
from benchmarks.peers.models import Kind
from benchmarks.peers.shapes import GemmaShape, write_random_gemma
from distillery_exporter.graphs.bert import build_bert_encoder
from distillery_exporter.graphs.gemma import build_gemma_regressor
from distillery_exporter.graphs.precision import Plain
from distillery_exporter.graphs.weights import Checkpoint
from distillery_exporter.variants.models import FLOATS
from distillery_runtime.format.variants import Device
from distillery_runtime.spec.calibration import ReadOut, identity
from distillery_runtime.tokens.window import TokenIds

MAX_TOKENS = 512
RANDOM_ROWS = 32
FIRST_WORD = 4  # below are padding and marks
# A table of the full vocabulary changes no speed, for only the rows of a text's tokens are read.
VOCABULARY = 32_768

SHAPES = {"cuda": GemmaShape(vocabulary=VOCABULARY), "cpu": GemmaShape(4, 64, 128, 4, 1, 16, 512, 512, 2)}
# multilingual-e5-small's, and a small one to try this on a CPU.
ENCODERS = {"cuda": (VOCABULARY, 384, 12, 12, 1536), "cpu": (512, 32, 2, 2, 64)}


@dataclass(frozen=True, slots=True)
class Subject:
    """One model: a checkpoint without a head, and its head (D, H), None for an encoder.

    `rows`: the texts that it is compared on. `residual_scale`: what the residual stream is divided by in float16.
    """

    name: str
    kind: Kind
    folder: Path
    head: NDArray[np.float32] | None
    rows: Sequence[TokenIds]
    residual_scale: float = 1.0
    gate: Gate | None = None

    def graph(self, form: str, work: Path) -> Path:
        """One of its forms, written unless it is there."""
        path = work / self.name / form / "model.onnx"
        if not path.exists():
            beside = path.parent.with_suffix(".part")
            beside.mkdir(parents=True, exist_ok=True)
            self._write(beside / path.name, form)
            beside.rename(path.parent)
        return path

    def _write(self, path: Path, form: str) -> None:
        precision, weights = Plain(FLOATS[form]), Checkpoint(self.folder)
        if self.head is None:
            build_bert_encoder(path, weights, "mean", normalise=True, precision=precision)
            return
        count, scale = len(self.head), self.residual_scale if form == "cuda-fp16" else 1.0
        plain = identity([f"d{i}" for i in range(count)])
        maps = ReadOut(plain, plain)
        build_gemma_regressor(path, WithHead(weights, self.head), count, maps, MAX_TOKENS, precision, scale)


def packed_student(folder: Path) -> Subject:
    """A student written by gpu_pack.py."""
    student = read_student(folder)
    if student.max_tokens != MAX_TOKENS:
        raise SystemExit(f"{folder}: a window of {student.max_tokens} tokens, expected {MAX_TOKENS}")
    return Subject(
        student.name, "decoder", student.folder, student.head, student.rows, student.residual_scale, student.gate
    )


def random_gemma(work: Path, device: Device) -> Subject:
    """The shape of Gemma-3-1B with random weights, and a head whose outputs spread like raw scores.

    Its residual stream stays small, so float16 needs no scale.
    """
    shape, name = SHAPES[device], "gemma-3-1b-shape"
    folder = work / name / "checkpoint"
    if not (folder / "model.safetensors").exists():
        write_random_gemma(folder, work / "no-tokenizer", shape)  # rows are of random tokens: none is read
    rows = random_rows(shape.vocabulary)
    head = _kept(work / name / "head.npy", lambda: _random_head(folder, rows, device))
    return Subject(name, "decoder", folder, head, rows)


def random_encoder(work: Path, device: Device) -> Subject:
    """The shape of multilingual-e5-small with random weights."""
    vocabulary, hidden, layers, heads, intermediate = ENCODERS[device]
    folder = work / "e5-small-shape" / "checkpoint"
    if not (folder / "model.safetensors").exists():
        config = BertConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=intermediate,
            max_position_embeddings=MAX_TOKENS,
        )
        BertModel(config).save_pretrained(folder)
    return Subject("e5-small-shape", "encoder", folder, None, random_rows(vocabulary))


def random_rows(vocabulary: int) -> Sequence[TokenIds]:
    """Rows of random tokens, the first of the longest length, the others of any from 16."""
    generator = np.random.default_rng(0)
    lengths = [MAX_TOKENS, *generator.integers(16, MAX_TOKENS + 1, RANDOM_ROWS - 1).tolist()]
    return [TokenIds(generator.integers(FIRST_WORD, vocabulary, length), truncated=False) for length in lengths]


def _random_head(folder: Path, rows: Sequence[TokenIds], device: Device) -> NDArray[np.float32]:
    return random_head(TorchModel(folder, "decoder", device=device).in_batches([[row] for row in rows]))


def _kept(path: Path, make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    if not path.exists():
        np.save(path, make())
    kept: NDArray[np.float32] = np.load(path)
    return kept
