"""Word weights: what a ridge on two views of a text says, as one weight for each token."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from distillery_trainer.models import word_weights as module
from distillery_trainer.models.heads import FIND_BARS
from distillery_trainer.models.protocol import FitData
from distillery_trainer.models.word_weights import WordWeights, fit_words

TOKENS, WIDTH = 40, 24
ROUNDING = 0.06  # of int8 weights, over a text of a few tokens, in score points

Ids = list[NDArray[np.int64]]


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float32]:
    """A table in which token 2k + 1 means nearly what token 2k means, and which does not know token 0."""
    rng = np.random.default_rng(0)
    meanings = np.repeat(rng.normal(size=(TOKENS // 2, WIDTH)), 2, axis=0)
    table = (meanings + 0.02 * rng.normal(size=meanings.shape)).astype(np.float32)
    table[0] = 0
    return table


def texts(count: int, tokens: NDArray[np.int64], seed: int) -> Ids:
    rng = np.random.default_rng(seed)
    return [rng.choice(tokens, size=rng.integers(3, 12)) for _ in range(count)]


def margins(labels: NDArray[np.floating]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = labels[:, 0].astype(np.float64) - 5
    return found


def taught(ids: Ids) -> FitData:
    """Labels by how often tokens 10 and 20 occur; finds are those whose first label is 5 and above."""
    labels = np.array([[5 * (own == 10).mean() * 4, 2 + 8 * (own == 20).mean()] for own in ids], np.float32)
    return FitData([""] * len(ids), labels, [], labels[:0], find_of=margins)


@pytest.fixture(scope="module")
def ids() -> Ids:
    return texts(400, np.arange(0, TOKENS, 2), seed=1)


def test_weights_of_tokens_say_what_the_ridge_says(
    rows: NDArray[np.float32], ids: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folding the ridge's coefficients into one weight a token changes nothing but for the rounding to int8."""
    seen = []
    fit = module._ridge
    monkeypatch.setattr(module, "_ridge", lambda *given: seen.append((given[0], fit(*given))) or seen[-1][1])

    found = fit_words(ids, rows, taught(ids)).predict(ids)

    features, scores = seen[0]
    _, finds = seen[1]
    expected = np.concatenate([scores.predict(features), finds.predict(features)[:, None]], axis=1)
    np.testing.assert_allclose(found, expected, atol=ROUNDING)


def test_both_views_have_a_length_of_one_half_on_average(rows: NDArray[np.float32], ids: Ids) -> None:
    features = module._Features.of(module._counts(ids, rows), rows).values.toarray()

    assert np.square(features[:, :WIDTH]).sum(axis=1).mean() == pytest.approx(0.5)
    assert np.square(features[:, WIDTH:]).sum(axis=1).mean() == pytest.approx(0.5)


def test_a_token_that_no_label_has_met_weighs_like_one_of_its_meaning(rows: NDArray[np.float32], ids: Ids) -> None:
    words = fit_words(ids, rows, taught(ids))

    unmet = np.arange(1, TOKENS, 2)
    found = words.predict([np.array([token]) for token in unmet])[:, :2]

    assert unmet[found.argmax(axis=0)].tolist() == [11, 21]  # like 10 and 20, which the labels go by


def test_finds_rank_above_others_on_texts_not_learnt_from(rows: NDArray[np.float32], ids: Ids) -> None:
    new = texts(300, np.arange(0, TOKENS, 2), seed=2)

    ranks = fit_words(ids, rows, taught(ids)).predict(new)[:, 2]

    assert average_precision_score(margins(taught(new).train_labels) >= 0, ranks) > 0.9


def test_without_finds_to_learn_from_there_is_no_find_column(rows: NDArray[np.float32], ids: Ids) -> None:
    data = taught(ids)

    assert fit_words(ids, rows, replace(data, find_of=None)).table.shape == (TOKENS, 2)
    assert fit_words(ids, rows, replace(data, find_of=lambda labels: margins(labels) - 90)).table.shape == (TOKENS, 2)


