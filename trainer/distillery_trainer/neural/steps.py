"""One optimiser step: its seed, its learning rates, its gradient; the same however the training came to it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distillery_runtime.errors import ModelError
from distillery_runtime.spec.model import Loss, ModelTraining
from distillery_runtime.tokens.window import TokenIds
from distillery_trainer.models import hl_gauss
from distillery_trainer.neural.group import Group
from distillery_trainer.neural.running import device, to_tensors

CLIP_NORM = 1.0

_LAYER = re.compile(r"\.layers?\.(\d+)\.")
_EMBEDDINGS = re.compile(r"embed(ding|_tokens)")
HUBER_DELTA = 1.0


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How to train. `lineage`: whatever else the weights depend on, the base model for example."""

    settings: ModelTraining
    loss: Loss
    seed: int
    lineage: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Articles that go through the model together. `labels`: (B, D) float32 in [0, 10]; `weights`: (B, D) from 0."""

    ids: Sequence[TokenIds]
    labels: NDArray[np.float32]
    weights: NDArray[np.float32]


class Stepper:
    """A model, its AdamW optimiser and their schedule, in a group of processes that share each step's batches."""

    def __init__(self, model: nn.Module, plan: TrainingPlan, total_steps: int, group: Group | None = None) -> None:
        self._model, self._plan, self._total_steps, self._group = model, plan, total_steps, group or Group()
        self.weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.optimiser = _optimiser(self.weights, plan.settings)

    def take(self, step: int, batches: Sequence[Batch]) -> float:
        """Takes optimiser step number `step`, from 0, and gives its loss: the mean over all labels by their weights.

        Raises:
            ModelError: the loss or a gradient is not finite; the weights are then as they were.
        """
        rate = learning_rate(step, self._total_steps, self._plan.settings)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        self._group.say(step)
        loss = self._add_gradients(step, batches)
        norm = nn.utils.clip_grad_norm_(self.weights.values(), CLIP_NORM)
        if not (np.isfinite(loss) and torch.isfinite(norm)):
            raise ModelError(f"training step {step}: the loss or a gradient is not finite; try a lower learning_rate")
        self.optimiser.step()
        return loss

    def help(self, batches: Callable[[int], Sequence[Batch]]) -> None:
        """Adds this process's part to the steps that the first process takes, until it says that it is done."""
        while (step := self._group.receive()) >= 0:
            self._add_gradients(step, batches(step))

    def _add_gradients(self, step: int, batches: Sequence[Batch]) -> float:
        """Leaves the loss's gradient in the first process's weights, as if all batches were one, and gives the loss."""
        self._group.share(self.weights.values())
        self._model.train()
        self.optimiser.zero_grad(set_to_none=True)
        total_weight = sum(float(batch.weights.sum(dtype=np.float64)) for batch in batches)
        total = 0.0
        for place, batch in list(enumerate(batches))[self._group.rank :: self._group.size]:
            torch.manual_seed(int(np.random.SeedSequence([self._plan.seed, step, place]).generate_state(1)[0]))
            with _autocast():
                outputs = self._model(*to_tensors(batch.ids))
            each = losses(outputs.float(), batch.labels, self._plan.loss)
            loss = (each * torch.from_numpy(batch.weights).to(device())).sum() / total_weight
            loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            total += float(loss.detach())
        return self._group.gather(total, self.weights.values())


def learning_rate(step: int, total_steps: int, settings: ModelTraining) -> float:
    """The rate of a step, above 0: up in a straight line through the warm-up, then down towards 0 at the end."""
    warm_up = round(total_steps * settings.warmup_ratio)
    if step < warm_up:
        return settings.learning_rate * (step + 1) / warm_up
    return settings.learning_rate * (total_steps - step) / (total_steps - warm_up)


def layer_shares(names: Sequence[str], decay: float) -> list[float]:
    """The share of the learning rate that each weight gets: 1 for a head and what follows the layers, then by layer.

    The last layer gets `decay`, each layer before it `decay` times as much as the one above, the embeddings least
    (Howard & Ruder 2018, arXiv 1801.06146, for transformers as in Clark et al. 2020, arXiv 2003.10555).
    """
    layers = [int(found.group(1)) + 1 if (found := _LAYER.search(name)) else None for name in names]
    top = max((layer for layer in layers if layer is not None), default=0) + 1
    depths = [
        layer if layer is not None else 0 if _EMBEDDINGS.search(name) else top
        for name, layer in zip(names, layers, strict=True)
    ]
    return [decay ** (top - depth) for depth in depths]


def _optimiser(weights: Mapping[str, nn.Parameter], settings: ModelTraining) -> torch.optim.AdamW:
    # Fused, a step over e5-small's 96M embeddings took 0.08 s of one core in place of 0.6 s (AMD Zen 3, torch 2.13).
    return torch.optim.AdamW(list(_groups(weights, settings)), lr=settings.learning_rate, fused=True)


def _groups(weights: Mapping[str, nn.Parameter], settings: ModelTraining) -> Iterator[dict[str, object]]:
    """Weights of the same share of the rate; matrices decay, biases and norms are left alone."""
    shares = layer_shares(list(weights), settings.layer_decay)
    for share in sorted(set(shares)):
        these = [weight for weight, own in zip(weights.values(), shares, strict=True) if own == share]
        for is_matrix, decay in ((True, settings.weight_decay), (False, 0.0)):
            chosen = [weight for weight in these if (weight.ndim > 1) == is_matrix]
            if chosen:
                yield {"params": chosen, "weight_decay": decay, "share": share}


def _autocast() -> AbstractContextManager[object]:
    """bfloat16 where the device computes in it; never float16, which Gemma's residual stream overflows.

    A CPU does with AMX: e5-small learnt from 256 tokens 1.7 times as fast (two cores, torch 2.13).
    """
    kind = device().type
    if kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    if kind == "cpu" and torch.cpu._is_amx_tile_supported():  # torch's own public check says only AVX-512
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return nullcontext()


def losses(outputs: Tensor, labels: NDArray[np.float32], loss: Loss) -> Tensor:
    """How far outputs are from labels: (B, D) float32 on the outputs' device, at least 0.

    Args:
        outputs: (B, D) float32 scores; for `hl_gauss` (B, D * K) logits of bins.
        labels: (B, D) float32 in [0, 10].
    """
    if loss == "hl_gauss":
        shares = torch.from_numpy(hl_gauss.targets(labels)).to(outputs.device)
        logits = outputs.reshape(shares.shape)
        return -(shares * torch.log_softmax(logits, dim=-1)).sum(dim=-1)
    wanted = torch.from_numpy(labels).to(outputs.device)
    if loss == "mse":
        return nn.functional.mse_loss(outputs, wanted, reduction="none")
    return nn.functional.huber_loss(outputs, wanted, delta=HUBER_DELTA, reduction="none")
