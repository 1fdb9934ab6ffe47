"""Training a regressor with torch: one loop for every backend, resumed after a kill as if nothing had happened.

Nothing random carries over from step to step: batches follow from (seed, epoch) and dropout from (seed, step). So a
training that goes on from its checkpoint ends, on a CPU, with the same bits as one that was never stopped.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from distillery_runtime.errors import DistilleryError, InputError, Problem
from distillery_runtime.files.safe_write import write_text
from distillery_runtime.spec.model import Loss, ModelTraining
from distillery_trainer.models.protocol import Progress
from distillery_trainer.neural import checkpoint as torch_checkpoint
from distillery_trainer.neural.batches import Schedule, TrainingRows
from distillery_trainer.neural.checkpoint import EpochRecord, TrainingCheckpoint, TrainState
from distillery_trainer.neural.group import STOP, Group, join
from distillery_trainer.neural.running import device, run_in_batches, use_cores
from distillery_trainer.neural.steps import Stepper, TrainingPlan

CHECKPOINT_STEPS = 500  # a checkpoint is saved after so many steps or seconds, whichever comes first
CHECKPOINT_S = 60.0
CHECKPOINT_SHARE = 0.005  # of the whole training's time, where that is sooner: ten kills then cost a fortieth of it
CHECKPOINT_REST = 20  # but not before so many times as long as the last one held up the training


def train(
    model: nn.Module,
    rows: TrainingRows,
    settings: ModelTraining,
    loss: Loss,
    seed: int,
    folder: Path,
    progress: Progress | None = None,
    lineage: str = "",
) -> tuple[EpochRecord, ...]:
    """Trains the weights of `model` that require gradients, and leaves those of the best epoch in it.

    Writes `training_history.json` into `folder`, and `checkpoint/`, from which a later call with the same arguments
    goes on; `remove_checkpoint` deletes it when the model has been saved.

    Args:
        model: from input_ids and attention_mask, (B, T) int64, to (B, D) on the labels' scale, while it trains for
            `hl_gauss` to (B, D * K) logits of bins; moved to its device.
        lineage: whatever else the weights depend on; a checkpoint with another lineage is not used.

    Returns:
        What happened in each epoch; nothing in a process that only helped another, whose weights are of no use.

    Raises:
        InputError: rows, labels and weights do not fit each other, a label is not finite, or a step has fewer batches
            than there are processes.
        ModelError: the loss, a gradient or an output is not finite.
    """
    rows.check()
    use_cores()
    model.to(device())
    group = join()
    _check_shared(settings, group)
    plan = TrainingPlan(settings, loss, seed, lineage)
    training = _Training(model, rows, plan, _checkpoint_folder(folder), progress, group)
    if group.rank > 0:
        training.help()
        return ()
    try:
        history = training.run()
    except DistilleryError:  # raised between steps; of any other error the others learn from their launcher
        group.say(STOP)
        raise
    group.say(STOP)
    write_text(folder / "training_history.json", _history_json(history))
    return history


def remove_checkpoint(folder: Path) -> None:
    """Deletes the checkpoint that `train` kept in `folder`."""
    torch_checkpoint.remove(_checkpoint_folder(folder))


class _Training:
    """One training in memory: the model, its optimiser and how far they are."""

    def __init__(
        self,
        model: nn.Module,
        rows: TrainingRows,
        plan: TrainingPlan,
        checkpoint_folder: Path,
        progress: Progress | None,
        group: Group,
    ) -> None:
        self._model, self._rows, self._plan, self._progress = model, rows, plan, progress
        self._schedule = Schedule(rows, plan)
        self._stepper = Stepper(model, plan, self._schedule.total, group)
        weights = self._stepper.weights
        fingerprint = _fingerprint(rows, plan, weights)
        self._checkpoint = TrainingCheckpoint(checkpoint_folder, fingerprint, weights, self._stepper.optimiser)

    def run(self) -> tuple[EpochRecord, ...]:
        """Trains until the epochs are done or patience is at its end, and restores the best epoch's weights."""
        state = self._checkpoint.restore()
        if self._progress:
            self._progress.start(self._schedule.total, state.step)
        try:
            while not self._is_over(state):
                state = self._end_epoch(self._run_epoch(state))
        finally:
            self._checkpoint.settle()
        if state.best:
            self._checkpoint.restore_best(state.best.epoch)
        return state.history

    def help(self) -> None:
        """Helps the first process to train; only the gradients of this process's batches come of it."""
        self._stepper.help(self._schedule.batches)

    def _is_over(self, state: TrainState) -> bool:
        waited = len(state.history) - state.best.epoch if state.best else 0
        return len(state.history) >= self._plan.settings.epochs or waited >= self._plan.settings.patience

    def _run_epoch(self, state: TrainState) -> TrainState:
        """Takes the epoch's remaining steps, saving now and then."""
        end = (len(state.history) + 1) * self._schedule.per_epoch
        began_at, began = time.monotonic(), state.step
        saved_at, cost_s = began_at, 0.0
        while state.step < end:
            loss = self._stepper.take(state.step, self._schedule.batches(state.step))
            state = replace(state, step=state.step + 1, loss_total=state.loss_total + loss)
            if self._progress:
                self._progress.step(loss)
            waited_s = time.monotonic() - saved_at
            expected_s = (time.monotonic() - began_at) / (state.step - began) * self._schedule.total
            rest_s = max(min(CHECKPOINT_S, CHECKPOINT_SHARE * expected_s), CHECKPOINT_REST * cost_s)
            if state.step % CHECKPOINT_STEPS == 0 or waited_s > rest_s:
                self._checkpoint.save(state)
                saved_at, cost_s = time.monotonic(), time.monotonic() - saved_at - waited_s
        return state

    def _end_epoch(self, state: TrainState) -> TrainState:
        val_mae = self._val_mae()
        record = EpochRecord(len(state.history) + 1, state.loss_total / self._schedule.per_epoch, val_mae)
        ended = TrainState(state.step, 0.0, (*state.history, record))
        if ended.best is record:
            self._checkpoint.save_best(record.epoch)
        self._checkpoint.save(ended)
        if self._progress:
            self._progress.epoch(val_mae)
        return ended

    def _val_mae(self) -> float:
        outputs = run_in_batches(self._model.eval(), self._rows.val_ids)
        return self._rows.error(outputs)


