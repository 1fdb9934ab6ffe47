"""Heads of several filters that learn together on one frozen encoder: a hidden layer that all of them share.

Multi-task learning with hard parameter sharing (Caruana 1997, "Multitask Learning", Machine Learning 28). What leads to
one filter's finds, which are few, is in part what leads to another's. Each filter gives the shared layer its dimensions
and, for its finds, the ordinal logits of Frank and Hall (2001), "A simple approach to ordinal classification": one for
each bar of `heads.FIND_BARS`. Their mean is the find logit, so that they fold into one row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distillery_trainer.models.choose import import_torch_side
from distillery_trainer.models.heads import Head, Matrix, column_scale, find_bars
from distillery_trainer.models.protocol import Progress

KIND = "joint"  # of such a head, as head.json has it
EPOCHS, FEWEST_STEPS, BATCH = 12, 500, 64  # few articles are gone through more often


@dataclass(frozen=True, slots=True)
class Taught:
    """What one filter's labels teach.

    `rows`: (n,) which of the embeddings are its articles'. `labels`, `weights`: (n, D) float32, what each label counts.
    `margins`: (n,) by how much each article is above where finds begin. `has_find`: whether it gets a find logit where
    there are finds enough to learn it from.
    """

    rows: NDArray[np.int64]
    labels: Matrix
    weights: Matrix
    margins: NDArray[np.float64]
    has_find: bool = True

    @property
    def bars(self) -> tuple[float, ...]:
        """Those at which it tells articles apart."""
        return find_bars(self.margins) if self.has_find else ()

    def among(self, chosen: NDArray[np.int64]) -> "Taught":
        """What is left of it where only the chosen embeddings are there, in this order."""
        place = {int(row): number for number, row in enumerate(chosen)}
        kept = [number for number, row in enumerate(self.rows.tolist()) if row in place]
        rows = np.array([place[row] for row in self.rows[kept].tolist()], np.int64)
        return replace(
            self, rows=rows, labels=self.labels[kept], weights=self.weights[kept], margins=self.margins[kept]
        )


@dataclass(frozen=True, slots=True)
class Targets:
    """What a network of several filters learns, one filter's columns after the other's.

    `values`: (N, K) float32, scores in [0, 10] or 0 and 1. `counts`: (N, K) float32, what each counts; 0 where there is
    none. `is_chance`: (K,) bool, the columns that are logits of 0 and 1.
    """

    values: Matrix
    counts: Matrix
    is_chance: NDArray[np.bool_]


def fit_heads(
    embeddings: Matrix, taught: Sequence[Taught], seed: int, progress: Progress | None = None
) -> tuple[Head, ...]:
    """Fits one network on (N, H) float32 embeddings and gives each filter's head of it.

    A head's outputs are its filter's dimensions, and the find logit after them where `Taught.bars` has any.

    Raises:
        ProviderError: torch is not installed.
    """
    mean, scale = column_scale(embeddings)
    network = import_torch_side("distillery_trainer.neural.shared_layer")
    hidden, (weight, bias) = network.fit_layers(
        (embeddings - mean) / scale, targets_of(len(embeddings), taught), seed, progress
    )
    heads, start = [], 0
    for own in taught:
        rows = slice(start, start + own.labels.shape[1] + len(own.bars))
        last = tuple(_folded(part[rows], len(own.bars)) for part in (weight, bias))
        heads.append(Head(mean, scale, (hidden, (last[0], last[1]))))
        start = rows.stop
    return tuple(heads)


def epochs_of(count: int) -> int:
    """How often a training goes through `count` articles."""
    return max(EPOCHS, -(-FEWEST_STEPS // -(-count // BATCH)))


def _folded(part: Matrix, logits: int) -> Matrix:
    """Weights or biases of scores and, after them, of the bars' logits, with the mean of these as one row."""
    if not logits:
        return part
    return np.concatenate([part[:-logits], part[-logits:].mean(axis=0, keepdims=True)]).astype(np.float32)


def targets_of(count: int, taught: Sequence[Taught]) -> Targets:
    """What `count` embeddings are to give."""
    values: list[Matrix] = []
    counts: list[Matrix] = []
    is_chance = []
    for own in taught:
        above = (own.margins[:, None] >= np.array(own.bars)).astype(np.float32)
        weights = np.repeat(own.weights.mean(axis=1, keepdims=True), above.shape[1], axis=1)
        columns = np.concatenate([own.labels, above], axis=1), np.concatenate([own.weights, weights], axis=1)
        for parts, given in zip((values, counts), columns, strict=True):
            placed = np.zeros((count, given.shape[1]), np.float32)
            placed[own.rows] = given
            parts.append(placed)
        is_chance.append(np.arange(above.shape[1] + own.labels.shape[1]) >= own.labels.shape[1])
    return Targets(np.concatenate(values, axis=1), np.concatenate(counts, axis=1), np.concatenate(is_chance))
