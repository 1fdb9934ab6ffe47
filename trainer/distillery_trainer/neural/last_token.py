"""A causal language model with LoRA whose last real token a linear head scores, and the adapter's weights in it."""

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from distillery_runtime.errors import InputError, Problem
from distillery_trainer.models.adapters import normalise_keys
from distillery_trainer.neural.batches import TrainingRows
from distillery_trainer.neural.loading import is_causal, load_config, load_model
from distillery_trainer.neural.running import ready, run_in_batches, score_in_float32

HEAD = "score.weight"
START_TEXTS = 16


class LastTokenRegressor(nn.Module):
    """A causal model's last real state, scored by its linear head (which has no bias)."""

    def __init__(self, adapted: PeftModel) -> None:
        super().__init__()
        self.adapted = adapted

    def pooled(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The final state of each row's last real token, (B, H), found by the mask: a real token may have any id."""
        classifier = self.adapted.get_base_model()
        backbone: nn.Module = getattr(classifier, str(classifier.base_model_prefix))
        states = backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        last = attention_mask.sum(dim=1) - 1
        pooled: Tensor = states[torch.arange(len(states), device=states.device), last]
        return pooled

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """From input_ids and attention_mask, (B, T) int64, padded on the right, to the head's (B, outputs) float32."""
        head: nn.Module = self.adapted.get_base_model().get_submodule("score")
        return score_in_float32(head, self.pooled(input_ids, attention_mask))

    def adapter_weights(self) -> dict[str, nn.Parameter]:
        """The trainable weights, LoRA pairs and head, by the short keys of `adapters`."""
        trainable = {name: weight for name, weight in self.adapted.named_parameters() if weight.requires_grad}
        return {short: trainable[name] for name, short in normalise_keys(trainable).items()}


def build(base: Path, outputs: int, lora: LoraConfig) -> LastTokenRegressor:
    """Loads a base model in float32 and puts a new adapter and head on it, random from torch's seed.

    Raises:
        InputError: the base is no text decoder that the adapter fits.
    """
    config = load_config(base)
    if not is_causal(config):
        expected = "a text decoder (Gemma, Qwen, Llama ...); for a BERT-like model use the encoder backend"
        raise InputError(str(base), [Problem("base model", f"model_type {config.model_type}", expected)])
    model = load_model(AutoModelForSequenceClassification, base, frozenset({HEAD}), num_labels=outputs)
    try:
        with warnings.catch_warnings():  # peft asks transformers for an attribute by its former name
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            return LastTokenRegressor(get_peft_model(model, lora))
    except ValueError as error:
        raise InputError(str(base), [Problem("base model", str(error), "a model that the adapter fits")]) from error


@torch.no_grad()
def start_at(constant: NDArray[np.float32], model: LastTokenRegressor, rows: TrainingRows) -> None:
    """Sets the head so that training starts near a constant answer: `constant`, (outputs,) float32.

    Without a bias, the head can give it only along the direction that the pooled states share: each row of it becomes
    the row's constant * s / |s|^2, s being the mean state of a few training texts. (On Gemma-3-270M and news articles
    the answers then start within about a quarter of the mean label of it.)
    """
    ready(model)
    count = min(START_TEXTS, len(rows.train_ids))
    sample = [rows.train_ids[i * len(rows.train_ids) // count] for i in range(count)]
    state = torch.from_numpy(run_in_batches(model.pooled, sample)).mean(dim=0)
    model.adapter_weights()[HEAD].copy_(torch.outer(torch.from_numpy(constant), state / state.dot(state)))
