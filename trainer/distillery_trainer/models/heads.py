"""Heads: from pooled embeddings to raw scores. A ridge regression, or an MLP where that is better on validation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPRegressor

from distillery_runtime.files.safe_write import replacing
from distillery_runtime.spec.model import HeadTraining
from distillery_trainer.models.protocol import FitData, HeadPlan, Progress
from distillery_trainer.models.selection import NEGLIGIBLE, is_better, simplest

Matrix = NDArray[np.float32]
Layers = tuple[tuple[Matrix, Matrix], ...]

# The strongest penalty is the simplest head.
RIDGE_ALPHAS = (100000.0, 30000.0, 10000.0, 3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 1.0, 0.1)
FIND_STRENGTH = 10.0  # of the find head's penalty, as its inverse, for an embedding of one column
FEWEST_FINDS = 5
FIND_BARS = (-1.0, -0.5, 0.0, 0.5)  # score points from where finds begin
KINDS = ("words", "ridge", "mlp", "tuned")  # of a model that heads or words make, the simplest first


@dataclass(frozen=True, slots=True)
class Head:
    """Standardise, then linear layers with ReLU between them.

    `mean`, `scale`: (H,) float32. `layers`: weight (out, in) and bias (out,) float32 each. `find`: weight (1, H) and
    bias (1,) of the find head on the same standardised embedding, if there is one. A head that learnt with those of
    other filters (`joint_heads`) has none: the find logit is the last output of its last layer, after D scores.
    """

    mean: Matrix
    scale: Matrix
    layers: Layers
    find: tuple[Matrix, Matrix] | None = None

    def predict(self, pooled: Matrix) -> Matrix:
        """Raw outputs: (N, H) float32 embeddings to (N, D) float32, any finite value, and a find head's logit after."""
        scores = self.scores(pooled)
        if self.find is None:
            return scores
        weight, bias = self.find
        logit = ((pooled - self.mean) / self.scale) @ weight.T + bias
        return np.concatenate([scores, logit], axis=1).astype(np.float32)

    def scores(self, pooled: Matrix) -> Matrix:
        """Raw scores alone: (N, H) float32 embeddings to (N, D) float32, any finite value."""
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
    article's mean of them. `train_finds`: (N,) by how much each training article is above where finds begin, for a
    find head, or None for none. `plan`: how the head is fitted where there is no validation article.
    """

    train_x: Matrix
    train_y: Matrix
    val_x: Matrix
    val_y: Matrix
    train_weights: Matrix | None = None
    train_finds: NDArray[np.float64] | None = None
    plan: HeadPlan | None = None

    @classmethod
    def of(cls, data: FitData, train_x: Matrix, val_x: Matrix) -> "HeadData":
        """The embeddings of a fit's articles."""
        finds = None if data.find_of is None else data.find_of(data.train_labels)
        return cls(train_x, data.train_labels, val_x, data.val_labels, data.train_weights, finds, data.plan)

    @property
    def article_weights(self) -> Matrix | None:
        """(N,) float32 above 0, or None where all count alike."""
        return None if self.train_weights is None else self.train_weights.mean(axis=1)


@dataclass(frozen=True, slots=True)
class FittedHead:
    """The best head, the validation MAE of each kind tried, and how to fit its like without validation articles."""

    head: Head
    val_mae: dict[str, float]
    plan: HeadPlan

    @property
    def kind(self) -> str:
        """`ridge` or `mlp`."""
        return self.plan.kind


