"""The static student: a token table and a head on it. Fits in seconds, with neither torch nor a download."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec import StaticSettings, Window
from distillery_runtime.window import TokenWindow
from distillery_trainer.backends.protocol import FitData, Progress
from distillery_trainer.files import write_json
from distillery_trainer.heads import Head, HeadData, fit_head, load_head, save_head
from distillery_trainer.static_embedder import StaticEmbedder, copy_table


class StaticStudent:
    """A static embedder and its head."""

    def __init__(self, embedder: StaticEmbedder, head: Head) -> None:
        self.embedder = embedder
        self.head = head

    @property
    def window(self) -> TokenWindow:
        """What makes its token ids."""
        return self.embedder.window

    def predict(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Raw outputs: (N, D) float32, rows in the order of `texts`."""
        return self.head.predict(self.embedder.embed(texts))


def fit(
    settings: StaticSettings, window: Window, data: FitData, folder: Path, seed: int, progress: Progress | None
) -> None:
    """Fits a head on the table's embeddings and writes table, tokenizer and head into `folder`."""
    copy_table(folder)
    embedder = StaticEmbedder(window, folder)
    train, val = embedder.embed(data.train_texts), embedder.embed(data.val_texts)
    rows = HeadData(train, data.train_labels, val, data.val_labels, data.train_weights)
    fitted = fit_head(rows, settings.hidden, settings.training, seed, progress)
    save_head(fitted.head, folder / "head.safetensors")
    write_json(folder / "head.json", {"kind": fitted.kind, "val_mae": fitted.val_mae})


def load(folder: Path, window: Window) -> StaticStudent:
    """Reads what `fit` wrote."""
    return StaticStudent(StaticEmbedder(window, folder), load_head(folder / "head.safetensors"))
