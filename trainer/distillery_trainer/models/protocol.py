"""What every backend takes and gives: data to fit, a progress listener, and a student that answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.tokens.window import TokenWindow

# Labels (N, D) to (N,): by how much each article's overall is above where finds begin; a find has 0 or more.
FindOf = Callable[[NDArray[np.floating]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class HeadPlan:
    """How a head is fitted where no validation article is left to choose it: as it was chosen on others.

    `kind`: of a head on an encoder `ridge` or `mlp`; of a static model `words`, or `tuned` where a token table that was
    trained with its MLP is beside them. `alpha`: the ridge's penalty. `epochs`: of the training of an MLP.
    """

    kind: str
    alpha: float
    epochs: int


@dataclass(frozen=True, slots=True)
class FitData:
    """The articles a student learns from, and those that decide when it stops.

    `train_texts`, `val_texts`: composed texts. `train_labels`, `val_labels`: (N, D) float32 in [0, 10], columns in
    spec.dimensions order. `train_weights`, `val_weights`: (N, D) float32, what each label counts in the loss and in the
    validation's mean error: 0 where there is none, and the value in its place does not matter; None where all count
    alike. `find_of` tells by labels how far articles are from being finds, for a find head; None for none. `plan`: how
    heads are fitted where there is no validation article.
    """

    train_texts: Sequence[str]
    train_labels: NDArray[np.float32]
    val_texts: Sequence[str]
    val_labels: NDArray[np.float32]
    train_weights: NDArray[np.float32] | None = None
    val_weights: NDArray[np.float32] | None = None
    find_of: FindOf | None = None
    plan: HeadPlan | None = None


class Progress(Protocol):
    """Follows how far a training is; a progress bar, for example."""

    def start(self, total_steps: int, done: int) -> None:
        """The training begins or goes on, with `done` of `total_steps` optimiser steps behind it."""

    def step(self, loss: float) -> None:
        """One more optimiser step is done."""

    def epoch(self, val_mae: float) -> None:
        """An epoch has ended, with this mean absolute error on the validation articles."""


class Student(Protocol):
    """A trained model that answers."""

    @property
    def window(self) -> TokenWindow:
        """What makes its token ids."""

    def predict(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Gives raw outputs, not calibrated: (N, D) float32, any finite value, rows in the order of `texts`.

        A student with a find head gives its logit as one more column.

        Raises:
            ModelError: an output is not finite.
        """
