"""Training a token table with its head: the gradient, what moves and what stays, and when it ends."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from distillery_runtime.spec.model import HeadTraining
from distillery_trainer.models import static_tuning
from distillery_trainer.models.heads import Head
from distillery_trainer.models.protocol import HeadPlan
from distillery_trainer.models.static_tuning import Tuned, Words, count_tokens, tune

RNG = np.random.default_rng(0)
TABLE = np.concatenate([np.zeros((1, 4)), RNG.normal(size=(9, 4))]).astype(np.float32)
HEAD = Head(
    RNG.normal(scale=0.1, size=4).astype(np.float32), np.array([0.5, 1, 2, 1], np.float32),
    ((RNG.normal(size=(5, 4)).astype(np.float32), np.full(5, 0.3, np.float32)),
     (RNG.normal(size=(2, 5)).astype(np.float32), np.array([4, 6], np.float32))),
)  # fmt: skip
TRAINING = HeadTraining(epochs=40, patience=40, learning_rate=0.02, batch_size=8)


class Heard:
    """Remembers what a training said."""

    def __init__(self) -> None:
        self.total, self.losses, self.errors = 0, list[float](), list[float]()

    def start(self, total_steps: int, done: int) -> None:
        self.total = total_steps

    def step(self, loss: float) -> None:
        self.losses.append(loss)

    def epoch(self, val_mae: float) -> None:
        self.errors.append(val_mae)


def counted(rows: Sequence[Sequence[int]]) -> csr_array:
    return count_tokens([np.array(row, np.int64) for row in rows], TABLE)


def about_words(weights: Sequence[float] | None = None) -> Words:
    """Articles whose scores are a matter of one word, 5 or 6, among words that say nothing."""
    rows = [[5 + i % 2, *RNG.integers(1, 5, size=3)] for i in range(48)]
    labels = np.array([[2, 8] if i % 2 else [9, 1] for i in range(48)], np.float32)
    counts = np.ones(32, np.float32) if weights is None else np.array(weights, np.float32)
    return Words(
        counted(rows[:32]), labels[:32], counted(rows[32:]), labels[32:], np.repeat(counts[:, None], 2, axis=1)
    )


def error(tuned: Tuned, counts: csr_array, labels: np.ndarray) -> float:
    pooled = counts @ tuned.table
    unit = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    return float(np.abs(tuned.head.predict(unit.astype(np.float32)) - labels).mean())


@pytest.fixture
def nothing_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_tuning, "WORD_DROPOUT", 0.0)
    monkeypatch.setattr(static_tuning, "UNIT_DROPOUT", 0.0)


@pytest.mark.usefixtures("nothing_left_out")
@pytest.mark.parametrize("row", [1, 3, 9])
def test_a_rows_gradient_is_that_of_the_huber_error(row: int) -> None:
    counts, labels = counted([[1, 2, 3, 3], [3, 4, 9], [1, 9, 9, 9, 5]]), np.array([[4, 9], [1, 6], [7, 2]], np.float32)
    weights = np.array([[1, 2], [0.5, 1], [1, 3]], np.float32)

    def loss(table: np.ndarray) -> float:
        pooled = counts @ table
        unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        values = np.maximum((unit - HEAD.mean) / HEAD.scale @ HEAD.layers[0][0].T + HEAD.layers[0][1], 0)
        off = np.abs(values @ HEAD.layers[1][0].T + HEAD.layers[1][1] - labels)
        return float((weights * np.where(off < 1, off**2 / 2, off - 0.5)).mean())

    network = static_tuning._Network(TABLE, HEAD, TRAINING, np.random.default_rng(0))
    heard = network.step(counts, labels, weights)

    assert heard == pytest.approx(loss(TABLE.astype(np.float64)), rel=1e-5)
    for column in range(4):
        moved = np.zeros((10, 4))
        moved[row, column] = 1e-5
        expected = (loss(TABLE + moved) - loss(TABLE - moved)) / 2e-5
        assert network.table.first[row, column] * 10 == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_only_rows_that_occur_move() -> None:
    network = static_tuning._Network(TABLE, HEAD, TRAINING, np.random.default_rng(0))

    network.step(counted([[0, 1, 2], [2, 2, 7]]), np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32))

    still = (network.table.values == TABLE).all(axis=1)
    assert still[[0, 3, 4, 5, 6, 8, 9]].all()
    assert not still[[1, 2, 7]].all()


def test_a_word_learns_what_its_first_vector_did_not_say() -> None:
    table = TABLE.copy()
    table[6] = table[5]  # frozen, the two words that decide are one
    words = about_words()

    tuned = tune(table, words, (8,), TRAINING, 0, None)

    constant = np.abs(words.val_labels - words.train_labels.mean(axis=0)).mean()
    assert error(tuned, words.val, words.val_labels) < 0.4 * constant


def test_the_best_epoch_is_kept_and_training_ends_after_it() -> None:
    words, heard = about_words(), Heard()

    tuned = tune(TABLE, words, (8,), TRAINING.model_copy(update={"patience": 3}), 0, heard)

    assert error(tuned, words.val, words.val_labels) == pytest.approx(min(heard.errors), abs=1e-5)
    assert len(heard.errors) == 40 or min(heard.errors[-3:]) > min(heard.errors)
    assert heard.total == 160
    assert heard.losses[-1] < heard.losses[0]


def test_what_is_kept_is_a_mean_over_epochs_that_forgets_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    words = about_words()

    def after(epochs: int) -> Tuned:
        return tune(TABLE, replace(words, plan=HeadPlan("tuned", 1.0, epochs)), (8,), TRAINING, 0, None)

    kept = after(7)
    monkeypatch.setattr(static_tuning, "AVERAGED_EPOCHS", 1)
    each = [after(epochs) for epochs in range(1, 8)]  # without a mean, what every epoch ended with

    for of in (lambda tuned: tuned.table, lambda tuned: tuned.head.layers[0][0], lambda tuned: tuned.head.layers[1][1]):
        mean = np.mean([of(tuned) for tuned in each[:5]], axis=0)
        for tuned in each[5:]:
            mean = 0.8 * mean + 0.2 * of(tuned)
        np.testing.assert_allclose(of(kept), mean, atol=1e-6)
    assert kept.epochs == 7


def test_articles_count_by_their_weight() -> None:
    words = about_words([1e-6 if i % 2 else 1 for i in range(32)])

    tuned = tune(TABLE, words, (8,), TRAINING, 0, None)

    of_one_kind = words.val_labels[:, 0] == 9
    assert error(tuned, words.val[of_one_kind], words.val_labels[of_one_kind]) < 1
    assert error(tuned, words.val[~of_one_kind], words.val_labels[~of_one_kind]) > 3


def test_the_seed_decides() -> None:
    words = about_words()

    first, again, other = (tune(TABLE, words, (8,), TRAINING, seed, None) for seed in (1, 1, 2))

    assert np.array_equal(first.table, again.table)
    assert not np.array_equal(first.table, other.table)


def test_an_article_without_a_known_word_is_no_obstacle() -> None:
    labels = np.full((3, 2), 5, np.float32)
    words = Words(counted([[], [0, 0], [1, 5]]), labels, counted([[]]), labels[:1], np.ones_like(labels))

    tuned = tune(TABLE, words, (8,), TRAINING, 0, None)

    assert np.isfinite(tuned.table).all()
    assert not tuned.table[0].any()
