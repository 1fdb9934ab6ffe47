"""Pretrained models loaded with nothing missing: transformers itself would fill missing weights with noise."""

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    PreTrainedModel,
)
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.utils import logging as transformers_logging

from distillery_runtime.errors import InputError, Problem
from distillery_trainer.models.base_model import OFFSET_POSITIONS

ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")  # BERT's name, ModernBERT's


def load_encoder(folder: Path) -> PreTrainedModel:
    """Loads a BERT-like encoder in float32, without a pooling layer and without dropout of attention weights.

    Positions are counted from the text's beginning, also where the model would leave out what has the padding's id.

    That dropout keeps torch from its fused attention: e5-small learnt from 512 tokens 2.6 times as fast without it (two
    cores with AMX, torch 2.13), and the dropout of hidden states stays.

    Raises:
        InputError: the folder holds no such model, or not all of its weights.
    """
    config = load_config(folder)
    if type(config) not in MODEL_MAPPING or is_causal(config):
        raise _not_loadable(folder, f"model_type {config.model_type}", "an encoder (BERT, XLM-R, ModernBERT ...)")
    architecture: Any = MODEL_MAPPING[type(config)]  # Any: transformers annotates its mapping wrongly
    takes_option = "add_pooling_layer" in inspect.signature(architecture).parameters
    options: dict[str, Any] = {"add_pooling_layer": False} if takes_option else {}  # Any: as load_model takes them
    options |= {name: 0.0 for name in ATTENTION_DROPOUTS if hasattr(config, name)}
    model = load_model(AutoModel, folder, **options)
    if config.model_type in OFFSET_POSITIONS:
        model.register_forward_pre_hook(_count_positions, with_kwargs=True)
    return model


def _count_positions(
    model: Any, args: tuple[Any, ...], inputs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Gives a model the positions that the graphs of `exporter` have: padding is on the right and masked."""
    ids = args[0] if args else inputs["input_ids"]
    first = model.embeddings.padding_idx + 1
    places = torch.arange(first, first + ids.shape[1], device=ids.device)
    return args, inputs | {"position_ids": places.expand(ids.shape)}


def recompute_layers(model: Any) -> None:  # Any: a PreTrainedModel, whose method is not annotated
    """Lets a model in training compute its layers again for the gradient, which saves memory and costs a third more.

    Raises:
        InputError: transformers cannot do so with this model.
    """
    enable = (
        getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    )  # 5.0's name
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        problem = Problem("training.recompute", str(error), "false for this model")
        raise InputError("student", [problem]) from error


def is_causal(config: Any) -> bool:  # Any: as load_config gives it
    """Whether a configuration is that of a text decoder which transformers scores at its last token."""
    architecture: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), object)  # Any: annotated wrongly
    return issubclass(architecture, GenericForSequenceClassification)


def load_config(folder: Path) -> Any:  # Any: each architecture has a config class of its own
    """Reads a model's configuration.

    Raises:
        InputError: transformers does not know this model.
    """
    try:
        return AutoConfig.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise _not_loadable(folder, f"unreadable ({error})", "a configuration known to transformers") from error


def load_model(
    auto: Any,  # Any: one of transformers' Auto classes, which share no base
    folder: Path,
    may_miss: frozenset[str] = frozenset(),
    **options: Any,  # Any: the options of the model's class
) -> PreTrainedModel:
    """Loads a model in float32.

    Raises:
        InputError: a weight is missing (except `may_miss`), of another shape, or unreadable.
    """
    arguments = {"dtype": torch.float32, "local_files_only": True, "output_loading_info": True, **options}
    try:
        with quiet():
            model, report = auto.from_pretrained(str(folder), **arguments)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _not_loadable(folder, f"unreadable ({error})", f"a model for {auto.__name__}") from error
    missing = sorted(set(report["missing_keys"]) - may_miss)
    if missing:
        raise InputError(str(folder), [Problem(key, "missing", "a weight of this model") for key in missing])
    loaded: PreTrainedModel = model
    return loaded


def _not_loadable(folder: Path, found: str, expected: str) -> InputError:
    return InputError(str(folder), [Problem("model", found, expected)])


@contextmanager
def quiet() -> Iterator[None]:
    """Holds back transformers' own report of missing keys, which we check ourselves, and its progress bars."""
    level, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers does not annotate it
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # transformers does not annotate it
