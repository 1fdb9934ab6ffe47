"""Heads: a ridge or an MLP on embeddings, whichever is better on validation, the same after a round trip."""

import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neural_network import MLPRegressor

from distillery_runtime.spec.model import HeadTraining
from distillery_trainer.models import heads
from distillery_trainer.models.heads import (
    FEWEST_FINDS,
    FittedHead,
    Head,
    HeadData,
    common_plan,
    fit_find,
    fit_head,
    load_head,
    save_head,
    standardised,
)
from distillery_trainer.models.protocol import HeadPlan

FLOAT32 = 2e-4  # on scores up to 10: scikit-learn trains in another precision than the head keeps
QUICK = HeadTraining(epochs=4, patience=4, batch_size=32)


def linear_data(seed: int = 0, dimensions: int = 2) -> HeadData:
    """Labels that are a linear function of embeddings, and a little noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(3, [1, 5, 0.1, 1, 1, 1], size=(260, 6)).astype(np.float32)
    y = ((x - 3) / [1, 5, 0.1, 1, 1, 1]) @ rng.normal(size=(6, dimensions)) + 5 + rng.normal(0, 0.1, (260, dimensions))
    return HeadData(x[:200], y[:200].astype(np.float32), x[200:], y[200:].astype(np.float32))


def folded_data(rows: int = 2400) -> HeadData:
    """Labels that a linear function knows nothing of: the sizes of the embedding's coordinates."""
    x = np.random.default_rng(1).normal(size=(rows, 3)).astype(np.float32)
    y = (np.abs(x[:, :2]) * 4).astype(np.float32)
    return HeadData(x[:-200], y[:-200], x[-200:], y[-200:])


@pytest.fixture
def sklearn_models(monkeypatch: pytest.MonkeyPatch) -> list[MLPRegressor]:
    """The MLPs of scikit-learn that are made while the test runs."""
    made = []

    def make(*args: Any, **kwargs: Any) -> MLPRegressor:  # Any: passed on
        made.append(MLPRegressor(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(heads, "MLPRegressor", make)
    return made


def test_on_linear_data_the_ridge_wins() -> None:
    fitted = fit_head(linear_data(), (16,), QUICK, 0)

    assert fitted.kind == "ridge"
    assert fitted.val_mae["ridge"] < 0.15


def test_on_folded_data_the_mlp_wins() -> None:
    fitted = fit_head(folded_data(), (16,), HeadTraining(epochs=20, learning_rate=0.01), 0)

    assert fitted.kind == "mlp"
    assert fitted.val_mae["mlp"] < 0.5 * fitted.val_mae["ridge"]


@pytest.mark.parametrize("data", [linear_data(), folded_data(400)], ids=["linear", "folded"])
def test_the_kept_head_has_the_lower_validation_error_and_it_is_its_own(data: HeadData) -> None:
    fitted = fit_head(data, (16,), QUICK, 0)

    error = float(np.abs(fitted.head.predict(data.val_x) - data.val_y).mean())
    assert fitted.val_mae[fitted.kind] == min(fitted.val_mae.values()) == pytest.approx(error, abs=1e-6)


def test_the_head_predicts_what_scikit_learns_mlp_predicts(sklearn_models: list[MLPRegressor]) -> None:
    data = folded_data()
    one_epoch = HeadTraining(epochs=1, learning_rate=0.01)  # so that the model's last weights are those kept

    fitted = fit_head(data, (16, 8), one_epoch, 0)

    mean, scale = data.train_x.mean(axis=0), data.train_x.std(axis=0)
    theirs = sklearn_models[0].predict((data.val_x - mean) / scale) + data.train_y.mean(axis=0)
    assert fitted.kind == "mlp"
    assert np.abs(fitted.head.predict(data.val_x) - theirs).max() < FLOAT32


def test_the_epoch_with_the_lowest_validation_error_is_kept() -> None:
    heard = Heard()

    fitted = fit_head(folded_data(300), (64,), HeadTraining(epochs=60, patience=5, learning_rate=0.1), 0, heard)

    assert fitted.val_mae["mlp"] == pytest.approx(min(heard.val_maes), abs=1e-6)


def test_training_stops_when_patience_is_spent() -> None:
    heard = Heard()

    fit_head(folded_data(300), (64,), HeadTraining(epochs=500, patience=3, learning_rate=0.1), 0, heard)

    best = int(np.argmin(heard.val_maes))
    assert len(heard.val_maes) == best + 1 + 3 < 500


def test_progress_hears_the_most_epochs_there_can_be() -> None:
    heard = Heard()

    fit_head(linear_data(), (4,), QUICK, 0, heard)

    assert heard.total == QUICK.epochs
    assert len(heard.losses) == len(heard.val_maes)


@pytest.mark.parametrize("dimensions", [1, 3])
@pytest.mark.parametrize("hidden", [(), (4,), (8, 4)])
def test_any_number_of_dimensions_and_hidden_layers_gives_one_column_each(
    dimensions: int, hidden: tuple[int, ...]
) -> None:
    data = linear_data(dimensions=dimensions)

    fitted = fit_head(data, hidden, QUICK, 0)

    assert fitted.head.predict(data.val_x).shape == (60, dimensions)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 6), min_size=2, max_size=5))
def test_a_saved_head_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, seed: int, sizes: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    layers = tuple(
        (rng.normal(size=(after, before)).astype(np.float32), rng.normal(size=after).astype(np.float32))
        for before, after in pairwise(sizes)
    )
    head = Head(rng.normal(size=sizes[0]).astype(np.float32), np.ones(sizes[0], np.float32), layers)
    path = tmp_path_factory.mktemp("head") / "head.safetensors"

    save_head(head, path)

    loaded = load_head(path)
    flat = [head.mean, head.scale, *(part for layer in head.layers for part in layer)]
    again = [loaded.mean, loaded.scale, *(part for layer in loaded.layers for part in layer)]
    assert [part.tobytes() for part in again] == [part.tobytes() for part in flat]


