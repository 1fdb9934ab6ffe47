"""A layer that filters share: the same by the same seed, taught by the labels there are, several networks as one."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from distillery_trainer.models import joint_heads  # noqa: E402  # needs torch
from distillery_trainer.models.heads import Layers  # noqa: E402
from distillery_trainer.models.joint_heads import Targets, Taught, fit_heads, targets_of  # noqa: E402
from distillery_trainer.neural import shared_layer  # noqa: E402

COUNT = 90
INPUTS = np.random.default_rng(4).standard_normal((COUNT, 12)).astype(np.float32)


@pytest.fixture(autouse=True)
def _few_steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint_heads, "FEWEST_STEPS", 200)
        yield


def taught(rows: NDArray[np.int64], column: int) -> Taught:
    """A filter whose one dimension is high where an input is, and whose finds are the third with the highest."""
    values = INPUTS[rows, column]
    labels = (5 + 2 * values)[:, None].astype(np.float32)
    return Taught(rows, labels, np.ones_like(labels), 2 * (values - np.quantile(values, 2 / 3)).astype(np.float64))


@pytest.fixture(scope="module")
def two() -> list[Taught]:
    """Two filters, whose articles overlap."""
    return [taught(np.arange(60), 0), taught(np.arange(30, COUNT), 1)]


def answers(layers: Layers) -> NDArray[np.float32]:
    (weight, bias), (last, offset) = layers
    return np.maximum(INPUTS @ weight.T + bias, 0) @ last.T + offset


def test_each_filters_head_learns_its_own_question(two: list[Taught]) -> None:
    heads = fit_heads(INPUTS, two, seed=0)

    for head, own, column in zip(heads, two, (0, 1), strict=True):
        raw = head.predict(INPUTS)
        assert raw.shape == (COUNT, 2)
        for output in (0, 1):  # also on the articles that the filter has no labels for
            assert np.corrcoef(raw[:, output], INPUTS[:, column])[0, 1] > 0.9
        assert np.abs(raw[own.rows, 0] - own.labels[:, 0]).mean() < 1


def test_the_same_seed_gives_the_same_network_and_leaves_torchs_own_generator_alone(two: list[Taught]) -> None:
    targets = targets_of(COUNT, two)
    state = torch.random.get_rng_state()

    first, again, other = (shared_layer.fit_layers(INPUTS, targets, seed) for seed in (3, 3, 4))

    assert answers(first).tobytes() == answers(again).tobytes()
    assert not np.allclose(answers(first), answers(other))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_value_that_counts_nothing_teaches_nothing(two: list[Taught]) -> None:
    targets = targets_of(COUNT, two)
    other = replace(targets, values=np.where(targets.counts == 0, 1, targets.values))

    found, expected = (answers(shared_layer.fit_layers(INPUTS, one, 0)) for one in (other, targets))

    assert found.tobytes() == expected.tobytes()


def test_several_networks_side_by_side_answer_with_their_mean(
    two: list[Taught], monkeypatch: pytest.MonkeyPatch
) -> None:
    targets: Targets = targets_of(COUNT, two)
    whole = shared_layer.fit_layers(INPUTS, targets, 0)
    monkeypatch.setattr(shared_layer, "BAG", 1)

    alone = [answers(shared_layer.fit_layers(INPUTS, targets, seed)) for seed in range(4)]

    np.testing.assert_allclose(answers(whole), np.mean(alone, axis=0), atol=1e-5)


def test_a_filter_without_finds_enough_has_no_find_logit(two: list[Taught]) -> None:
    few = replace(two[1], margins=np.where(np.arange(60) < 4, 1.0, -5.0))

    heads = fit_heads(INPUTS, [two[0], few], seed=0)

    assert [head.predict(INPUTS).shape[1] for head in heads] == [2, 1]


def test_what_is_left_of_a_filter_keeps_its_labels(two: list[Taught]) -> None:
    chosen = np.array([80, 31, 5])

    found = two[1].among(chosen)

    assert found.rows.tolist() == [1, 0]
    assert found.labels.tolist() == two[1].labels[[1, 50]].tolist()