def test_labels_that_count_next_to_nothing_teach_nothing(rows: NDArray[np.float32], ids: Ids) -> None:
    """The second half of the texts say the contrary: of scores, and of what is a find."""
    data, again = taught(ids), [*ids, *ids]
    labels = np.concatenate([data.train_labels, 10 - data.train_labels])
    counts = np.repeat([[1.0], [1e-6]], len(ids), axis=0).astype(np.float32) * np.ones((1, 2), np.float32)
    both = FitData([""] * len(again), labels, [], labels[:0], counts, find_of=margins)

    found = fit_words(again, rows, both).predict(ids)

    np.testing.assert_allclose(found[:, :2], fit_words(ids, rows, data).predict(ids)[:, :2], atol=0.5)
    assert average_precision_score(margins(data.train_labels) >= 0, found[:, 2]) > 0.9


def test_the_find_column_learns_how_many_bars_are_reached_and_how_far_a_find_is() -> None:
    found = module._find_target(np.array([-3, -1, -0.6, -0.5, 0, 0.5, 2]), FIND_BARS)

    np.testing.assert_allclose(found, [0, 0.5, 0.9, 1.5, 2.5, 3.5, 5])


@pytest.mark.parametrize(("near", "expected"), [
    ([True, False, False, False, False], [5 / 3, 5 / 6, 5 / 6, 5 / 6, 5 / 6]),  # sqrt(4 to 1) is twice as much
    ([True] * 5, [1.0] * 5),
    ([False] * 5, [1.0] * 5),
])  # fmt: skip
def test_articles_near_to_a_find_count_by_how_rare_they_are(near: list[bool], expected: list[float]) -> None:
    np.testing.assert_allclose(module._balance(np.array(near)), expected)


def test_where_all_are_near_to_a_find_there_is_a_find_column(rows: NDArray[np.float32], ids: Ids) -> None:
    data = replace(taught(ids), find_of=lambda labels: np.where(margins(labels) >= 0, 1.0, -0.3))

    found = fit_words(ids, rows, data).predict(ids)

    assert average_precision_score(margins(data.train_labels) >= 0, found[:, 2]) > 0.9


def test_tokens_of_very_few_or_of_most_texts_have_no_weight_of_their_own(rows: NDArray[np.float32]) -> None:
    texts_of = {2: 2, 4: 3, 6: 8, 8: 9}  # token: how many of the twenty texts it is in
    ids = [np.array([20, *(token for token, count in texts_of.items() if place < count)]) for place in range(20)]

    assert module._Features.of(module._counts(ids, rows), rows).own.tolist() == [4, 6]


@given(st.lists(st.lists(st.integers(0, TOKENS - 1), max_size=9), max_size=5))
def test_a_text_depends_on_no_other_and_may_be_empty(some: list[list[int]]) -> None:
    words = WordWeights.of(np.arange(TOKENS * 2.0).reshape(TOKENS, 2), np.array([1.0, -1.0]))
    every = [np.array(own, np.int64) for own in some]

    together = words.predict(every)

    assert together.shape == (len(some), 2)
    assert all(np.array_equal(row, words.predict([own])[0]) for row, own in zip(together, every, strict=True))
    assert all(np.array_equal(row, words.bias) for row, own in zip(together, every, strict=True) if not len(own))


def test_what_is_saved_is_read_again(rows: NDArray[np.float32], ids: Ids, tmp_path: Path) -> None:
    words = fit_words(ids, rows, taught(ids))

    words.save(tmp_path / "words.safetensors")

    np.testing.assert_array_equal(WordWeights.load(tmp_path / "words.safetensors").predict(ids), words.predict(ids))


def test_texts_without_a_known_token_leave_the_mean(rows: NDArray[np.float32]) -> None:
    unknown = [np.zeros(4, np.int64)] * 12
    labels = np.arange(24, dtype=np.float32).reshape(12, 2) / 3

    words = fit_words(unknown, rows, FitData([""] * 12, labels, [], labels[:0]))

    np.testing.assert_allclose(words.predict(unknown), np.tile(labels.mean(axis=0), (12, 1)), atol=1e-3)