def test_the_scores_of_a_row_do_not_depend_on_the_rows_beside_it() -> None:
    data = linear_data()
    head = fit_head(data, (16,), QUICK, 0).head

    one_by_one = np.concatenate([head.predict(row[None]) for row in data.val_x])

    assert np.abs(one_by_one - head.predict(data.val_x)).max() < FLOAT32


def test_a_column_that_never_changes_does_no_harm() -> None:
    data = linear_data()
    data.train_x[:, 0] = data.val_x[:, 0] = 7

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        fitted = fit_head(data, (4,), QUICK, 0)

    assert np.isfinite(fitted.head.predict(data.val_x)).all()


def test_the_same_seed_gives_the_same_head_and_another_seed_another(tmp_path: Path) -> None:
    def saved(seed: int, name: str) -> bytes:
        fitted: FittedHead = fit_head(folded_data(600), (16,), HeadTraining(epochs=3, learning_rate=0.01), seed)
        save_head(fitted.head, tmp_path / name)
        return (tmp_path / name).read_bytes()

    first, again, other = saved(1, "a"), saved(1, "b"), saved(2, "c")

    assert first == again != other


class Heard:
    """Keeps what a progress bar would show."""

    def __init__(self) -> None:
        self.total = 0
        self.losses: list[float] = []
        self.val_maes: list[float] = []

    def start(self, total_steps: int, done: int) -> None:
        self.total = total_steps

    def step(self, loss: float) -> None:
        self.losses.append(loss)

    def epoch(self, val_mae: float) -> None:
        self.val_maes.append(val_mae)


def test_either_head_answers_with_the_weighted_mean_where_embeddings_say_nothing() -> None:
    x = np.random.default_rng(2).normal(size=(80, 3)).astype(np.float32)
    y = np.tile([[2.0], [8.0]], (40, 1)).astype(np.float32)
    weights = np.tile([[1.0], [9.0]], (40, 1)).astype(np.float32)
    data = HeadData(x, y, x, np.full_like(y, 7.4), weights)  # (2 + 9 * 8) / 10

    fitted = fit_head(data, (4,), HeadTraining(epochs=60, learning_rate=0.05), 0)

    assert max(fitted.val_mae.values()) < 0.4 < 7.4 - 5


@pytest.mark.parametrize("data", [linear_data(), folded_data(900)], ids=["ridge", "mlp"])
def test_a_head_fitted_by_the_plan_of_another_fit_is_that_fits_head(data: HeadData) -> None:
    training = HeadTraining(epochs=60, patience=5, learning_rate=0.1)
    chosen = fit_head(data, (16,), training, 0)
    planned = replace(data, val_x=data.val_x[:0], val_y=data.val_y[:0], plan=chosen.plan)

    found = fit_head(planned, (16,), training, 0)

    assert found.plan == chosen.plan
    assert chosen.plan.epochs < 60
    assert found.head.scores(data.val_x).tobytes() == chosen.head.scores(data.val_x).tobytes()


def plans(*kinds: str) -> list[HeadPlan]:
    """Plans of these kinds, with penalties of 1, 2, 3 ... and epochs of 10, 20, 30 ..."""
    return [HeadPlan(kind, float(i), 10 * i) for i, kind in enumerate(kinds, 1)]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("ridge", "mlp", "mlp"), HeadPlan("mlp", 2.0, 25)),
        (("tuned", "ridge", "tuned"), HeadPlan("tuned", 2.0, 20)),
        (("mlp", "ridge"), HeadPlan("ridge", 1.5, 20)),
        (("tuned", "mlp", "ridge"), HeadPlan("ridge", 2.0, 30)),
    ],
)
def test_a_common_plan_is_what_most_chose_and_of_equals_the_simplest(
    kinds: tuple[str, ...], expected: HeadPlan
) -> None:
    assert common_plan(plans(*kinds)) == expected


def with_finds(data: HeadData) -> HeadData:
    """The data, a tenth of it finds: those with the highest first label."""
    return replace(data, train_finds=data.train_y[:, 0] - np.quantile(data.train_y[:, 0], 0.9))


def test_a_find_heads_logit_stands_after_the_scores_and_changes_none_of_them() -> None:
    data = linear_data()

    plain, finding = (fit_head(one, (4,), QUICK, 0).head for one in (data, with_finds(data)))

    raw = finding.predict(data.val_x)
    assert raw.shape == (60, 3)
    assert raw[:, :2].tobytes() == plain.predict(data.val_x).tobytes() == finding.scores(data.val_x).tobytes()
    order = np.argsort(-raw[:, 2])
    assert data.val_y[order[:6], 0].min() > np.median(data.val_y[:, 0])


@pytest.mark.parametrize("finds", [0, FEWEST_FINDS - 1, FEWEST_FINDS, 200 - FEWEST_FINDS, 201 - FEWEST_FINDS])
def test_a_find_head_needs_five_finds_and_five_others(finds: int) -> None:
    data = replace(linear_data(), train_finds=np.where(np.arange(200) < finds, 1.0, -2.0))
    _, _, standard = standardised(data)

    assert (fit_find(standard) is None) == (min(finds, 200 - finds) < FEWEST_FINDS)


def test_a_saved_find_head_comes_back_bit_for_bit(tmp_path: Path) -> None:
    data = with_finds(linear_data())
    head = fit_head(data, (4,), QUICK, 0).head

    save_head(head, tmp_path / "head.safetensors")

    assert load_head(tmp_path / "head.safetensors").predict(data.val_x).tobytes() == head.predict(data.val_x).tobytes()
