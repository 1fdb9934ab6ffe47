"""The training loop, on a model of a few hundred weights."""

# ruff: noqa: E402  # torch is optional: what needs it is imported after the skip

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from distillery_runtime.errors import InputError, ModelError
from distillery_runtime.spec.model import ModelTraining
from distillery_runtime.tokens.window import TokenIds
from distillery_trainer.neural import training as torch_training
from distillery_trainer.neural.batches import TrainingRows
from distillery_trainer.neural.group import Group
from distillery_trainer.neural.steps import learning_rate
from distillery_trainer.neural.training import remove_checkpoint, train

SETTINGS = ModelTraining(epochs=4, patience=2, learning_rate=0.05, batch_tokens=64)


class Listener:
    """Keeps what a progress bar would show, and stops the training after `last` steps."""

    def __init__(self, last: int = 10**9) -> None:
        self.losses: list[float] = []
        self.val_maes: list[float] = []
        self.started: tuple[int, int] | None = None
        self._last = last

    def start(self, total_steps: int, done: int) -> None:
        self.started = (total_steps, done)

    def step(self, loss: float) -> None:
        self.losses.append(loss)
        if len(self.losses) == self._last:
            raise KeyboardInterrupt

    def epoch(self, val_mae: float) -> None:
        self.val_maes.append(val_mae)


