"""Heads: from pooled embeddings to raw scores. A ridge regression, or an MLP where that is better on validation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor

from distillery_runtime.files.safe_write import replacing
from distillery_runtime.spec.model import HeadTraining
from distillery_trainer.models.protocol import Progress
from distillery_trainer.models.selection import NEGLIGIBLE, is_better, simplest

Matrix = NDArray[np.float32]
Layers = tuple[tuple[Matrix, Matrix], ...]

RIDGE_ALPHAS = (3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 1.0, 0.1)  # the strongest penalty is the simplest head


@dataclass(frozen=True, slots=True)
class Head:
    """Standardise, then linear layers with ReLU between them.

    `mean`, `scale`: (H,) float32. `layers`: weight (out, in) and bias (out,) float32 each.
    """

    mean: Matrix
    scale: Matrix
    layers: Layers

    def predict(self, pooled: Matrix) -> Matrix:
        """Raw scores: (N, H) float32 embeddings to (N, D) float32, any finite value."""
        values = (pooled - self.mean) / self.scale
        for index, (weight, bias) in enumerate(self.layers):
            values = values @ weight.T + bias
            if index < len(self.layers) - 1:
                values = np.maximum(values, 0)
        return values.astype(np.float32)


@dataclass(frozen=True, slots=True)
class HeadData:
    """Embeddings (N, H) float32 and labels (N, D) float32 of the training and the validation articles.

    `train_weights`: (N, D) float32 above 0, what each label counts, or None where all count alike; a head takes an
    article's mean of them.
    """

    train_x: Matrix
    train_y: Matrix
    val_x: Matrix
    val_y: Matrix
    train_weights: Matrix | None = None

    @property
    def article_weights(self) -> Matrix | None:
        """(N,) float32 above 0, or None where all count alike."""
        return None if self.train_weights is None else self.train_weights.mean(axis=1)


@dataclass(frozen=True, slots=True)
class FittedHead:
    """The best head, its kind, and the validation MAE of each kind tried."""

    head: Head
    kind: str
    val_mae: dict[str, float]


def fit_head(
    data: HeadData, hidden: Sequence[int], training: HeadTraining, seed: int, progress: Progress | None = None
) -> FittedHead:
    """Fits a ridge and an MLP head on standardised embeddings; keeps the MLP where `selection` finds it better."""
    mean, scale, standard = standardised(data)
    heads = {
        "ridge": Head(mean, scale, _fit_ridge(standard)),
        "mlp": Head(mean, scale, _fit_mlp(standard, hidden, training, seed, progress)),
    }
    errors = {kind: absolute_errors(head.predict(data.val_x), data.val_y) for kind, head in heads.items()}
    kind = "mlp" if is_better(errors["mlp"], errors["ridge"]) else "ridge"
    return FittedHead(heads[kind], kind, {k: round(float(v.mean()), 6) for k, v in errors.items()})


def fit_ridge(data: HeadData) -> Head:
    """Fits a ridge head on standardised embeddings."""
    mean, scale, standard = standardised(data)
    return Head(mean, scale, _fit_ridge(standard))


def fit_linear(data: HeadData) -> tuple[Matrix, Matrix]:
    """A ridge head as one linear layer on embeddings as they are: weight (D, H) and bias (D,), float32."""
    head = fit_ridge(data)
    ((weight, bias),) = head.layers
    folded = weight / head.scale
    return folded.astype(np.float32), (bias - folded @ head.mean).astype(np.float32)


def standardised(data: HeadData) -> tuple[Matrix, Matrix, HeadData]:
    """The training columns' mean and scale, and the data by them."""
    mean, scale = data.train_x.mean(axis=0), data.train_x.std(axis=0)
    scale = np.where(scale < 1e-6, 1, scale).astype(np.float32)
    return mean, scale, replace(data, train_x=(data.train_x - mean) / scale, val_x=(data.val_x - mean) / scale)


def save_head(head: Head, path: Path) -> None:
    """Writes a head as safetensors."""
    tensors = {"mean": head.mean, "scale": head.scale}
    for index, (weight, bias) in enumerate(head.layers):
        tensors |= {f"layers.{index}.weight": weight, f"layers.{index}.bias": bias}
    with replacing(path) as beside:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, beside)


def load_head(path: Path) -> Head:
    """Reads a head written by `save_head`."""
    tensors = load_file(path)
    count = sum(name.endswith(".weight") for name in tensors)
    layers = tuple((tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in range(count))
    return Head(tensors["mean"], tensors["scale"], layers)


def _fit_ridge(data: HeadData) -> Layers:
    model = choose_ridge(data)
    weight = np.atleast_2d(model.coef_).astype(np.float32)
    return ((weight, np.atleast_1d(model.intercept_).astype(np.float32)),)


def choose_ridge(data: HeadData) -> Ridge:
    """Fits ridge regressions on standardised columns, where alpha is in articles, and chooses one on validation."""
    models = []
    for alpha in RIDGE_ALPHAS:
        model = Ridge(alpha=alpha, solver="cholesky")
        models.append(model.fit(data.train_x.astype(np.float64), data.train_y, sample_weight=data.article_weights))
    return models[simplest([absolute_errors(model.predict(data.val_x), data.val_y) for model in models])]


def _fit_mlp(
    data: HeadData, hidden: Sequence[int], training: HeadTraining, seed: int, progress: Progress | None
) -> Layers:
    """An MLP trained by Adam on squared error, stopped early on validation MAE, labels centred for a calm start."""
    offset = data.train_y.mean(axis=0)
    model = MLPRegressor(
        hidden_layer_sizes=tuple(hidden),
        alpha=training.weight_decay,
        batch_size=min(training.batch_size, len(data.train_x)),
        learning_rate_init=training.learning_rate,
        random_state=seed,
    )
    zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)  # the columns are standardised already
    best: Layers = ()
    best_mae, since = np.inf, 0
    if progress:
        progress.start(training.epochs, 0)
    for _ in range(training.epochs):
        model.partial_fit(data.train_x, np.squeeze(data.train_y - offset), sample_weight=data.article_weights)
        layers = _layers(model, offset)
        mae = float(absolute_errors(Head(zero, one, layers).predict(data.val_x), data.val_y).mean())
        if progress:
            progress.step(float(model.loss_))
            progress.epoch(mae)
        best_mae, best, since = (mae, layers, 0) if mae < best_mae - NEGLIGIBLE else (best_mae, best, since + 1)
        if since >= training.patience:
            break
    return best


def _layers(model: MLPRegressor, offset: Matrix) -> Layers:
    fitted = zip(model.coefs_, model.intercepts_, strict=True)
    pairs = [(weight.T.astype(np.float32), bias.astype(np.float32)) for weight, bias in fitted]
    weight, bias = pairs[-1]
    return (*pairs[:-1], (weight, (bias + offset).astype(np.float32)))


def absolute_errors(predicted: NDArray[np.floating], labels: Matrix) -> NDArray[np.float64]:
    """How far predictions are from labels, in the labels' shape (N, D)."""
    errors: NDArray[np.float64] = np.abs(np.asarray(predicted, np.float64).reshape(labels.shape) - labels)
    return errors