def fit_head(
    data: HeadData, hidden: Sequence[int], training: HeadTraining, seed: int, progress: Progress | None = None
) -> FittedHead:
    """Fits a ridge and an MLP head on standardised embeddings; keeps the MLP where `selection` finds it better.

    With a plan only the kind of the plan is fitted, on all articles alike.
    """
    mean, scale, standard = standardised(data)
    find = fit_find(standard)
    if plan := data.plan:
        layers = _ridge_layers(_ridge(standard, plan.alpha))
        if plan.kind != "ridge":
            layers, _ = _fit_mlp(standard, hidden, training, seed, progress)
        return FittedHead(Head(mean, scale, layers, find), {}, plan)
    ridge, (mlp, epochs) = choose_ridge(standard), _fit_mlp(standard, hidden, training, seed, progress)
    heads = {"ridge": Head(mean, scale, _ridge_layers(ridge), find), "mlp": Head(mean, scale, mlp, find)}
    errors = {kind: absolute_errors(head.scores(data.val_x), data.val_y) for kind, head in heads.items()}
    kind = "mlp" if is_better(errors["mlp"], errors["ridge"]) else "ridge"
    maes = {k: round(float(v.mean()), 6) for k, v in errors.items()}
    return FittedHead(heads[kind], maes, HeadPlan(kind, float(ridge.alpha), epochs))


def common_plan(plans: Sequence[HeadPlan]) -> HeadPlan:
    """What most of several fits chose (of equals the simplest kind), with the median of its penalty and epochs."""
    kind = max(KINDS, key=lambda kind: (sum(plan.kind == kind for plan in plans), -KINDS.index(kind)))
    epochs = [plan.epochs for plan in plans if plan.kind == kind]
    return HeadPlan(kind, float(np.median([plan.alpha for plan in plans])), max(1, round(float(np.median(epochs)))))


def fit_ridge(data: HeadData) -> Head:
    """Fits a ridge head on standardised embeddings."""
    mean, scale, standard = standardised(data)
    return Head(mean, scale, _ridge_layers(choose_ridge(standard)))


def fit_find(standard: HeadData) -> tuple[Matrix, Matrix] | None:
    """Fits a find head on standardised embeddings: the mean of logistic regressions (L2), each at one bar.

    Finds are few; who comes near to being one says what leads there. So articles are told apart at the bar of finds, a
    little above and at two bars below it, both sides of each counting the same, and the logits' mean is one linear
    head. Over five tasks of 29 to 148 finds it ranked better than the regression at the bar alone (F1 .563 to .549).

    Returns:
        weight (1, H) and bias (1,), or None without finds to learn from, or without others.
    """
    margins = standard.train_finds
    if margins is None or not (bars := find_bars(margins)):
        return None
    x, weights = standard.train_x.astype(np.float64), standard.article_weights
    strength = FIND_STRENGTH / x.shape[1]
    models = [
        LogisticRegression(C=strength, class_weight="balanced", max_iter=3000).fit(x, margins >= bar, weights)
        for bar in bars
    ]
    weight, bias = (np.mean([getattr(model, name) for model in models], axis=0) for name in ("coef_", "intercept_"))
    return weight.astype(np.float32), bias.astype(np.float32)


def find_bars(margins: NDArray[np.float64]) -> tuple[float, ...]:
    """The bars that have articles enough on both sides; none where finds, or others, are too few.

    `margins`: (N,), by how much each article is above where finds begin.
    """
    bars = tuple(bar for bar in FIND_BARS if _has_both(margins >= bar))
    return bars if 0.0 in bars else ()


def _has_both(finds: NDArray[np.bool_]) -> bool:
    return min(int(finds.sum()), int((~finds).sum())) >= FEWEST_FINDS


def fit_linear(data: HeadData) -> tuple[Matrix, Matrix]:
    """A ridge head as one linear layer on embeddings as they are: weight (D, H) and bias (D,), float32."""
    head = fit_ridge(data)
    ((weight, bias),) = head.layers
    folded = weight / head.scale
    return folded.astype(np.float32), (bias - folded @ head.mean).astype(np.float32)


def standardised(data: HeadData) -> tuple[Matrix, Matrix, HeadData]:
    """The training columns' mean and scale, and the data by them."""
    mean, scale = column_scale(data.train_x)
    return mean, scale, replace(data, train_x=(data.train_x - mean) / scale, val_x=(data.val_x - mean) / scale)


