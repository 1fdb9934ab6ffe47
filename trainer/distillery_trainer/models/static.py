"""The static student, and a probe of the same kind: a token table and a head. Neither torch nor a download."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.model import ProbeSettings, StaticSettings, Window
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.models.heads import (
    Head,
    HeadData,
    absolute_errors,
    fit_find,
    fit_head,
    load_head,
    save_head,
    standardised,
)
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

    A ridge, an MLP head on the table as it comes, and a table that was trained together with an MLP (`selection`), the
    last only if the settings say `tune`. With a plan only the kind of the plan is fitted.
    """
    copy_table(folder)
    as_it_comes = None
    if not data.plan or data.plan.kind != TUNED:
        rows = _embedded(folder, window, data)
        as_it_comes = fit_head(rows, settings.hidden, settings.training, seed, progress)
        if data.plan or not settings.tune:
            _write(folder, as_it_comes.head, as_it_comes.val_mae, as_it_comes.plan)
            return
        untrained = absolute_errors(as_it_comes.head.scores(rows.val_x), data.val_labels)
    embedder = StaticEmbedder(window, folder)
    tuned = tune(embedder.rows, _words(embedder, data), settings.hidden, settings.training, seed, progress)
    save_table(tuned.table, folder)
    rows = _embedded(folder, window, data)
    head = _widened(tuned.head, rows)
    if as_it_comes is None:
        _write(folder, head, {}, data.plan or HeadPlan(TUNED, 1.0, tuned.epochs))
        return
    errors = absolute_errors(head.scores(rows.val_x), data.val_labels)
    val_mae = as_it_comes.val_mae | {TUNED: round(float(errors.mean()), 6)}
    if is_better(errors, untrained):
        _write(folder, head, val_mae, replace(as_it_comes.plan, kind=TUNED, epochs=tuned.epochs))
    else:
        copy_table(folder)
        _write(folder, as_it_comes.head, val_mae, as_it_comes.plan)


def _embedded(folder: Path, window: Window, data: FitData) -> HeadData:
    embedder = StaticEmbedder(window, folder)
    return HeadData.of(data, embedder.embed(data.train_texts), embedder.embed(data.val_texts))


def _widened(head: Head, rows: HeadData) -> Head:
    """A head on means at unit length, as a tuned table has one, on all that the embedder gives; with a find head."""
    mean, scale, standard = standardised(rows)
    used = len(head.mean)
    (weight, bias), *others = head.layers
    wide = np.pad(weight, ((0, 0), (0, len(mean) - used)))
    mean[:used], scale[:used] = head.mean, head.scale
    standard = replace(standard, train_x=(rows.train_x - mean) / scale)
    return Head(mean, scale, ((wide, bias), *others), fit_find(standard))


def _write(folder: Path, head: Head, val_mae: dict[str, float], plan: HeadPlan) -> None:
    save_head(head, folder / "head.safetensors")
    write_json(folder / "head.json", {"val_mae": val_mae, **asdict(plan)})


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
