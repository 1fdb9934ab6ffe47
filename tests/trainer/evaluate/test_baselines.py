"""Baselines: the training mean, and a bag of words with ridge regression."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillery_trainer.evaluate import baselines
from distillery_trainer.models.protocol import FitData

WORDS = ["about", "after", "before", "between", "during", "under"]


def worded(dimensions: int = 1) -> FitData:
    """Texts of common words in which `solar` alone says what the label is."""
    rng = np.random.default_rng(0)
    texts = [" ".join([*rng.choice(WORDS, size=6), "solar" if i % 2 else "football"]) for i in range(60)]
    labels = np.repeat([[9.0] if i % 2 else [1.0] for i in range(60)], dimensions, axis=1).astype(np.float32)
    return FitData(texts[:40], labels[:40], texts[40:], labels[40:])


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_the_constant_is_the_training_mean_for_every_text(seed: int, count: int) -> None:
    labels = np.random.default_rng(seed).uniform(0, 10, size=(7, 3)).astype(np.float32)
    data = FitData(["a"] * 7, labels, [], labels[:0])

    found = baselines.constant(data, ["text"] * count)

    assert found == pytest.approx(np.array([labels.mean(axis=0)] * count), abs=1e-6)


def test_the_best_constant_answers_with_medians_knows_the_share_of_finds_and_selects_nothing() -> None:
    labels = np.array([[0.0], [0.0], [0.0], [9.0]], dtype=np.float32)
    data = FitData(["a"] * 4, labels, [], labels[:0], find_of=is_high)

    found = baselines.constant_decided(data, ["text"] * 2)

    assert found.answers.expected.tolist() == [[2.25]] * 2
    assert found.answers.scores.tolist() == [[0.0]] * 2
    assert found.answers.chance.tolist() == [0.25] * 2
    assert not found.selected.any()


def is_high(labels: np.ndarray) -> np.ndarray:
    """Finds: a first label of 5 and above."""
    margins: np.ndarray = labels[:, 0].astype(np.float64) - 5
    return margins


def test_a_word_that_tells_a_find_is_learned_by_the_finds_own_regression() -> None:
    data = replace(worded(2), find_of=is_high)

    found = baselines.tfidf_ridge(data, ["solar after under", "football after under"])

    assert found.shape == (2, 3)
    assert found[0, 2] > 0 > found[1, 2]


@pytest.mark.parametrize("finds", [0, 4, 36, 40])
def test_of_too_few_finds_or_others_no_regression_is_made(finds: int) -> None:
    data = replace(worded(), find_of=lambda labels: np.where(np.arange(len(labels)) < finds, 1.0, -2.0))

    assert baselines.tfidf_ridge(data, ["solar"]).shape == (1, 1)


@pytest.mark.parametrize("dimensions", [1, 3])
def test_a_word_that_tells_the_label_is_learned(dimensions: int) -> None:
    found = baselines.tfidf_ridge(worded(dimensions), ["solar after under", "football after under"])

    assert found.shape == (2, dimensions)
    assert np.all(found[0] > found[1] + 4)


def test_a_plan_takes_the_penalty_that_was_chosen_on_validation() -> None:
    data = worded(2)

    planned = replace(data, val_texts=[], val_labels=data.val_labels[:0], plan=baselines.tfidf_plan(data))

    np.testing.assert_array_equal(baselines.tfidf_ridge(planned, WORDS), baselines.tfidf_ridge(data, WORDS))


def test_word_weights_are_a_baseline_with_scores_from_0_to_10_and_a_find_column() -> None:
    found = baselines.static(replace(worded(2), find_of=is_high), ["solar after under", "football after under"])

    assert found.shape == (2, 3)
    assert np.all(found[0] > found[1] + 1)
    assert np.all((found[:, :2] >= 0) & (found[:, :2] <= 10))


def test_predictions_stay_inside_0_to_10() -> None:
    found = baselines.tfidf_ridge(worded(), ["solar " * 50, "football " * 50, "", "unheard"])

    assert np.all((found >= 0) & (found <= 10))


def test_the_same_data_gives_the_same_bits() -> None:
    first, second = (baselines.tfidf_ridge(worded(2), WORDS).tobytes() for _ in range(2))

    assert first == second


def test_articles_without_a_word_in_common_do_not_break_the_baseline() -> None:
    # Text without spaces between words, as Chinese or Japanese has it, is one long word to the vectorizer.
    texts = ["太阳能发电厂昨天开业", "足球比赛结果公布", "海上风电价格下降", "市政厅举行音乐会"]
    labels = np.array([[9.0], [1.0], [8.0], [2.0]], dtype=np.float32)

    found = baselines.tfidf_ridge(FitData(texts[:3], labels[:3], texts[3:], labels[3:]), texts)

    assert np.all(np.isfinite(found))
