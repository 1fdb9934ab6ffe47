"""PyTorch through transformers, as a careful user runs it: sdpa attention, no cache, no language-model head.

Options: `dtype`, "float32" or "bfloat16"; `adapter`, true for a random LoRA adapter (r 16, all layers), unmerged.
"""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoModel

from benchmarks.peers.workers.protocol import Opening, Vector, serve


class TorchPeer:
    """A `Peer`."""

    def __init__(self, opening: Opening) -> None:
        torch.set_num_threads(opening.threads)
        torch.set_num_interop_threads(1)
        dtype = getattr(torch, opening.options.get("dtype", "float32"))
        model = AutoModel.from_pretrained(opening.model, dtype=dtype, attn_implementation="sdpa", local_files_only=True)
        self._decoder = opening.kind == "decoder"
        self._cache = {"use_cache": False} if self._decoder else {}
        if opening.options.get("adapter"):
            model = _adapted(model)
        self._model = model.eval()
        self._head = torch.from_numpy(np.load(opening.head)) if opening.head else None

    def prepare(self, ids: Sequence[int]) -> dict[str, torch.Tensor]:
        """As in `Peer`."""
        row = torch.tensor([ids], dtype=torch.int64)
        return {"input_ids": row, "attention_mask": torch.ones_like(row)}

    @torch.inference_mode()
    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """As in `Peer`."""
        states = self._model(**inputs, **self._cache).last_hidden_state[0].float()
        if not self._decoder:
            return torch.nn.functional.normalize(states.mean(0), dim=0)
        last: torch.Tensor = states[-1] if self._head is None else self._head @ states[-1]
        return last

    def output(self, result: torch.Tensor) -> Vector:
        """As in `Peer`."""
        values: list[float] = result.tolist()
        return values


def _adapted(model: torch.nn.Module) -> torch.nn.Module:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
    adapted: torch.nn.Module = get_peft_model(model, config)
    return adapted


if __name__ == "__main__":
    serve(TorchPeer, ("torch", "transformers"))
