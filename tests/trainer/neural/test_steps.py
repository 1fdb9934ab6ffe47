"""An optimiser step: its losses, weights, layers' rates, and batches that add up to one."""

# ruff: noqa: E402  # torch is optional: what needs it is imported after the skip

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import Loss, ModelTraining
from distillery_runtime.tokens.window import TokenIds
from distillery_trainer.models import hl_gauss
from distillery_trainer.neural import training as torch_training
from distillery_trainer.neural.batches import Schedule, TrainingRows
from distillery_trainer.neural.bins import BinsRegressor
from distillery_trainer.neural.steps import Batch, Stepper, TrainingPlan, layer_shares, losses
from distillery_trainer.neural.training import train

LOSSES: tuple[Loss, ...] = ("mse", "huber", "hl_gauss")
CENTRES = hl_gauss.centres()
# The same sums in another order, and through other paddings.
ROUNDING = 1e-5


class Bag(torch.nn.Module):
    """The mean of token vectors through a linear layer."""

    def __init__(self, outputs: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.vectors = torch.nn.Embedding(20, 8)
        self.dropout = torch.nn.Dropout(dropout)
        self.head = torch.nn.Linear(8, outputs)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.dropout(self.vectors(input_ids)) * attention_mask.unsqueeze(-1)
        return self.head(states.sum(1) / attention_mask.sum(1, keepdim=True))


def model_for(loss: str) -> torch.nn.Module:
    return BinsRegressor(Bag(2 * len(CENTRES)), CENTRES) if loss == "hl_gauss" else Bag()


@pytest.fixture
def rows() -> TrainingRows:
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, 20, size=int(rng.integers(3, 16))) for _ in range(60)]
    labels = np.array([[(row < 5).mean() * 10, (row > 12).mean() * 10] for row in ids], dtype=np.float32)
    token_ids = [TokenIds(row.astype(np.int64), False) for row in ids]
    weights = rng.uniform(0.2, 3, (45, 2)).astype(np.float32)
    return TrainingRows(token_ids[:45], labels[:45], token_ids[45:], labels[45:], weights)


def batch_of(rows: TrainingRows, places: list[int]) -> Batch:
    return Batch([rows.train_ids[i] for i in places], rows.train_labels[places], rows.weights[places])


def stepped(batches: list[Batch], loss: Loss) -> SimpleNamespace:
    """What one optimiser step by some batches leaves: the loss, and each weight's gradient."""
    model, settings = model_for(loss), ModelTraining(learning_rate=0.01)
    stepper = Stepper(model, TrainingPlan(settings, loss, 1), 10)
    value = stepper.take(3, batches)
    return SimpleNamespace(loss=value, gradients={n: w.grad.clone() for n, w in model.named_parameters()})


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_smallest_at_the_label(loss: Loss) -> None:
    labels = np.array([[2.5], [9.0]], dtype=np.float32)
    at = labels if loss != "hl_gauss" else np.log(hl_gauss.targets(labels) + 1e-12).reshape(2, -1)
    off = at + 1 if loss != "hl_gauss" else np.roll(at, 2, axis=1)

    best, worse = (losses(torch.from_numpy(values), labels, loss) for values in (at, off))

    assert best.shape == worse.shape == (2, 1)
    assert (best < worse - 0.1).all()


def test_a_head_of_bins_gives_logits_in_training_and_their_expectation_otherwise() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 2 * len(CENTRES))).astype(np.float32)
    model = BinsRegressor(SimpleModel(logits), CENTRES)
    unused = torch.zeros(3, 1, dtype=torch.int64)

    raw, scores = model.train()(unused, unused), model.eval()(unused, unused)

    np.testing.assert_array_equal(raw.numpy(), logits)
    expected = hl_gauss.softmax(logits.reshape(3, 2, -1)) @ CENTRES
    np.testing.assert_allclose(scores.numpy(), expected, atol=ROUNDING)


