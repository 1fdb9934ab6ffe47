"""The encoder backend: a BERT-like model, fine-tuned whole, with a linear head on its pooled state."""

import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec import EncoderSettings, Window
from distillery_runtime.window import TokenWindow
from distillery_trainer.adapters import check_pairs
from distillery_trainer.backends.fitting import check_reload, prepare, proof_texts
from distillery_trainer.backends.protocol import FitData, Progress, Student
from distillery_trainer.backends.records import EncoderRecord, read_bins
from distillery_trainer.tensor_files import read_tensors, write_tensors
from distillery_trainer.torch_bins import read_by_bins
from distillery_trainer.torch_loading import load_encoder, quiet, recompute_layers
from distillery_trainer.torch_running import TorchStudent, pool, score_in_float32
from distillery_trainer.torch_training import remove_checkpoint, train

HEAD_DEVIATION = 0.02  # of the new head's weights, as transformers starts a head

_HEAD = "head.safetensors"
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
    regressor = PooledRegressor(encoder, _new_head(encoder, start.constant), settings.pooling)
    model = read_by_bins(regressor, start.bins)
    if not train(model, start.rows, settings.training, settings.loss, seed, folder, progress, start.lineage):
        return  # this process helped another, which saves
    expected = TorchStudent(start.window, model, start.dimensions).predict(proof_texts(data))
    _save(regressor, folder)
    EncoderRecord(prefix=settings.prefix, pooling=settings.pooling).write(folder / _RECORD)
    del model, regressor, encoder  # the reloaded one takes as much memory
    check_reload(load(folder, window), proof_texts(data), expected)
    remove_checkpoint(folder)


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


@torch.no_grad()
def _new_head(encoder: PreTrainedModel, constant: NDArray[np.float32]) -> nn.Linear:
    """A head whose bias is the best constant answer, so that training starts near it."""
    head = nn.Linear(int(encoder.config.hidden_size), len(constant))
    head.weight.normal_(std=HEAD_DEVIATION)
    head.bias.copy_(torch.from_numpy(constant))
    return head


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
