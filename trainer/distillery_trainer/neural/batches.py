"""What a training learns from, and in which steps: batches of similar lengths that follow from seed and step alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.tokens.window import TokenIds, token_batches
from distillery_trainer.neural.steps import Batch, TrainingPlan


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """What a regressor learns from, and what decides when it stops.

    `train_ids`, `val_ids`: token rows. The rest is as in `FitData`.
    """

    train_ids: Sequence[TokenIds]
    train_labels: NDArray[np.float32]
    val_ids: Sequence[TokenIds]
    val_labels: NDArray[np.float32]
    train_weights: NDArray[np.float32] | None = None
    val_weights: NDArray[np.float32] | None = None

    @property
    def weights(self) -> NDArray[np.float32]:
        """What each training label counts: (N, D) float32, 0 where there is none."""
        return np.ones_like(self.train_labels) if self.train_weights is None else self.train_weights

    @property
    def validation(self) -> NDArray[np.float32]:
        """What each validation label counts: (N, D) float32, 0 where there is none."""
        return np.ones_like(self.val_labels) if self.val_weights is None else self.val_weights

    def errors(self, outputs: NDArray[np.floating]) -> NDArray[np.float64]:
        """The absolute errors of outputs for the validation articles: (N, D)."""
        errors: NDArray[np.float64] = np.abs(outputs.astype(np.float64) - self.val_labels)
        return errors

    def error(self, outputs: NDArray[np.floating]) -> float:
        """The mean absolute error of outputs for the validation articles, (N, D), by what each label counts."""
        return float(np.average(self.errors(outputs), weights=self.validation))

    def check(self) -> None:
        """Sees that labels, weights and texts fit each other.

        Raises:
            InputError: an empty part, labels of another shape than (N, D), a label that is not finite, a weight that is
                negative or not finite, or an article or a dimension without any label.
        """
        parts = (
            ("train", self.train_ids, self.train_labels, self.weights),
            ("val", self.val_ids, self.val_labels, self.validation),
        )
        problems = []
        for name, ids, labels, weights in parts:
            if not ids or labels.ndim != 2 or len(labels) != len(ids):
                found = f"{len(ids)} texts, labels {labels.shape}"
                problems.append(Problem(name, found, "(N, D) labels for N > 0 texts"))
            elif not np.all(np.isfinite(labels)):
                problems.append(Problem(f"{name} labels", "a value that is not finite", "scores in [0, 10]"))
            elif weights.shape != labels.shape:
                problems.append(Problem(f"{name} weights", str(weights.shape), str(labels.shape)))
            elif not (np.all(np.isfinite(weights)) and np.all(weights >= 0)):
                expected = "weights of at least 0"
                problems.append(Problem(f"{name} weights", "a weight that is negative or not finite", expected))
            elif not (weights.any(axis=0).all() and weights.any(axis=1).all()):
                expected = "a weight above 0 in each row and column"
                problems.append(Problem(f"{name} weights", "an article or a dimension without a label", expected))
        if self.train_labels.shape[1:] != self.val_labels.shape[1:]:
            problems.append(Problem("val labels", str(self.val_labels.shape), "as many columns as the train labels"))
        if problems:
            raise InputError("training", problems)


class Schedule:
    """The steps of a training: `per_epoch` of them in each epoch, `total` at most.

    A step is `accumulate` batches of at most `batch_tokens` tokens each; an epoch's last step has what is left.
    """

    def __init__(self, rows: TrainingRows, plan: TrainingPlan) -> None:
        self._rows, self._plan = rows, plan
        self._lengths = [len(row.ids) for row in rows.train_ids]
        batches = len(token_batches(self._lengths, plan.settings.batch_tokens))
        self.per_epoch = -(-batches // plan.settings.accumulate)
        self.total = self.per_epoch * plan.settings.epochs
        self._epoch = lru_cache(maxsize=1)(self._places)

    def batches(self, step: int) -> list[Batch]:
        """The batches of a step, counted from 0 through all epochs."""
        epoch, place = divmod(step, self.per_epoch)
        count = self._plan.settings.accumulate
        return [self._batch(places) for places in self._epoch(epoch)[place * count : (place + 1) * count]]

    def _batch(self, places: list[int]) -> Batch:
        rows = self._rows
        return Batch([rows.train_ids[i] for i in places], rows.train_labels[places], rows.weights[places])

    def _places(self, epoch: int) -> list[list[int]]:
        """The epoch's batches of row indices: similar lengths together, ties shuffled, batches in random order."""
        rng = np.random.default_rng([self._plan.seed, epoch])
        mixed = rng.permutation(len(self._lengths)).tolist()
        batches = token_batches([self._lengths[i] for i in mixed], self._plan.settings.batch_tokens)
        return [[mixed[i] for i in batches[b]] for b in rng.permutation(len(batches))]