def _check_shared(settings: ModelTraining, group: Group) -> None:
    if settings.accumulate < group.size:
        expected = f"at least {group.size}, a batch of each step for each process"
        raise InputError("training", [Problem("accumulate", str(settings.accumulate), expected)])


def _fingerprint(rows: TrainingRows, plan: TrainingPlan, weights: Mapping[str, Tensor]) -> str:
    """A digest of everything that the trained weights depend on."""
    digest = hashlib.sha256()
    shapes = {name: list(weight.shape) for name, weight in weights.items()}
    settings = plan.settings.model_dump(mode="json")
    digest.update(json.dumps([settings, plan.loss, plan.seed, plan.lineage, shapes]).encode())
    counted = () if rows.val_weights is None else (rows.val_weights,)
    parts = ((rows.train_ids, (rows.train_labels, rows.weights)), (rows.val_ids, (rows.val_labels, *counted)))
    for ids, values in parts:
        for row in ids:
            digest.update(len(row.ids).to_bytes(4, "little") + row.ids.tobytes())
        for array in values:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _checkpoint_folder(folder: Path) -> Path:
    return folder / "checkpoint"


def _history_json(history: Sequence[EpochRecord]) -> str:
    best = min(history, key=lambda record: record.val_mae)
    content = {"schema_version": 1, "best_epoch": best.epoch, "epochs": [asdict(record) for record in history]}
    return json.dumps(content, indent=2) + "\n"
