"""The encoder backend: a BERT-like model, fine-tuned whole, with a linear head on its pooled state."""

import tempfile
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec import EncoderSettings, Window
from distillery_runtime.window import TokenWindow
from distillery_trainer.adapters import check_pairs
from distillery_trainer.backends.fitting import check_reload, prepare, proof_texts
from distillery_trainer.backends.protocol import FitData, Progress, Student
from distillery_trainer.backends.records import EncoderRecord
from distillery_trainer.tensor_files import read_tensors, write_tensors
from distillery_trainer.torch_loading import load_encoder, quiet
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
    start = prepare(settings.base_model, settings.revision, window, settings.prefix, data, folder, settings)
    torch.manual_seed(seed)
    encoder = load_encoder(Path(start.base.folder))
    head = _new_head(encoder, torch.from_numpy(data.train_labels).mean(dim=0))
    model = PooledRegressor(encoder, head, settings.pooling)
    train(model, start.rows, settings.training, settings.loss, seed, folder, progress, start.lineage)
    expected = TorchStudent(start.window, model, start.dimensions).predict(proof_texts(data))
    _save(model, folder)
    EncoderRecord(prefix=settings.prefix, pooling=settings.pooling).write(folder / _RECORD)
    del model, encoder, head  # the reloaded one takes as much memory
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
    tokens = TokenWindow(folder / "tokenizer.json", window, record.prefix)
    return TorchStudent(tokens, PooledRegressor(encoder, head, record.pooling), head.out_features)


class PooledRegressor(nn.Module):
    """An encoder's token states, pooled and scored by a linear head."""

    def __init__(self, encoder: PreTrainedModel, head: nn.Linear, pooling: Literal["mean", "cls"]) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.pooling = pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """From input_ids and attention_mask, (B, T) int64, to (B, D) float32."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return score_in_float32(self.head, pool(states, attention_mask, self.pooling))


@torch.no_grad()
def _new_head(encoder: PreTrainedModel, label_means: Tensor) -> nn.Linear:
    """A head whose bias is the labels' mean, so that training starts near the best constant answer."""
    head = nn.Linear(int(encoder.config.hidden_size), len(label_means))
    head.weight.normal_(std=HEAD_DEVIATION)
    head.bias.copy_(label_means)
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
