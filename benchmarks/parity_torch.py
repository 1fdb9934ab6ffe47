"""The reference: PyTorch through transformers, float32, sdpa attention."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModel

from benchmarks.peers.models import Kind
from distillery_runtime.tokens.window import TokenIds, pad
from distillery_trainer.neural.loading import quiet
from distillery_trainer.neural.running import pool

Floats = NDArray[np.float32]


class TorchModel:
    """A checkpoint without a head.

    Args:
        folder: in Hugging Face form.
        kind: whether a text's state is the last real token's, or the mean of all, of length 1.
        dtype: of weights and arithmetic.
        device: where it runs.
    """

    def __init__(self, folder: Path, kind: Kind, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        with quiet():
            model = AutoModel.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa", local_files_only=True)
        self.model: torch.nn.Module = model.to(device).eval()
        self._device = device
        self._decoder = kind == "decoder"

    @torch.inference_mode()
    def pooled(self, rows: Sequence[TokenIds]) -> Floats:
        """The states of texts padded on the right into one batch: (B, H) float32."""
        ids, mask = (torch.from_numpy(array).to(self._device) for array in pad(rows))
        pooled: Floats = self.forward(ids, mask).cpu().numpy()
        return pooled

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """From ids and mask, (B, T) int64, to (B, H) float32, on the model's device."""
        if not self._decoder:
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            return torch.nn.functional.normalize(pool(states, mask, "mean"), dim=1).float()
        states = self.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        last: Tensor = states[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]
        return last.float()

    def in_batches(self, batches: Iterable[Sequence[TokenIds]]) -> Floats:
        """The states of several batches, one below the other."""
        return np.concatenate([self.pooled(batch) for batch in batches])