class Bag(torch.nn.Module):
    """The mean of token vectors, with dropout, through a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.vectors = torch.nn.Embedding(20, 8)
        self.frozen = torch.nn.Parameter(torch.ones(8), requires_grad=False)
        self.dropout = torch.nn.Dropout(0.3)
        self.head = torch.nn.Linear(8, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.dropout(self.vectors(input_ids)) * attention_mask.unsqueeze(-1) * self.frozen
        return self.head(states.sum(1) / attention_mask.sum(1, keepdim=True))


@pytest.fixture
def rows() -> TrainingRows:
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, 20, size=int(rng.integers(3, 16))) for _ in range(60)]
    labels = np.array([[(row < 5).mean() * 10, (row > 12).mean() * 10] for row in ids], dtype=np.float32)
    token_ids = [TokenIds(row.astype(np.int64), False) for row in ids]
    return TrainingRows(token_ids[:45], labels[:45], token_ids[45:], labels[45:])


def weights(model: torch.nn.Module) -> dict[str, bytes]:
    return {name: value.detach().numpy().tobytes() for name, value in model.state_dict().items()}


def undisturbed(rows: TrainingRows, folder: Path) -> dict[str, bytes]:
    model = Bag()
    train(model, rows, SETTINGS, "huber", 1, folder)
    return weights(model)


@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_the_loss_and_the_validation_error_fall(rows: TrainingRows, tmp_path: Path, loss: str) -> None:
    history = train(Bag(), rows, SETTINGS, loss, 1, tmp_path)

    assert history[-1].train_loss < 0.6 * history[0].train_loss
    assert history[-1].val_mae < history[0].val_mae


def test_the_history_holds_every_epoch_and_no_time(rows: TrainingRows, tmp_path: Path) -> None:
    history = train(Bag(), rows, SETTINGS, "huber", 1, tmp_path)

    written = json.loads((tmp_path / "training_history.json").read_text())
    assert set(written) == {"schema_version", "best_epoch", "epochs"}
    assert [set(epoch) for epoch in written["epochs"]] == [{"epoch", "train_loss", "val_mae"}] * len(history)
    assert [epoch["val_mae"] for epoch in written["epochs"]] == [record.val_mae for record in history]


def test_weights_that_are_not_trained_stay(rows: TrainingRows, tmp_path: Path) -> None:
    model = Bag()

    train(model, rows, SETTINGS, "mse", 1, tmp_path)

    assert torch.equal(model.frozen, torch.ones(8))


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(rows: TrainingRows, tmp_path: Path) -> None:
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        model = Bag()
        torch.rand(len(name) + len(runs))  # the caller's random state must not count
        train(model, rows, SETTINGS, "huber", seed, tmp_path / name)
        runs.append(weights(model))

    assert runs[0] == runs[1] != runs[2]


def test_progress_hears_the_total_every_step_and_every_epoch(rows: TrainingRows, tmp_path: Path) -> None:
    listener = Listener()

    history = train(Bag(), rows, SETTINGS, "huber", 1, tmp_path, listener)

    assert listener.started == (len(listener.losses), 0)
    assert listener.val_maes == [record.val_mae for record in history]


def test_training_stops_when_patience_ends_and_gives_the_best_epoch(rows: TrainingRows, tmp_path: Path) -> None:
    opposite = TrainingRows(rows.train_ids, rows.train_labels, rows.train_ids, 10 - rows.train_labels)
    settings = ModelTraining(epochs=30, patience=3, learning_rate=0.05, batch_tokens=64)
    model = Bag()

    history = train(model, opposite, settings, "mse", 1, tmp_path)

    best = min(history, key=lambda record: record.val_mae)
    assert len(history) == best.epoch + 3 < 30
    answers = torch_training.run_in_batches(model.eval(), opposite.val_ids)
    assert np.abs(answers - opposite.val_labels).mean() == pytest.approx(best.val_mae, abs=1e-6)


@pytest.mark.parametrize("checkpoint_steps", [1, 3, 1000])
@pytest.mark.parametrize("last", [1, *(pytest.param(last, marks=pytest.mark.slow) for last in (4, 7)), 20])
def test_a_training_that_was_stopped_ends_with_the_same_bits(
    rows: TrainingRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_steps: int, last: int
) -> None:
    expected = undisturbed(rows, tmp_path / "a")
    monkeypatch.setattr(torch_training, "CHECKPOINT_STEPS", checkpoint_steps)
    with pytest.raises(KeyboardInterrupt):
        train(Bag(), rows, SETTINGS, "huber", 1, tmp_path / "b", Listener(last))
    resumed, listener = Bag(), Listener()

    train(resumed, rows, SETTINGS, "huber", 1, tmp_path / "b", listener)

    assert weights(resumed) == expected
    histories = [(tmp_path / name / "training_history.json").read_bytes() for name in "ab"]
    assert histories[0] == histories[1]
    assert listener.started is not None
    assert listener.started[0] - listener.started[1] == len(listener.losses)


def test_a_checkpoint_is_also_saved_when_its_time_has_come(
    rows: TrainingRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_training, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(torch_training, "CHECKPOINT_REST", 0)
    with pytest.raises(KeyboardInterrupt):
        train(Bag(), rows, SETTINGS, "huber", 1, tmp_path, Listener(4))
    listener = Listener()

    train(Bag(), rows, SETTINGS, "huber", 1, tmp_path, listener)

    assert listener.started is not None
    assert listener.started[1] == 3


def test_a_finished_training_is_not_done_again(rows: TrainingRows, tmp_path: Path) -> None:
    expected = undisturbed(rows, tmp_path)
    model, listener = Bag(), Listener()

    train(model, rows, SETTINGS, "huber", 1, tmp_path, listener)

    assert (weights(model), listener.losses) == (expected, [])


@pytest.mark.parametrize("change", ["seed", "lineage", "labels", "settings", "loss"])
def test_a_checkpoint_of_another_training_is_not_used(rows: TrainingRows, tmp_path: Path, change: str) -> None:
    train(Bag(), rows, SETTINGS, "huber", 1, tmp_path)
    listener = Listener()
    labels = rows.train_labels + np.float32(change == "labels")
    settings = SETTINGS.model_copy(update={"weight_decay": 0.5}) if change == "settings" else SETTINGS

    train(
        Bag(),
        TrainingRows(rows.train_ids, labels, rows.val_ids, rows.val_labels),
        settings,
        "mse" if change == "loss" else "huber",
        2 if change == "seed" else 1,
        tmp_path,
        listener,
        lineage=change if change == "lineage" else "",
    )

    assert listener.started is not None
    assert listener.started[1] == 0
    assert listener.losses


@pytest.mark.parametrize("damage", ["cut", "empty", "no best"])
def test_a_damaged_checkpoint_is_started_anew(rows: TrainingRows, tmp_path: Path, damage: str) -> None:
    expected = undisturbed(rows, tmp_path)
    state = tmp_path / "checkpoint" / "state.safetensors"
    if damage == "no best":
        next((tmp_path / "checkpoint").glob("best-*")).unlink()
    else:
        state.write_bytes(state.read_bytes()[:200] if damage == "cut" else b"")
    model = Bag()

    train(model, rows, SETTINGS, "huber", 1, tmp_path)

    assert weights(model) == expected


def test_only_the_best_epochs_weights_are_kept_beside_the_state(rows: TrainingRows, tmp_path: Path) -> None:
    history = train(Bag(), rows, SETTINGS, "huber", 1, tmp_path)

    best = min(history, key=lambda record: record.val_mae)
    names = sorted(path.name for path in (tmp_path / "checkpoint").iterdir())
    assert names == [f"best-{best.epoch:04d}.safetensors", "state.safetensors"]


def test_a_checkpoint_can_be_removed(rows: TrainingRows, tmp_path: Path) -> None:
    train(Bag(), rows, SETTINGS, "huber", 1, tmp_path)

    remove_checkpoint(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["training_history.json"]


def test_a_loss_that_is_not_finite_stops_the_training(rows: TrainingRows, tmp_path: Path) -> None:
    model = Bag()
    with torch.no_grad():
        model.frozen.fill_(float("nan"))

    with pytest.raises(ModelError, match="not finite"):
        train(model, rows, SETTINGS, "mse", 1, tmp_path)


def test_rows_and_labels_that_do_not_fit_are_all_listed(rows: TrainingRows, tmp_path: Path) -> None:
    bad = rows.train_labels.copy()
    bad[3, 1] = np.nan

    with pytest.raises(InputError) as caught:
        train(Bag(), TrainingRows(rows.train_ids, bad, [], rows.val_labels[:, :1]), SETTINGS, "mse", 1, tmp_path)

    assert [problem.path for problem in caught.value.problems] == ["train labels", "val", "val labels"]


def test_a_step_with_fewer_batches_than_processes_is_refused(
    rows: TrainingRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_training, "join", lambda: Group(0, 2))

    with pytest.raises(InputError, match="accumulate: 1, expected at least 2, a batch of each step for each process"):
        train(Bag(), rows, SETTINGS, "mse", 1, tmp_path)


def test_the_learning_rate_rises_to_its_peak_and_falls_towards_zero() -> None:
    settings = ModelTraining(learning_rate=1.0, warmup_ratio=0.2)

    rates = [learning_rate(step, 10, settings) for step in range(10)]

    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])
    assert min(learning_rate(step, 1, settings) for step in range(1)) > 0
