"""A regressor whose head gives bins: logits while it learns from `hl_gauss`, the expected score when it answers."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class BinsRegressor(nn.Module):
    """Reads the logits of a model as scores.

    `model`: from input_ids and attention_mask, (B, T) int64, to (B, D * K) float32, the K bins of a dimension side by
    side. `centres`: (K,) float32, the bins' middles.
    """

    def __init__(self, model: nn.Module, centres: NDArray[np.float32]) -> None:
        super().__init__()
        self.model = model
        self.centres: Tensor
        self.register_buffer("centres", torch.from_numpy(centres), persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """In training (B, D * K) logits, else (B, D) expected scores; float32."""
        if self.training:
            logits: Tensor = self.model(input_ids, attention_mask)
            return logits
        return self.shares(input_ids, attention_mask) @ self.centres

    def shares(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """What is expected of each bin: (B, D, K) float32 that sum to 1."""
        logits: Tensor = self.model(input_ids, attention_mask)
        return torch.softmax(logits.reshape(len(logits), -1, len(self.centres)), dim=-1)


def read_by_bins(model: nn.Module, centres: NDArray[np.float32] | None) -> nn.Module:
    """The model as it gives scores: by its bins, or as it is where it has none."""
    return model if centres is None else BinsRegressor(model, centres)