class SimpleModel(torch.nn.Module):
    """Gives the same outputs whatever it is asked."""

    def __init__(self, outputs: np.ndarray) -> None:
        super().__init__()
        self.outputs = torch.from_numpy(outputs)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.outputs


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that does not compute in bfloat16, whose rounding would hide small differences."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("loss", LOSSES)
def test_several_batches_in_a_step_give_the_gradient_of_one_large_batch(rows: TrainingRows, loss: Loss) -> None:
    places = list(range(30))

    large = stepped([batch_of(rows, places)], loss)
    small = stepped([batch_of(rows, part) for part in (places[:7], places[7:11], places[11:])], loss)

    assert small.loss == pytest.approx(large.loss, rel=ROUNDING)
    for name, gradient in large.gradients.items():
        assert gradient.abs().max() > 100 * ROUNDING
        torch.testing.assert_close(small.gradients[name], gradient, atol=ROUNDING, rtol=ROUNDING)


@pytest.mark.parametrize("loss", LOSSES)
def test_an_article_of_weight_two_counts_as_two_articles(rows: TrainingRows, loss: Loss) -> None:
    ids, labels = rows.train_ids[:5], rows.train_labels[:5]
    weights = np.ones((5, 2), dtype=np.float32)
    weights[1] = 2

    weighted = stepped([Batch(ids, labels, weights)], loss)
    twice = stepped([Batch([*ids, ids[1]], np.vstack([labels, labels[1:2]]), np.ones((6, 2), np.float32))], loss)

    assert weighted.loss == pytest.approx(twice.loss, rel=ROUNDING)
    for name, gradient in twice.gradients.items():
        torch.testing.assert_close(weighted.gradients[name], gradient, atol=ROUNDING, rtol=ROUNDING)


@pytest.mark.parametrize("accumulate", [1, 2, 4, 100])
def test_an_epoch_takes_every_article_once_in_steps_of_several_batches(rows: TrainingRows, accumulate: int) -> None:
    settings = ModelTraining(learning_rate=1, epochs=2, batch_tokens=64, accumulate=accumulate)
    schedule = Schedule(rows, TrainingPlan(settings, "mse", 1))

    steps = [schedule.batches(step) for step in range(schedule.per_epoch)]

    assert schedule.total == 2 * schedule.per_epoch
    assert all(len(step) == accumulate for step in steps[:-1])
    assert 1 <= len(steps[-1]) <= accumulate
    seen = sorted(id(row) for step in steps for batch in step for row in batch.ids)
    assert seen == sorted(id(row) for row in rows.train_ids)


def test_a_training_by_bins_learns(rows: TrainingRows, tmp_path: Path) -> None:
    settings = ModelTraining(epochs=20, patience=20, learning_rate=0.1, batch_tokens=64, accumulate=2)

    history = train(model_for("hl_gauss"), rows, settings, "hl_gauss", 1, tmp_path)

    constant = np.abs(rows.val_labels - rows.train_labels.mean(axis=0)).mean()
    assert min(record.val_mae for record in history) < 0.75 * constant


class Stopper:
    """Interrupts a training after some steps."""

    def __init__(self, last: int) -> None:
        self._left = last

    def start(self, total_steps: int, done: int) -> None: ...

    def step(self, loss: float) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt

    def epoch(self, val_mae: float) -> None: ...


