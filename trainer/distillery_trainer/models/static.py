"""The static student, and a probe of the same kind: a token table and a head. Neither torch nor a download."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.model import ProbeSettings, StaticSettings, Window
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.models.heads import Head, absolute_errors, fit_find, fit_head, load_head, save_head
from distillery_trainer.models.protocol import FitData, HeadPlan, Progress
from distillery_trainer.models.selection import is_better
from distillery_trainer.models.static_embedder import StaticEmbedder, copy_table, save_table
from distillery_trainer.models.static_tuning import Words, count_tokens, tune
from distillery_trainer.store.files import write_json

TUNED = "tuned"  # the kind of a head whose table was trained with it


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

    A ridge, an MLP head on the table as it comes, and a table that was trained together with an MLP (`selection`). With
    a plan only the kind of the plan is fitted.
    """
    copy_table(folder)
    embedder = StaticEmbedder(window, folder)
    words = _words(embedder, data)
    if data.plan and data.plan.kind != TUNED:
        fitted = fit_head(words.pooled(embedder.rows), settings.hidden, settings.training, seed, progress)
        _write(folder, fitted.head, fitted.val_mae, fitted.plan)
        return
    tuned = tune(embedder.rows, words, settings.hidden, settings.training, seed, progress)
    save_table(tuned.table, folder)
    tuned_head = _with_find(tuned.head, words, StaticEmbedder(window, folder).rows)
    if data.plan:
        _write(folder, tuned_head, {}, data.plan)
        return
    fitted = fit_head(words.pooled(embedder.rows), settings.hidden, settings.training, seed, progress)
    own = words.pooled(StaticEmbedder(window, folder).rows)
    errors = absolute_errors(tuned_head.scores(own.val_x), data.val_labels)
    untrained = absolute_errors(fitted.head.scores(words.pooled(embedder.rows).val_x), data.val_labels)
    val_mae = fitted.val_mae | {TUNED: round(float(errors.mean()), 6)}
    if is_better(errors, untrained):
        _write(folder, tuned_head, val_mae, replace(fitted.plan, kind=TUNED, epochs=tuned.epochs))
    else:
        copy_table(folder)
        _write(folder, fitted.head, val_mae, fitted.plan)


def _write(folder: Path, head: Head, val_mae: dict[str, float], plan: HeadPlan) -> None:
    save_head(head, folder / "head.safetensors")
    write_json(folder / "head.json", {"val_mae": val_mae, **asdict(plan)})


def _with_find(head: Head, words: Words, rows: NDArray[np.float32]) -> Head:
    """A head with a find head beside it, fitted on the embeddings by the table's rows as `head` standardises them."""
    data = words.pooled(rows)
    standard = replace(data, train_x=(data.train_x - head.mean) / head.scale)
    return replace(head, find=fit_find(standard))


def load(folder: Path, window: Window) -> StaticStudent:
    """Reads what `fit` wrote."""
    return StaticStudent(StaticEmbedder(window, folder), load_head(folder / "head.safetensors"))


def _words(embedder: StaticEmbedder, data: FitData) -> Words:
    train, val = (
        count_tokens([row.ids for row in embedder.window.encode(texts)], embedder.rows)
        for texts in (data.train_texts, data.val_texts)
    )
    weights = np.ones_like(data.train_labels) if data.train_weights is None else data.train_weights
    finds = None if data.find_of is None else data.find_of(data.train_labels)
    return Words(train, data.train_labels, val, data.val_labels, weights, finds, data.plan)
