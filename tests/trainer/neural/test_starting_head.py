"""The head with which fine-tuning begins: what a linear head can know of an encoder's states as they are."""

import numpy as np
import pytest

pytest.importorskip("torch")

from distillery_runtime.tokens.window import TokenIds
from distillery_trainer.models import hl_gauss
from distillery_trainer.neural.batches import TrainingRows
from distillery_trainer.neural.starting_head import Floats, Linear, softmax_regression

GROUPS = 3
BINS = len(hl_gauss.centres())


def shares(head: Linear, states: Floats, dimensions: int) -> Floats:
    weight, bias = head
    return hl_gauss.softmax((states @ weight.T + bias).reshape(len(states), dimensions, BINS))


def rows(labels: Floats, val_labels: Floats, weights: Floats | None = None) -> TrainingRows:
    ids = [TokenIds(np.zeros(1, np.int64), truncated=False)] * len(labels)
    return TrainingRows(ids, labels, ids[: len(val_labels)], val_labels, weights)


def test_a_head_of_bins_gives_each_kind_of_article_the_distribution_of_its_labels() -> None:
    kind = np.arange(2400) % GROUPS
    around = np.arange(2400) // GROUPS % 3  # 0, 1, 2: one number alone has the least error
    labels = np.stack([2.0 * kind + around, np.full(2400, 7.0)], axis=1).astype(np.float32)
    states = np.eye(GROUPS, dtype=np.float32)[kind]

    found = shares(softmax_regression(states, states, rows(labels, labels)), np.eye(GROUPS, dtype=np.float32), 2)

    for number in range(GROUPS):
        expected = hl_gauss.targets(labels[kind == number]).mean(axis=0)
        assert np.abs(found[number] - expected).max() < 0.02
    assert found[:, 0] @ hl_gauss.centres() == pytest.approx([1, 3, 5], abs=0.1)


def test_a_label_that_does_not_count_teaches_a_head_of_bins_nothing() -> None:
    states = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    labels = np.clip(5 + 2 * states[:, :2], 0, 10)
    weights = np.ones_like(labels)
    weights[::2, 1] = 0
    other = labels.copy()
    other[::2, 1] = 9

    one, two = (softmax_regression(states, states[1::2], rows(some, labels[1::2], weights)) for some in (labels, other))

    np.testing.assert_array_equal(one[0], two[0])
    assert np.abs(shares(one, states, 2) @ hl_gauss.centres() - labels)[1::2].mean() < 0.7


@pytest.mark.parametrize("seed", range(5))
def test_states_that_say_nothing_leave_a_head_of_bins_near_the_best_constant(seed: int) -> None:
    random = np.random.default_rng(seed)
    states, unseen = random.normal(size=(2, 300, 60)).astype(np.float32)
    labels = random.choice([0, 2, 8], size=(300, 1)).astype(np.float32)

    head = softmax_regression(states, unseen, rows(labels, random.permutation(labels)))

    constant = hl_gauss.targets(labels).mean(axis=0)[0]
    assert np.abs(shares(head, unseen, 1)[:, 0] - constant).max() < 0.1
