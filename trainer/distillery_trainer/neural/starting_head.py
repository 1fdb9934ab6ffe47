"""The head with which fine-tuning an encoder begins: the one that suits the encoder's states as they are.

Fine-tuning from a random head first bends the encoder to it; from a head fitted on the frozen encoder's states it
begins where the probe ends (Kumar et al. 2022, "Fine-tuning can distort pretrained features", arXiv 2202.10054). A head
of scores is a ridge regression; a head of bins a softmax regression on the smoothed labels that it is trained on.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from distillery_trainer.models import hl_gauss
from distillery_trainer.models.heads import HeadData, fit_linear, standardised
from distillery_trainer.models.selection import is_better
from distillery_trainer.neural.batches import TrainingRows

PENALTIES = (3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
EFFORT = {"maxiter": 60}  # each penalty goes on from the last one's answer

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Linear = tuple[Floats, Floats]  # weight (outputs, H) and bias (outputs,)


def ridge(train: Floats, val: Floats, rows: TrainingRows) -> Linear:
    """A head of scores. Dimensions with labels for the same articles are fitted together.

    Args:
        train: (N, H) the training articles' pooled states.
        val: (M, H) those of the validation articles, on which penalties are chosen.
        rows: their labels, (N, D) and (M, D), and what each counts.

    Returns:
        weight (D, H) and bias (D,), float32.
    """
    known = np.concatenate([rows.weights, rows.validation]) > 0
    weight = np.zeros((known.shape[1], train.shape[1]), np.float32)
    bias = np.zeros(len(weight), np.float32)
    for alike in np.unique(known, axis=1).T:
        columns = np.flatnonzero((known == alike[:, None]).all(axis=0))
        learnt, checked = np.flatnonzero(alike[: len(train)]), np.flatnonzero(alike[len(train) :])
        data = HeadData(
            train[learnt],
            rows.train_labels[np.ix_(learnt, columns)],
            val[checked],
            rows.val_labels[np.ix_(checked, columns)],
            rows.weights[np.ix_(learnt, columns)],
        )
        weight[columns], bias[columns] = fit_linear(data)
    return weight, bias


def softmax_regression(train: Floats, val: Floats, rows: TrainingRows) -> Linear:
    """A head of bins: logits whose cross-entropy against the smoothed labels is least, by L-BFGS.

    Penalties fall from `PENALTIES`' first until the mean score's validation error clearly rises; of equally good ones
    the strongest is taken (`selection`).

    Args:
        train: (N, H) the training articles' pooled states.
        val: (M, H) those of the validation articles.
        rows: their labels, (N, D) and (M, D), and what each counts.

    Returns:
        weight (D * K, H) and bias (D * K,), float32.
    """
    mean, scale, standard = standardised(HeadData(train, rows.train_labels, val, rows.val_labels))
    known = rows.weights > 0
    bias = hl_gauss.best_constant(rows.train_labels, known).reshape(-1).astype(np.float64)
    flat = np.concatenate([np.zeros(len(bias) * train.shape[1]), bias])
    best, found = None, flat
    for penalty in PENALTIES:
        flat = minimize(_Entropy(standard.train_x, rows, penalty), flat, jac=True, method="L-BFGS-B", options=EFFORT).x
        errors = rows.errors(_mean_scores(standard.val_x, flat, len(bias), rows.val_labels.shape))
        if best is None or is_better(errors, best, rows.validation):
            best, found = errors, flat
        elif is_better(best, errors, rows.validation):
            break
    weight, bias = _parts(found, len(bias))
    folded = weight / scale
    return folded.astype(np.float32), (bias - folded @ mean).astype(np.float32)


class _Entropy:
    """The penalised cross-entropy and its gradient. States are standardised, so a penalty is in articles."""

    def __init__(self, states: Floats, rows: TrainingRows, penalty: float) -> None:
        self._states, self._penalty = states.astype(np.float64), penalty
        self._weights = rows.weights.astype(np.float64)[..., None]
        self._wanted = self._weights * hl_gauss.targets(rows.train_labels)

    def __call__(self, flat: Doubles) -> tuple[float, Doubles]:
        weight, bias = _parts(flat, self._wanted[0].size)
        logs = log_softmax((self._states @ weight.T + bias).reshape(self._wanted.shape), axis=-1)
        excess = (np.exp(logs) * self._weights - self._wanted).reshape(len(logs), -1)
        loss = float(-np.vdot(self._wanted, logs) + self._penalty / 2 * np.vdot(weight, weight))
        return loss, np.concatenate(
            [(excess.T @ self._states + self._penalty * weight).reshape(-1), excess.sum(axis=0)]
        )


def _mean_scores(states: Floats, flat: Doubles, outputs: int, shape: tuple[int, ...]) -> Doubles:
    """The expected scores, (M, D)."""
    weight, bias = _parts(flat, outputs)
    shares: Doubles = softmax((states @ weight.T + bias).reshape(*shape, -1), axis=-1) @ hl_gauss.centres()
    return shares


def _parts(flat: Doubles, outputs: int) -> tuple[Doubles, Doubles]:
    """Weight (outputs, H) and bias (outputs,) of one vector."""
    return flat[:-outputs].reshape(outputs, -1), flat[-outputs:]
