"""A network with one hidden layer, trained on the outputs of several filters at once, where labels may be missing."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss

from distillery_trainer.models.heads import Layers, Matrix
from distillery_trainer.models.joint_heads import BATCH, Targets, epochs_of
from distillery_trainer.models.protocol import Progress

# Chosen in grouped five-fold on four filters of 800 to 2,200 articles (November 2026), not tuned to any of them.
HIDDEN = 128
BAG = 4  # networks whose outputs are averaged: one alone depends on its seed
INPUT_DROPOUT, HIDDEN_DROPOUT = 0.2, 0.5
LEARNING_RATE, WEIGHT_DECAY, WARMUP = 1e-3, 0.1, 0.1
CHANCE_WEIGHT = 3.0  # of a logit's cross-entropy beside a score's Huber loss
Weights = tuple[Matrix, Matrix, Matrix, Matrix]  # of the hidden layer and of the last: weight and bias each
RAREST = 1e-3  # share at which a logit starts, at least


def fit_layers(inputs: Matrix, targets: Targets, seed: int, progress: Progress | None = None) -> Layers:
    """Trains networks by several seeds and gives their mean as one: their hidden layers side by side.

    Always on one core, where the same seed gives the same network; the products are too small to be shared out.

    Args:
        inputs: (N, H) float32, standardised.
        targets: what they are to give.
        seed: of weights, order and dropout.
        progress: follows the training.

    Returns:
        The hidden layer's and the last layer's weight (out, in) and bias (out,), float32, with a ReLU between them.
    """
    if progress:
        progress.start(BAG * epochs_of(len(inputs)) * -(-len(inputs) // BATCH), 0)
    with _one_core():
        nets = [_train(inputs, targets, seed * BAG + number, progress) for number in range(BAG)]
    weights, biases, last_weights, last_biases = zip(*nets, strict=True)
    last = np.concatenate(last_weights, axis=1) / BAG, np.mean(last_biases, axis=0)
    return (np.concatenate(weights), np.concatenate(biases)), (last[0].astype(np.float32), last[1].astype(np.float32))


@contextmanager
def _one_core() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(inputs: Matrix, targets: Targets, seed: int, progress: Progress | None) -> Weights:
    """One network: the weight and the bias of its hidden layer, then of its last."""
    x, values, counts = (torch.from_numpy(a) for a in (inputs, targets.values, targets.counts))
    is_chance = torch.from_numpy(targets.is_chance)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hidden, last = nn.Linear(inputs.shape[1], HIDDEN), nn.Linear(HIDDEN, values.shape[1])
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.copy_(torch.from_numpy(_starts(targets)))
        network = nn.Sequential(nn.Dropout(INPUT_DROPOUT), hidden, nn.ReLU(), nn.Dropout(HIDDEN_DROPOUT), last)
        epochs = epochs_of(len(x))
        steps = epochs * -(-len(x) // BATCH)
        optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps, pct_start=WARMUP)
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(len(x)), BATCH):
                loss = _loss(network(x[rows]), values[rows], counts[rows], is_chance)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
                optimiser.step()
                schedule.step()
                if progress:
                    progress.step(float(loss.detach()))
    first, second, third, fourth = (p.detach().numpy() for layer in (hidden, last) for p in (layer.weight, layer.bias))
    return first, second, third, fourth


def _loss(outputs: Tensor, values: Tensor, counts: Tensor, is_chance: Tensor) -> Tensor:
    """The sum over columns of each label's loss by what it counts, as a mean over the batch."""
    scores = huber_loss(outputs, values, reduction="none")
    chances = CHANCE_WEIGHT * binary_cross_entropy_with_logits(outputs, values.clamp(0, 1), reduction="none")
    return (torch.where(is_chance, chances, scores) * counts).sum() / len(outputs)


def _starts(targets: Targets) -> NDArray[np.float32]:
    """The mean of each column: of a score as it is, of a chance its logit."""
    totals = targets.counts.sum(axis=0)
    means = (targets.values * targets.counts).sum(axis=0) / np.where(totals > 0, totals, 1)
    shares = means.clip(RAREST, 1 - RAREST)
    starts = np.where(targets.is_chance, np.log(shares / (1 - shares)), means)
    return np.asarray(starts, np.float32)
