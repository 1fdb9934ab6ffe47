"""Choices between models and penalties: the same on every processor, for equals are told from better ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillery_runtime.spec.model import HeadTraining, StaticSettings, Window
from distillery_trainer.certify import calibrate
from distillery_trainer.evaluate import baselines
from distillery_trainer.models import static
from distillery_trainer.models.heads import RIDGE_ALPHAS, HeadData, choose_ridge, fit_head
from distillery_trainer.models.protocol import FitData
from distillery_trainer.models.selection import is_better, simplest

ROUNDING = 1e-12  # what another order of summing may change, and more

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(1, 60))
def test_of_equals_the_simplest_is_taken_whatever_the_last_bits_are(seed: int, articles: int) -> None:
    random = np.random.default_rng(seed)
    errors = random.uniform(0, 3, (articles, 2))

    alike = [errors + random.uniform(-ROUNDING, ROUNDING, errors.shape) for _ in range(5)]

    assert simplest(alike) == 0


@given(SEEDS)
def test_small_steps_of_progress_add_up_to_a_clear_one(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.3, (10, 400))
    candidates = [1 - 0.01 * place + 0.1 * noise[place] for place in range(10)]

    assert simplest(candidates) > 4


def test_weights_say_which_errors_count() -> None:
    incumbent, candidate = np.ones((50, 2)), np.ones((50, 2))
    candidate[:, 0] -= 0.5
    candidate[:, 1] += 0.9

    assert is_better(candidate, incumbent, np.tile([1.0, 0.0], (50, 1)))
    assert not is_better(candidate, incumbent)


def test_one_article_decides_nothing() -> None:
    assert not is_better(np.zeros(1), np.ones(1))


def heads(labels: np.ndarray, seed: int = 0) -> HeadData:
    states = np.random.default_rng(seed).normal(size=(len(labels), 6)).astype(np.float32)
    half = len(labels) // 2
    return HeadData(states[:half], labels[:half], states[half:], labels[half:])


@pytest.mark.parametrize("level", [0.1, 3.3, 7.7])
def test_where_every_penalty_is_equally_good_ridge_takes_the_strongest(level: float) -> None:
    data = heads(np.full((80, 2), level, np.float32))

    assert choose_ridge(data).alpha == max(RIDGE_ALPHAS)


def test_a_penalty_that_is_clearly_better_is_taken() -> None:
    data = heads(np.zeros((400, 1), np.float32))
    learnable = HeadData(data.train_x, 5 + data.train_x[:, :1], data.val_x, 5 + data.val_x[:, :1])

    assert choose_ridge(learnable).alpha < 30


def test_where_a_line_is_as_good_the_head_is_a_ridge() -> None:
    random = np.random.default_rng(1)
    noise = random.normal(5, 2, size=(300, 2)).astype(np.float32)

    assert fit_head(heads(noise), (8,), HeadTraining(epochs=5), 0).kind == "ridge"


def test_a_table_is_not_trained_where_labels_say_nothing(tmp_path) -> None:
    random = np.random.default_rng(2)
    texts = [" ".join(random.choice(["wind", "sun", "river", "town", "school"], 12)) for _ in range(240)]
    labels = random.normal(5, 1, size=(240, 1)).astype(np.float32)
    settings = StaticSettings(hidden=(8,), training=HeadTraining(epochs=3))

    static.fit(settings, Window(), FitData(texts[:160], labels[:160], texts[160:], labels[160:]), tmp_path, 0, None)

    assert '"kind": "words"' in (tmp_path / "head.json").read_text()


def test_equally_good_penalties_leave_word_counts_the_strongest(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    texts = [" ".join(random.choice(["wind", "sun", "river", "town", "school"], 6)) for _ in range(80)]
    labels = random.normal(5, 1, size=(80, 1)).astype(np.float32)
    data = FitData(texts[:40], labels[:40], texts[40:], labels[40:])
    chosen = baselines.tfidf_ridge(data, texts)

    by_penalty = []
    for alpha in baselines.ALPHAS:
        monkeypatch.setattr(baselines, "ALPHAS", (alpha,))
        by_penalty.append(baselines.tfidf_ridge(data, texts))

    assert [np.array_equal(chosen, one) for one in by_penalty] == [True, False, False, False]


def test_calibration_takes_the_first_of_maps_that_say_the_same() -> None:
    raw = np.linspace(1, 9, 200)[:, None]
    labels = np.clip(raw * 0.5 + 1, 0, 10)
    groups = [str(i) for i in range(200)]

    fitted = calibrate.fit_calibration(raw, labels, groups, ["a"], 0)

    assert fitted.maps[0].method == "affine"
