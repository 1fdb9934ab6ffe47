"""The frozen student, and a probe of the same kind: a sentence encoder as it comes, and a head on its embedding."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.model import FrozenSettings, ProbeSettings, Window
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.models.choose import Embedder, open_embedder, reopen_embedder
from distillery_trainer.models.heads import Head, HeadData, fit_head, load_head, save_head
from distillery_trainer.models.joint_heads import KIND
from distillery_trainer.models.protocol import FitData, HeadPlan, Progress
from distillery_trainer.models.records import BaseRecord, FrozenRecord, base_folder, find_base
from distillery_trainer.models.sentence_models import read_embedder
from distillery_trainer.store.files import write_json

Embed = Callable[[Sequence[str], Embedder], NDArray[np.float32]]

HEAD_FILE = "head.safetensors"
_BASE, _RECORD = "base.json", "frozen.json"


class FrozenStudent:
    """A frozen encoder and its head. Its embeddings do not depend on the labels: they may be kept and given again."""

    def __init__(self, embedder: Embedder, head: Head) -> None:
        self.embedder = embedder
        self.head = head

    @property
    def window(self) -> TokenWindow:
        """What makes its token ids."""
        return self.embedder.window

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """What the head reads: (N, H) float32, rows in the order of `texts`."""
        return self.embedder.embed(texts)

    def predict(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Raw outputs: (N, D) float32, rows in the order of `texts`."""
        return self.head.predict(self.embed(texts))


def fit(
    settings: FrozenSettings,
    window: Window,
    data: FitData,
    folder: Path,
    seed: int,
    progress: Progress | None,
    embed: Embed | None = None,
) -> None:
    """Writes head, tokenizer and records into `folder`.

    Args:
        embed: gives the encoder's embeddings, (N, H) float32, which may have been kept.

    Raises:
        InputError: the encoder is not usable (see `TorchEmbedder`).
        ProviderError: torch is not installed, or the Hub cannot be reached.
    """
    embedder = fit_on(settings.in_window(window), data, folder, seed, progress, embed)
    _write_reading(settings, embedder, folder)


def write_joint(
    settings: FrozenSettings, embedder: Embedder, heads: Mapping[str, Head], folder: Path, epochs: int
) -> None:
    """Writes heads that learnt together, by name, and what `take` needs to make a student of each, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, head in heads.items():
        save_head(head, folder / f"{name}.safetensors")
    find_base(settings.embedder, settings.revision).write(folder / _BASE)
    write_json(folder / "head.json", {"val_mae": {}, **asdict(HeadPlan(KIND, 0.0, epochs))})
    _write_reading(settings, embedder, folder)


def take(source: Path, name: str, folder: Path) -> None:
    """Copies what `write_joint` wrote as a student of its own, with the head of this name."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
    shutil.copyfile(source / f"{name}.safetensors", folder / HEAD_FILE)


def _write_reading(settings: FrozenSettings, embedder: Embedder, folder: Path) -> None:
    """Writes the tokenizer, and what the config says of the embedding."""
    shutil.copyfile(embedder.folder / "tokenizer.json", folder / "tokenizer.json")
    record = FrozenRecord(prefix=settings.prefix, pooling=settings.pooling, layers=settings.layers)
    record.write(folder / _RECORD)


def prefix_of(settings: FrozenSettings, folder: Path) -> str:
    """What is put before every text of the model in `folder`, by the config or the encoder. Errors as in `load`."""
    base = base_folder(BaseRecord.read(folder / _BASE))
    return read_embedder(settings.embedder, base, settings.prefix, settings.pooling, settings.layers).prefix


def load(folder: Path, window: Window) -> FrozenStudent:
    """Reads what `fit` wrote.

    Raises:
        InputError: the encoder found is not the one recorded.
    """
    record = FrozenRecord.read(folder / _RECORD)
    settings = ProbeSettings(prefix=record.prefix, pooling=record.pooling, layers=record.layers, window=window)
    return FrozenStudent(reopen_embedder(settings, folder), load_head(folder / HEAD_FILE))


def fit_on(
    settings: ProbeSettings, data: FitData, folder: Path, seed: int, progress: Progress | None, embed: Embed | None
) -> Embedder:
    """Writes a head and which encoder it stands on into `folder`; gives the encoder. Arguments, errors as in `fit`."""
    embedder = open_embedder(settings)
    texts = [*data.train_texts, *data.val_texts]
    rows = embed(texts, embedder) if embed else embedder.embed(texts)
    train, val = rows[: len(data.train_texts)], rows[len(data.train_texts) :]
    fitted = fit_head(HeadData.of(data, train, val), settings.hidden, settings.training, seed, progress)
    folder.mkdir(parents=True, exist_ok=True)
    save_head(fitted.head, folder / HEAD_FILE)
    find_base(settings.embedder, settings.revision).write(folder / _BASE)
    write_json(folder / "head.json", {"val_mae": fitted.val_mae, **asdict(fitted.plan)})
    return embedder
