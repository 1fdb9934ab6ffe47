"""Pretrained models traced by torch into ONNX files: any architecture that transformers knows, at torch's own pace."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxscript  # noqa: F401  # torch.onnx imports it late; where it is missing, this module must say so
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from distillery_runtime.errors import InputError, Problem
from distillery_trainer.models.base_model import check_layers
from distillery_trainer.neural.loading import is_causal, load_config, load_encoder, load_model

ReadWeights = Callable[[str, tuple[int, ...]], NDArray[np.float32]]

_EXAMPLE = (2, 7)  # texts and tokens of the input that is followed; any two different sizes from 2 on


def trace_encoder(folder: Path, path: Path, opset: int, layers: Sequence[int] = ()) -> None:
    """Writes an encoder as an ONNX file, its larger weights beside it in `<path>.data`.

    The file's inputs are `input_ids` and `attention_mask`, (B, T) int64; its outputs are token states, (B, T, H)
    float32, the last ones alone or those of each of some layers. All nodes are ONNX's own operators.

    Args:
        folder: the model, in Hugging Face form.
        path: the file.
        opset: the version of ONNX's operators.
        layers: numbers of layers, from 1; the last one alone by default.

    Raises:
        InputError: the folder holds no encoder, it has no such layer, or torch cannot trace it.
    """
    encoder = load_encoder(folder)
    check_layers(str(folder), layers, int(encoder.config.num_hidden_layers))
    _trace(_States(encoder, layers), folder, path, opset)


def trace_decoder(folder: Path, read: ReadWeights, path: Path, opset: int) -> None:
    """Writes a text decoder's layers, without a head, as an ONNX file; input, output and arguments as `trace_encoder`.

    Args:
        read: gives each weight's value by its name in the whole model and its shape: those of `folder`, or those with
            an adapter merged.

    Raises:
        InputError: the folder holds no text decoder, `read` does not know a weight, or torch cannot trace the model.
    """
    config = load_config(folder)
    if not is_causal(config):
        problem = Problem("model", f"model_type {config.model_type}", "a text decoder (Gemma, Qwen, Llama ...)")
        raise InputError(str(folder), [problem])
    decoder = load_model(AutoModel, folder)
    with torch.no_grad():
        for name, weight in decoder.named_parameters():
            weight.copy_(torch.from_numpy(read(f"{decoder.base_model_prefix}.{name}", tuple(weight.shape))))
    _trace(_States(decoder, use_cache=False), folder, path, opset)


class _States(nn.Module):
    """A model as the function that is traced: two arrays in, and the token states of each of `layers` out."""

    def __init__(self, model: PreTrainedModel, layers: Sequence[int] = (), **options: bool) -> None:
        super().__init__()
        self.model = model
        self.layers = tuple(layers)
        self.options = options | ({"output_hidden_states": True} if layers else {})

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, **self.options)
        return tuple(outputs.hidden_states[n] for n in self.layers) or (outputs.last_hidden_state,)


def _trace(states: _States, folder: Path, path: Path, opset: int) -> None:
    model = states.model
    # As a fused operator attention is traced with a guard against rows that see nothing, which costs two passes.
    model.set_attn_implementation("eager")
    arrays = (torch.zeros(_EXAMPLE, dtype=torch.int64), torch.ones(_EXAMPLE, dtype=torch.int64))
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with _silent():
            traced = torch.export.export(states.eval(), arrays, dynamic_shapes=(free, free))
            program = torch.onnx.export(traced, dynamo=True, opset_version=opset, verbose=False)
    except Exception as error:  # what torch raises here shares no base but Exception
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        found = f"model_type {model.config.model_type} cannot be traced ({reason.strip()})"
        expected = "a model whose steps depend on the sizes of its inputs alone"
        raise InputError(str(folder), [Problem("model", found, expected)]) from error
    if program is None:
        raise InputError(str(folder), [Problem("model", "torch gave no graph", "a model that torch can trace")])
    program.save(path, external_data=True)


@contextmanager
def _silent() -> Iterator[None]:
    """Holds back torch's notes on operators of packages that no text model uses, and on its own future."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
