"""The encoder backend: a BERT-like model, fine-tuned whole, with a linear head on its pooled state."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import EncoderSettings, Window
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.models.adapters import check_pairs
from distillery_trainer.models.protocol import FitData, Progress, Student
from distillery_trainer.models.records import EncoderRecord, read_bins
from distillery_trainer.neural.batches import TrainingRows
from distillery_trainer.neural.bins import read_by_bins
from distillery_trainer.neural.fitting import (
    PROOF_TEXTS,
    FitInputs,
    check_reload,
    copy_dimensions,
    prepare,
    proof_texts,
)
from distillery_trainer.neural.loading import load_encoder, quiet, recompute_layers
from distillery_trainer.neural.running import TorchStudent, pool, ready, run_in_batches, score_in_float32
from distillery_trainer.neural.starting_head import ridge, softmax_regression
from distillery_trainer.neural.tensor_files import read_tensors, write_tensors
from distillery_trainer.neural.training import remove_checkpoint, train

_HEAD = "head.safetensors"
_START = "head-start.safetensors"
_RECORD = "encoder.json"


def fit(
    settings: EncoderSettings, window: Window, data: FitData, folder: Path, seed: int, progress: Progress | None = None
) -> None:
    """Trains a student and saves it: `model.safetensors`, `config.json`, `head.safetensors`, tokenizer and records.

    Called again after a kill, it goes on from the checkpoint in `folder`.

    Raises:
        InputError: the base model or the data is not usable.
        ProviderError: the Hub cannot be reached.
        ModelError: the training diverged, or the saved student does not answer as the trained one.
    """
    start = prepare(settings, window, settings.prefix, data, folder)
    torch.manual_seed(seed)
    encoder = load_encoder(Path(start.base.folder))
    if settings.training.recompute:
        recompute_layers(encoder)
    regressor = PooledRegressor(encoder, _new_head(encoder, start, settings, folder), settings.pooling)
    model = read_by_bins(regressor, start.bins)
    if not train(model, start.rows, settings.training, settings.loss, seed, folder, progress, start.lineage):
        return  # this process helped another, which saves
    expected = TorchStudent(start.window, model, start.dimensions).predict(proof_texts(data))
    _save(regressor, folder)
    EncoderRecord(prefix=settings.prefix, pooling=settings.pooling).write(folder / _RECORD)
    del model, regressor, encoder  # the reloaded one takes as much memory
    check_reload(load(folder, window), proof_texts(data), expected)
    remove_checkpoint(folder)
    (folder / _START).unlink(missing_ok=True)


def load(folder: Path, window: Window) -> Student:
    """Loads a student from its files; its base model is not needed.

    Raises:
        InputError: a file is missing or damaged, or lacks a weight.
    """
    record = EncoderRecord.read(folder / _RECORD)
    encoder = load_encoder(folder)
    head = _read_head(folder / _HEAD, int(encoder.config.hidden_size))
    tokens, bins = TokenWindow(folder / "tokenizer.json", window, record.prefix), read_bins(folder)
    model = read_by_bins(PooledRegressor(encoder, head, record.pooling), bins)
    return TorchStudent(tokens, model, head.out_features // (1 if bins is None else len(bins)))


def take(source: Path, folder: Path, places: Sequence[int], window: Window, texts: Sequence[str]) -> None:
    """Copies a student with the dimensions at `places` alone, in their order, and sees that it answers alike.

    Raises:
        ModelError: on some of `texts` it does not.
    """
    copy_dimensions(source, folder, _HEAD, lambda _: True, places)
    expected = load(source, window).predict(texts[:PROOF_TEXTS])[:, list(places)]
    check_reload(load(folder, window), texts[:PROOF_TEXTS], expected)


class PooledRegressor(nn.Module):
    """An encoder's token states, pooled and scored by a linear head."""

    def __init__(self, encoder: PreTrainedModel, head: nn.Linear, pooling: Literal["mean", "cls"]) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.pooling = pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """From input_ids and attention_mask, (B, T) int64, to the head's outputs, (B, outputs) float32."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return score_in_float32(self.head, pool(states, attention_mask, self.pooling))


def _new_head(encoder: PreTrainedModel, start: FitInputs, settings: EncoderSettings, folder: Path) -> nn.Linear:
    """The head that suits the encoder as it is, kept in `folder` until the training is done."""
    path = folder / _START
    if not path.exists():
        train, val = _states(encoder, start.rows, settings.pooling)
        weight, bias = (ridge if start.bins is None else softmax_regression)(train, val, start.rows)
        write_tensors(path, {"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    return _read_head(path, int(encoder.config.hidden_size))


def _states(
    encoder: PreTrainedModel, rows: TrainingRows, pooling: Literal["mean", "cls"]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The pooled states of the training and the validation articles, before any training: (N, H) each."""
    frozen: Any = ready(encoder)  # Any: a model's output has fields of its own

    def run(ids: Tensor, mask: Tensor) -> Tensor:
        return pool(frozen(input_ids=ids, attention_mask=mask).last_hidden_state, mask, pooling)

    states = run_in_batches(run, [*rows.train_ids, *rows.val_ids])
    return states[: len(rows.train_ids)], states[len(rows.train_ids) :]


def _save(model: PooledRegressor, folder: Path) -> None:
    with quiet(), tempfile.TemporaryDirectory(dir=folder, prefix=".encoder-") as beside:
        model.encoder.save_pretrained(beside)
        for path in Path(beside).iterdir():
            path.chmod(0o644)
            path.replace(folder / path.name)
    write_tensors(folder / _HEAD, {"weight": model.head.weight, "bias": model.head.bias})


def _read_head(path: Path, hidden: int) -> nn.Linear:
    tensors = read_tensors(path)
    check_pairs(set(tensors), {"weight", "bias"}, str(path))
    weight, bias = tensors["weight"], tensors["bias"]
    if weight.ndim != 2 or weight.shape[1] != hidden or bias.shape != weight.shape[:1]:
        found = f"weight {list(weight.shape)}, bias {list(bias.shape)}"
        raise InputError(str(path), [Problem("head", found, f"weight [D, {hidden}], bias [D]")])
    head = nn.Linear(hidden, len(weight))
    head.load_state_dict(tensors)
    return head
