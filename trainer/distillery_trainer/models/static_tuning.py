"""Trains a token table together with the head on it: each row learns what its word says of a filter's scores.

A deep averaging network (Iyyer et al. 2015, https://aclanthology.org/P15-1162): word vectors averaged, then an MLP,
with words left out at random so that no single one is relied on. The rows begin as those of the pretrained table. What
is kept is a running mean of the weights over the last epochs (Polyak and Juditsky 1992; Izmailov et al. 2018, arXiv
1803.05407): less noise than any one epoch's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from distillery_runtime.spec.model import HeadTraining
from distillery_trainer.models.heads import Head, HeadData
from distillery_trainer.models.protocol import HeadPlan, Progress
from distillery_trainer.models.selection import NEGLIGIBLE
from distillery_trainer.models.static_embedder import MIN_NORM

Matrix = NDArray[np.float32]
Numbers = NDArray[np.int64]

WORD_DROPOUT = 0.5
UNIT_DROPOUT = 0.2
HUBER_DELTA = 1.0  # of the 0-10 scale
AVERAGED_EPOCHS = 5  # the running mean is moved by one over this, or over the epochs so far


@dataclass(frozen=True, slots=True)
class Words:
    """Articles as the tokens they hold, and their scores.

    `train`, `val`: (N, V) float32, how often each row of the table occurs. `train_labels`, `val_labels`: (N, D)
    float32. `train_weights`: (N, D) float32 above 0, what each label counts. `plan`: as in `HeadData`.
    """

    train: csr_array
    train_labels: Matrix
    val: csr_array
    val_labels: Matrix
    train_weights: Matrix
    plan: HeadPlan | None = None

    def pooled(self, table: Matrix) -> HeadData:
        """The articles' embeddings by a table (V, H), rows of unit length."""
        train, val = (_unit(_dot(counts, table))[0] for counts in (self.train, self.val))
        return HeadData(train, self.train_labels, val, self.val_labels, self.train_weights, plan=self.plan)


@dataclass(frozen=True, slots=True)
class Tuned:
    """A trained table (V, H) float32 and the head on it, after this many epochs."""

    table: Matrix
    head: Head
    epochs: int = 0

    def predict(self, counts: csr_array) -> Matrix:
        """Raw scores: (N, V) counts to (N, D) float32."""
        return self.head.predict(_unit(_dot(counts, self.table))[0])


def count_tokens(rows: Sequence[Numbers], table: Matrix) -> csr_array:
    """Counts each article's token ids, (N, V) float32; those whose row is zero stay out of it, and so stay zero."""
    known = np.asarray(table.any(axis=1))
    ids = [row[known[row]] for row in rows]
    places = np.cumsum([0, *(len(row) for row in ids)])
    flat = np.concatenate([np.zeros(0, np.int64), *ids])
    counts = csr_array((np.ones(len(flat), np.float32), flat, places), shape=(len(rows), len(table)))
    counts.sum_duplicates()
    return counts


