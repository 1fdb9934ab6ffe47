"""Running models with torch: where, on how many threads, in length-sorted batches."""

import functools
import os
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distillery_runtime.errors import InputError, ModelError, Problem
from distillery_runtime.models.cpu import usable_cores
from distillery_runtime.tokens.window import TokenIds, TokenWindow, pad, token_batches
from distillery_trainer.models.hl_gauss import Distributions
from distillery_trainer.models.sentence_models import Pooled
from distillery_trainer.neural.bins import BinsRegressor

PREDICT_TOKENS = 4096

Run = Callable[[Tensor, Tensor], Tensor]


@functools.cache
def use_cores() -> None:
    """Gives torch the cores this process may use, once; where OMP_NUM_THREADS is set, that counts."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(usable_cores())


def device() -> torch.device:
    """Where models run: the first CUDA device, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def ready(model: torch.nn.Module) -> torch.nn.Module:
    """The model on its device, answering rather than training."""
    return model.to(device()).eval()


def pool(states: Tensor, mask: Tensor, pooling: Pooled) -> Tensor:
    """Makes one vector of a text's token states.

    Args:
        states: (B, T, H) float32.
        mask: (B, T) int64, 1 on real tokens.
        pooling: the mean or the maximum over real tokens, or the first or the last one's state.

    Returns:
        (B, H) float32.
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "lasttoken":
        return states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
    if pooling == "max":
        return states.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).amax(dim=1)
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def run_in_batches(
    run: Run, rows: Sequence[TokenIds], budget: int = PREDICT_TOKENS, after_batch: Callable[[int], None] | None = None
) -> NDArray[np.float32]:
    """Runs a model over token rows without gradients, similar lengths together.

    Args:
        run: from input_ids and attention_mask, (B, T) int64 each, to (B, ...).
        rows: N rows, N > 0.
        budget: how many tokens a batch may hold, padding included.
        after_batch: callback for the number of rows in the batch just done.

    Returns:
        (N, ...) float32 in the order of `rows`.

    Raises:
        ModelError: an output is not finite.
    """
    use_cores()
    outputs: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * len(rows)
    for batch in token_batches([len(row.ids) for row in rows], budget):
        with torch.no_grad():
            values = run(*to_tensors([rows[i] for i in batch])).float().cpu().numpy()
        for index, value in zip(batch, values, strict=True):
            outputs[index] = value
        if after_batch:
            after_batch(len(batch))
    stacked = np.stack(outputs)
    if not np.all(np.isfinite(stacked)):
        bad = int(np.sum(~np.isfinite(stacked.reshape(len(rows), -1)).all(axis=1)))
        raise ModelError(f"the model gave values that are not finite for {bad} of {len(rows)} texts")
    return stacked


def to_tensors(rows: Sequence[TokenIds]) -> tuple[Tensor, Tensor]:
    """Pads rows into input_ids and attention_mask, (B, T) int64 each, on the models' device."""
    input_ids, mask = pad(rows)
    return torch.from_numpy(input_ids).to(device()), torch.from_numpy(mask).to(device())


def score_in_float32(head: torch.nn.Module, pooled: Tensor) -> Tensor:
    """Applies a head outside of any autocast: in bfloat16 neighbouring scores near 8 are 0.06 apart.

    Args:
        pooled: (B, H).

    Returns:
        (B, D) float32.
    """
    with torch.autocast(pooled.device.type, enabled=False):
        scores: Tensor = head(pooled.float())
    return scores


class TorchStudent:
    """A student run by torch, in float32 on any device."""

    def __init__(self, window: TokenWindow, model: torch.nn.Module, dimensions: int) -> None:
        self.window = window
        self._model = ready(model)
        self._dimensions = dimensions

    def predict(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Gives raw outputs: (N, D) float32, any finite value, rows in the order of `texts`.

        Raises:
            ModelError: an output is not finite.
        """
        if not texts:
            return np.empty((0, self._dimensions), dtype=np.float32)
        return run_in_batches(self._model, self.window.encode(texts))

    def distributions(self, texts: Sequence[str]) -> Distributions:
        """What a student that was trained with `hl_gauss` expects of each score, rows in the order of `texts`.

        Raises:
            InputError: it was trained with another loss, or there is no text.
            ModelError: an output is not finite.
        """
        if not isinstance(self._model, BinsRegressor) or not texts:
            found = (
                f"{len(texts)} texts, a student {'with' if isinstance(self._model, BinsRegressor) else 'without'} bins"
            )
            raise InputError("distributions", [Problem("student", found, "texts, and a student of the loss hl_gauss")])
        shares = run_in_batches(self._model.shares, self.window.encode(texts))
        return Distributions(shares, self._model.centres.cpu().numpy())