def column_scale(x: Matrix) -> tuple[Matrix, Matrix]:
    """The mean and the standard deviation of (N, H) columns, (H,) each; 1 for a column that never varies."""
    mean, scale = x.mean(axis=0), x.std(axis=0)
    return mean, np.where(scale < 1e-6, 1, scale).astype(np.float32)


def save_head(head: Head, path: Path) -> None:
    """Writes a head as safetensors."""
    tensors = {"mean": head.mean, "scale": head.scale}
    for index, (weight, bias) in enumerate(head.layers):
        tensors |= {f"layers.{index}.weight": weight, f"layers.{index}.bias": bias}
    if head.find:
        tensors |= {"find.weight": head.find[0], "find.bias": head.find[1]}
    with replacing(path) as beside:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, beside)


def load_head(path: Path) -> Head:
    """Reads a head written by `save_head`."""
    tensors = load_file(path)
    count = sum(name.startswith("layers.") and name.endswith(".weight") for name in tensors)
    layers = tuple((tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in range(count))
    find = (tensors["find.weight"], tensors["find.bias"]) if "find.weight" in tensors else None
    return Head(tensors["mean"], tensors["scale"], layers, find)


def _ridge_layers(model: Ridge) -> Layers:
    weight = np.atleast_2d(model.coef_).astype(np.float32)
    return ((weight, np.atleast_1d(model.intercept_).astype(np.float32)),)


def choose_ridge(data: HeadData) -> Ridge:
    """Fits ridge regressions on standardised columns, where alpha is in articles, and chooses one on validation."""
    models = [_ridge(data, alpha) for alpha in RIDGE_ALPHAS]
    return models[simplest([absolute_errors(model.predict(data.val_x), data.val_y) for model in models])]


def _ridge(data: HeadData, alpha: float) -> Ridge:
    model = Ridge(alpha=alpha, solver="cholesky")
    return model.fit(data.train_x.astype(np.float64), data.train_y, sample_weight=data.article_weights)


def _fit_mlp(
    data: HeadData, hidden: Sequence[int], training: HeadTraining, seed: int, progress: Progress | None
) -> tuple[Layers, int]:
    """An MLP trained by Adam on squared error, labels centred for a calm start; and the epochs that were best for it.

    It is stopped early on validation MAE, or with a plan after the plan's epochs.
    """
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
    best_mae, best_epoch = np.inf, 0
    epochs = data.plan.epochs if data.plan else training.epochs
    if progress:
        progress.start(epochs, 0)
    for epoch in range(1, epochs + 1):
        model.partial_fit(data.train_x, np.squeeze(data.train_y - offset), sample_weight=data.article_weights)
        layers = _layers(model, offset)
        if progress:
            progress.step(float(model.loss_))
        if data.plan:
            best, best_epoch = layers, epoch
            continue
        mae = float(absolute_errors(Head(zero, one, layers).predict(data.val_x), data.val_y).mean())
        if progress:
            progress.epoch(mae)
        if mae < best_mae - NEGLIGIBLE:
            best_mae, best, best_epoch = mae, layers, epoch
        if epoch - best_epoch >= training.patience:
            break
    return best, best_epoch


def _layers(model: MLPRegressor, offset: Matrix) -> Layers:
    fitted = zip(model.coefs_, model.intercepts_, strict=True)
    pairs = [(weight.T.astype(np.float32), bias.astype(np.float32)) for weight, bias in fitted]
    weight, bias = pairs[-1]
    return (*pairs[:-1], (weight, (bias + offset).astype(np.float32)))


def absolute_errors(predicted: NDArray[np.floating], labels: Matrix) -> NDArray[np.float64]:
    """How far predictions are from labels, in the labels' shape (N, D)."""
    errors: NDArray[np.float64] = np.abs(np.asarray(predicted, np.float64).reshape(labels.shape) - labels)
    return errors