def tune(
    table: Matrix, words: Words, hidden: Sequence[int], training: HeadTraining, seed: int, progress: Progress | None
) -> Tuned:
    """Trains a table and a new MLP head by Adam on the Huber error; their running mean best on validation is kept.

    With a plan it is that after the plan's epochs, whatever validation says.

    Args:
        table: the rows to begin with, (V, H).
        words: the articles.
        hidden: widths of the hidden layers.
        training: a row moves by `learning_rate` times the root mean square of the table, the head by `learning_rate`.
        seed: of the head's first weights, the articles' order and what is left out.
        progress: callback for steps and epochs.
    """
    generator = np.random.default_rng(seed)
    network = _Network(table, _fresh_head(words.pooled(table), hidden, generator), training, generator)
    count, size = len(words.train_labels), training.batch_size
    mean = best = network.copy()
    best_mae = np.inf
    epochs = words.plan.epochs if words.plan else training.epochs
    if progress:
        progress.start(epochs * -(-count // size), 0)
    for epoch in range(1, epochs + 1):
        order = generator.permutation(count)
        for batch in (order[begin : begin + size] for begin in range(0, count, size)):
            loss = network.step(words.train[batch], words.train_labels[batch], words.train_weights[batch])
            if progress:
                progress.step(loss)
        mean = _moved(mean, network.copy(), epoch)
        if words.plan:
            continue
        mae = float(np.abs(mean.predict(words.val) - words.val_labels).mean())
        if progress:
            progress.epoch(mae)
        if mae < best_mae - NEGLIGIBLE:
            best_mae, best = mae, mean
        if epoch - best.epochs >= training.patience:
            break
    return mean if words.plan else best


def _moved(mean: Tuned, to: Tuned, epoch: int) -> Tuned:
    """The mean of tables and heads after epoch 1, 2, ..., which in time forgets the first."""
    share = np.float32(1 / min(epoch, AVERAGED_EPOCHS))
    layers = tuple(
        (weight + share * (new_weight - weight), bias + share * (new_bias - bias))
        for (weight, bias), (new_weight, new_bias) in zip(mean.head.layers, to.head.layers, strict=True)
    )
    table = mean.table + share * (to.table - mean.table)
    return Tuned(table, replace(to.head, layers=layers), epoch)


def _fresh_head(data: HeadData, hidden: Sequence[int], generator: np.random.Generator) -> Head:
    """A head that says the mean label and a little noise: layers as Glorot and Bengio 2010 begin."""
    sizes = (data.train_x.shape[1], *hidden, data.train_y.shape[1])
    layers = []
    for inside, outside in pairwise(sizes):
        limit = np.sqrt(6 / (inside + outside))
        weight = generator.uniform(-limit, limit, (outside, inside)).astype(np.float32)
        layers.append((weight, np.zeros(outside, np.float32)))
    layers[-1] = (layers[-1][0] / np.float32(10), data.train_y.mean(axis=0))
    scale = data.train_x.std(axis=0)
    return Head(data.train_x.mean(axis=0), np.where(scale < 1e-6, 1, scale).astype(np.float32), tuple(layers))


@dataclass(slots=True)
class _Adam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980) on a copy of an array, or on its rows that have a gradient."""

    values: Matrix
    rate: float
    decay: float = 0.0
    first: Matrix = field(init=False)
    second: Matrix = field(init=False)

    def __post_init__(self) -> None:
        self.values = self.values.copy()
        self.first, self.second = np.zeros_like(self.values), np.zeros_like(self.values)

    def step(self, gradient: Matrix, at: int, rows: Numbers | slice = slice(None)) -> None:
        """The `at`-th step, counted from 1; weights decay beside it (Loshchilov and Hutter 2019, arXiv 1711.05101)."""
        first = self.first[rows] + np.float32(0.1) * (gradient - self.first[rows])
        second = self.second[rows] + np.float32(0.001) * (gradient * gradient - self.second[rows])
        self.first[rows], self.second[rows] = first, second
        size = np.float32(self.rate * np.sqrt(1 - 0.999**at) / (1 - 0.9**at))
        kept = self.values[rows] * np.float32(1 - self.rate * self.decay)
        self.values[rows] = kept - size * first / (np.sqrt(second) + np.float32(1e-8))


class _Network:
    """Counts of words to scores: the mean of the words' rows, unit length, standardised, then the head's layers."""

    def __init__(self, table: Matrix, head: Head, training: HeadTraining, generator: np.random.Generator) -> None:
        rate, decay = training.learning_rate, training.weight_decay
        self.mean, self.scale = head.mean, head.scale
        self.table = _Adam(table, rate * float(np.sqrt(np.mean(np.square(table)))))
        self.layers = [(_Adam(weight, rate, decay), _Adam(bias, rate)) for weight, bias in head.layers]
        self.generator = generator
        self.steps = 0

    def copy(self) -> Tuned:
        """Table and head as they are, to keep."""
        layers = tuple((weight.values.copy(), bias.values.copy()) for weight, bias in self.layers)
        return Tuned(self.table.values.copy(), Head(self.mean, self.scale, layers))

    def step(self, counts: csr_array, labels: Matrix, weights: Matrix) -> float:
        """One optimiser step on a batch; the loss before it."""
        self.steps += 1
        rows, words = self._some_words(counts)
        unit, norm = _unit(_dot(words, self.table.values[rows]))
        inputs, masks = self._forward((unit - self.mean) / self.scale)
        error = inputs.pop() - labels
        bounded = np.clip(error, -HUBER_DELTA, HUBER_DELTA)
        slope = weights * bounded / np.float32(error.size)
        for index in reversed(range(len(self.layers))):
            weight, bias = self.layers[index]
            below = slope @ weight.values
            weight.step(slope.T @ inputs[index], self.steps)
            bias.step(slope.sum(axis=0), self.steps)
            slope = below * masks[index - 1] if index else below / self.scale
        pooled = (slope - unit * (slope * unit).sum(axis=1, keepdims=True)) / norm
        self.table.step(_dot(words.T, pooled), self.steps, rows)
        return float((weights * bounded * (error - bounded / 2)).mean())

    def _some_words(self, counts: csr_array) -> tuple[Numbers, csr_array]:
        """The rows of the table that occur in a batch, and its counts of those, some words left out of each article."""
        kept = counts.data * (self.generator.random(len(counts.data)) >= WORD_DROPOUT)
        rows, places = np.unique(counts.indices, return_inverse=True)
        return rows, csr_array((kept, places, counts.indptr), shape=(counts.shape[0], len(rows)))

    def _forward(self, values: Matrix) -> tuple[list[Matrix], list[Matrix]]:
        """Each layer's input and then the scores; and each hidden layer's units that passed, scaled for the others."""
        inputs, masks = [values], []
        for weight, bias in self.layers[:-1]:
            values = inputs[-1] @ weight.values.T + bias.values
            passed = (values > 0) & (self.generator.random(values.shape) >= UNIT_DROPOUT)
            masks.append(passed.astype(np.float32) / np.float32(1 - UNIT_DROPOUT))
            inputs.append(values * masks[-1])
        weight, bias = self.layers[-1]
        return [*inputs, inputs[-1] @ weight.values.T + bias.values], masks


def _dot(left: csr_array, right: Matrix) -> Matrix:
    found: Matrix = np.asarray(left @ right, np.float32)
    return found


def _unit(pooled: Matrix) -> tuple[Matrix, Matrix]:
    """Rows of unit length, and the lengths they had."""
    norm = np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), np.float32(MIN_NORM))
    return pooled / norm, norm
