"""The static student, and a probe of the same kind: a token table and a head. Neither torch nor a download."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.model import ProbeSettings, StaticSettings, Window
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.models.heads import Head, absolute_errors, fit_head, load_head, save_head
from distillery_trainer.models.protocol import FitData, Progress
from distillery_trainer.models.selection import is_better
from distillery_trainer.models.static_embedder import StaticEmbedder, copy_table, save_table
from distillery_trainer.models.static_tuning import Words, count_tokens, tune
from distillery_trainer.store.files import write_json


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
    settings: StaticSettings | ProbeSettings,
    window: Window,
    data: FitData,
    folder: Path,
    seed: int,
    progress: Progress | None,
) -> None:
    """Writes table, tokenizer and head into `folder`: the simplest of three that none is clearly better than.

    A ridge, an MLP head on the table as it comes, and a table that was trained together with an MLP (`selection`).
    """
    copy_table(folder)
    embedder = StaticEmbedder(window, folder)
    words = _words(embedder, data)
    fitted = fit_head(words.pooled(embedder.rows), settings.hidden, settings.training, seed, progress)
    tuned = tune(embedder.rows, words, settings.hidden, settings.training, seed, progress)
    save_table(tuned.table, folder)
    save_head(tuned.head, folder / "head.safetensors")
    errors = absolute_errors(load(folder, window).predict(data.val_texts), data.val_labels)
    untrained = absolute_errors(fitted.head.predict(embedder.embed(data.val_texts)), data.val_labels)
    kind = "tuned"
    if not is_better(errors, untrained):
        kind = fitted.kind
        copy_table(folder)
        save_head(fitted.head, folder / "head.safetensors")
    write_json(
        folder / "head.json", {"kind": kind, "val_mae": fitted.val_mae | {"tuned": round(float(errors.mean()), 6)}}
    )


def load(folder: Path, window: Window) -> StaticStudent:
    """Reads what `fit` wrote."""
    return StaticStudent(StaticEmbedder(window, folder), load_head(folder / "head.safetensors"))


def _words(embedder: StaticEmbedder, data: FitData) -> Words:
    train, val = (
        count_tokens([row.ids for row in embedder.window.encode(texts)], embedder.rows)
        for texts in (data.train_texts, data.val_texts)
    )
    weights = np.ones_like(data.train_labels) if data.train_weights is None else data.train_weights
    return Words(train, data.train_labels, val, data.val_labels, weights)
