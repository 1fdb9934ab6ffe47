"""The losses that students are trained with, one value for each article and dimension."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distillery_runtime.spec.model import Loss
from distillery_trainer.models import hl_gauss

HUBER_DELTA = 1.0


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
