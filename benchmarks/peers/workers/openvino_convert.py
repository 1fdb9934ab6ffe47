"""Converts a checkpoint for OpenVINO, in a process of its own: reads a task of `conversion`.

Option `form`: none for fp32 weights, "weights" for int8 weights, "nncf" for int8 weights and activations, fitted to the
texts given.
"""

from collections.abc import Sequence

import nncf
import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from transformers import AutoModel

from benchmarks.peers.workers.conversion import read_task
from benchmarks.peers.workers.protocol import Opening

IDS = "input_ids"
EXAMPLE_TOKENS = 64


class EncoderEmbedding(torch.nn.Module):
    """From ids (1, T) to an encoder's embedding (1, H). Without padding there is no mask."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The pass that is traced."""
        states = self._model(input_ids=input_ids).last_hidden_state
        return torch.nn.functional.normalize(states.mean(1), dim=1)


class DecoderState(torch.nn.Module):
    """From ids (1, T) to a Gemma's last state (1, H).

    The masks are made here: what transformers makes them with has no counterpart in OpenVINO.
    """

    def __init__(self, model: torch.nn.Module, window: int) -> None:
        super().__init__()
        self._model = model
        self._window = window

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The pass that is traced."""
        places = torch.arange(input_ids.shape[1])
        back = places[:, None] - places[None, :]
        causal = (back >= 0)[None, None]
        masks = {"full_attention": causal, "sliding_attention": causal & (back < self._window)}
        states = self._model(
            input_ids=input_ids, attention_mask=masks, position_ids=places[None], use_cache=False
        ).last_hidden_state
        last: torch.Tensor = states[:, -1]
        return last


def convert(opening: Opening) -> ov.Model:
    """Traces the model with sdpa attention, which OpenVINO has a kernel for, and compresses it as asked."""
    torch.set_num_threads(opening.threads)
    model = AutoModel.from_pretrained(
        opening.model, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
    ).eval()
    decoder = opening.kind == "decoder"
    traced = DecoderState(model, model.config.sliding_window) if decoder else EncoderEmbedding(model)
    example = {IDS: torch.randint(5, 1000, (1, EXAMPLE_TOKENS))}
    found = ov.convert_model(traced.eval(), example_input=example, input=[(IDS, [1, -1], ov.Type.i64)])
    form = opening.options.get("form")
    if form == "weights":
        return nncf.compress_weights(found, mode=nncf.CompressWeightsMode.INT8_SYM)
    if form == "nncf":
        data = nncf.Dataset(list(opening.calibration), _row)
        return nncf.quantize(found, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(opening.calibration))
    return found


def _row(ids: Sequence[int]) -> dict[str, NDArray[np.int64]]:
    return {IDS: np.array([ids], dtype=np.int64)}


def main() -> None:
    """Converts once."""
    opening, folder = read_task()
    ov.save_model(convert(opening), folder / "model.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main()