@pytest.mark.parametrize("last", [1, 4, 6])
def test_a_stopped_training_with_bins_weights_and_several_batches_a_step_ends_with_the_same_bits(
    rows: TrainingRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    monkeypatch.setattr(torch_training, "CHECKPOINT_STEPS", 2)
    settings = ModelTraining(epochs=3, learning_rate=0.1, batch_tokens=64, accumulate=3, layer_decay=0.5)
    models = [BinsRegressor(Bag(2 * len(CENTRES), dropout=0.3), CENTRES) for _ in range(3)]
    train(models[0], rows, settings, "hl_gauss", 1, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        train(models[1], rows, settings, "hl_gauss", 1, tmp_path / "b", Stopper(last))

    train(models[2], rows, settings, "hl_gauss", 1, tmp_path / "b")

    for expected, found in zip(models[0].parameters(), models[2].parameters(), strict=True):
        assert torch.equal(expected, found)


def test_other_weights_make_another_training(rows: TrainingRows, tmp_path: Path) -> None:
    settings, models = ModelTraining(epochs=1, learning_rate=0.1, batch_tokens=64), [Bag(), Bag()]
    alike = TrainingRows(rows.train_ids, rows.train_labels, rows.val_ids, rows.val_labels)

    for model, chosen in zip(models, (rows, alike), strict=True):
        train(model, chosen, settings, "huber", 1, tmp_path)  # in the same folder: a checkpoint must not be taken over

    assert not torch.equal(models[0].head.weight, models[1].head.weight)


def test_the_rate_falls_layer_by_layer_to_the_embeddings() -> None:
    bert = ["encoder.embeddings.word_embeddings.weight", "encoder.encoder.layer.0.output.dense.weight",
            "encoder.encoder.layer.11.output.dense.weight", "head.weight"]  # fmt: skip
    modern = ["encoder.embeddings.tok_embeddings.weight", "encoder.layers.0.mlp.Wi.weight",
              "encoder.layers.1.mlp.Wi.weight", "encoder.final_norm.weight", "head.bias"]  # fmt: skip

    assert layer_shares(bert, 0.9) == pytest.approx([0.9**13, 0.9**12, 0.9, 1])
    assert layer_shares(modern, 0.5) == pytest.approx([0.125, 0.25, 0.5, 1, 1])
    assert layer_shares(bert, 1.0) == [1, 1, 1, 1]


def test_a_step_moves_lower_layers_less() -> None:
    class Stack(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.encoder = torch.nn.Module()
            self.encoder.embeddings = torch.nn.Embedding(20, 4)
            self.encoder.layer = torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)])
            self.head = torch.nn.Linear(4, 2)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            states = self.encoder.embeddings(input_ids).mean(1)
            for layer in self.encoder.layer:
                states = layer(states)
            return self.head(states)

    model = Stack()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    settings = ModelTraining(learning_rate=0.01, layer_decay=0.5, weight_decay=0.0)
    ids = [TokenIds(np.array([3, 4], dtype=np.int64), False)]
    batch = Batch(ids, np.array([[9.0, 1.0]], np.float32), np.ones((1, 2), np.float32))

    Stepper(model, TrainingPlan(settings, "mse", 1), 1).take(0, [batch])

    # Adam's first step moves every weight with a gradient by the rate.
    moved = {name: float((weight.detach() - before[name]).abs().max()) for name, weight in model.named_parameters()}
    found = [moved[f"{name}.weight"] for name in ("encoder.embeddings", "encoder.layer.0", "encoder.layer.1", "head")]
    assert found == pytest.approx([0.00125, 0.0025, 0.005, 0.01], rel=1e-3)


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize(
    ("place", "value", "found"),
    [((3, 0), -1, "negative or not finite"), ((3, 0), np.nan, "negative or not finite"),
     (np.s_[3, :], 0, "an article or a dimension without a label"),
     (np.s_[:, 1], 0, "an article or a dimension without a label")],
)  # fmt: skip
def test_weights_that_leave_an_article_or_a_dimension_without_labels_are_refused(
    rows: TrainingRows, part: str, place: tuple[int, int], value: float, found: str
) -> None:
    weights = np.ones_like(rows.train_labels if part == "train" else rows.val_labels)
    weights[place] = value

    with pytest.raises(InputError, match=f"{part} weights: .*{found}"):
        replace(rows, **{f"{part}_weights": weights}).check()


@pytest.mark.parametrize("loss", LOSSES)
def test_what_stands_where_there_is_no_label_does_not_matter(loss: Loss) -> None:
    ids = [TokenIds(np.array([number, 4], dtype=np.int64), False) for number in (3, 5)]
    weights = np.array([[1, 0], [0, 2]], np.float32)
    taken = []
    for filler in (0.0, 9.0):
        labels = np.array([[2, filler], [filler, 7]], np.float32)
        model = model_for(loss)

        each = Stepper(model, TrainingPlan(ModelTraining(learning_rate=0.01), loss, 1), 1).take(
            0, [Batch(ids, labels, weights)]
        )

        taken.append((each, [weight.detach().numpy().tobytes() for weight in model.parameters()]))
    assert taken[0] == taken[1]


def test_the_validation_error_counts_the_labels_that_there_are(rows: TrainingRows) -> None:
    weights = np.zeros_like(rows.val_labels)
    weights[0, 0], weights[1:, 1] = 3, 1
    outputs = rows.val_labels.copy()
    outputs[:, 0] += 2

    error = replace(rows, val_weights=weights).error(outputs)

    assert error == pytest.approx(6 / (3 + len(weights) - 1))
