"""The decoder backend: a causal language model with LoRA, scored by a linear head on its last real token."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.safe_write import write_text
from distillery_runtime.spec.model import DecoderSettings, Window
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.models.adapters import check_pairs, normalise_keys
from distillery_trainer.models.protocol import FitData, Progress, Student
from distillery_trainer.models.records import BaseRecord, base_folder, read_bins
from distillery_trainer.neural.batches import TrainingRows
from distillery_trainer.neural.bins import read_by_bins
from distillery_trainer.neural.fitting import PROOF_TEXTS, check_reload, copy_dimensions, prepare, proof_texts
from distillery_trainer.neural.loading import is_causal, load_config, load_model, recompute_layers
from distillery_trainer.neural.running import TorchStudent, ready, run_in_batches, score_in_float32
from distillery_trainer.neural.tensor_files import read_tensors, write_tensors
from distillery_trainer.neural.training import remove_checkpoint, train

HEAD = "score.weight"
START_TEXTS = 16
ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

_ADAPTER = "adapter_model.safetensors"
_ADAPTER_CONFIG = "adapter_config.json"
_KEY_ROOT = "base_model.model."
_PLAIN_STARTS = (True, False, "gaussian")  # the others change the base model's weights when they start


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


def fit(
    settings: DecoderSettings, window: Window, data: FitData, folder: Path, seed: int, progress: Progress | None = None
) -> None:
    """Trains a student and saves it: `adapter_model.safetensors`, `adapter_config.json`, tokenizer and `base.json`.

    Called again after a kill, it goes on from the checkpoint in `folder`.

    Raises:
        InputError: the base model or the data is not usable.
        ProviderError: the Hub cannot be reached.
        ModelError: the training diverged, or the saved student does not answer as the trained one.
    """
    start = prepare(settings, window, "", data, folder)
    torch.manual_seed(seed)
    regressor = build(Path(start.base.folder), len(start.constant), _new_lora(settings))
    _check_adapted(regressor, start.base)
    start_at(start.constant, regressor, start.rows)
    if settings.training.recompute:
        recompute_layers(regressor.adapted.get_base_model())
    model = read_by_bins(regressor, start.bins)
    if not train(model, start.rows, settings.training, settings.loss, seed, folder, progress, start.lineage):
        return  # this process helped another, which saves
    expected = TorchStudent(start.window, model, start.dimensions).predict(proof_texts(data))
    _save(regressor, start.base, folder)
    del model, regressor  # the reloaded one takes as much memory
    check_reload(load(folder, window), proof_texts(data), expected)
    remove_checkpoint(folder)


def load(folder: Path, window: Window, *, merged: bool = False) -> Student:
    """Loads a student from its files; the adapter may be in any dialect that `adapters` knows.

    Args:
        folder: what `fit` wrote.
        window: how texts become ids.
        merged: whether the adapter's change is added to the base model's weights, as an export does.

    Raises:
        InputError: a file is missing or damaged, the base model is another, or the adapter lacks a tensor or has one
            too many.
        ProviderError: the base model is gone and the Hub cannot be reached.
    """
    base = BaseRecord.read(folder / "base.json")
    stored = read_tensors(folder / _ADAPTER)
    tensors = {short: stored[key] for key, short in normalise_keys(stored).items()}
    outputs, bins = len(tensors[HEAD]) if HEAD in tensors else 1, read_bins(folder)
    model = build(base_folder(base), outputs, _read_lora(folder / _ADAPTER_CONFIG))
    _apply(model, tensors, str(folder / _ADAPTER))
    if merged:
        model.adapted.merge_adapter()
    dimensions = outputs // (1 if bins is None else len(bins))
    return TorchStudent(TokenWindow(folder / "tokenizer.json", window), read_by_bins(model, bins), dimensions)


def take(source: Path, folder: Path, places: Sequence[int], window: Window, texts: Sequence[str]) -> None:
    """Copies a student with the dimensions at `places` alone, in their order, and sees that it answers alike.

    Raises:
        ModelError: on some of `texts` it does not.
    """
    heads = {key for key, short in normalise_keys(read_tensors(source / _ADAPTER)).items() if short == HEAD}
    copy_dimensions(source, folder, _ADAPTER, lambda name: name in heads, places)
    expected = load(source, window).predict(texts[:PROOF_TEXTS])[:, list(places)]
    check_reload(load(folder, window), texts[:PROOF_TEXTS], expected)


def _new_lora(settings: DecoderSettings) -> LoraConfig:
    return LoraConfig(
        task_type="SEQ_CLS",
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        lora_dropout=settings.lora.dropout,
        target_modules=list(ADAPTED),
        modules_to_save=["score"],
    )


def _check_adapted(model: LastTokenRegressor, base: BaseRecord) -> None:
    """Sees that every kind of linear layer got its adapter; peft is content with one of them."""
    found = {key.split(".")[-3] for key in model.adapter_weights() if key != HEAD}
    missing = [name for name in ADAPTED if name not in found]
    if missing:
        problem = Problem(
            base.public_name, f"no layers named {', '.join(missing)}", "a model built like Gemma or Llama"
        )
        raise InputError("base model", [problem])


def _save(model: LastTokenRegressor, base: BaseRecord, folder: Path) -> None:
    """Writes the adapter as peft would, but with sorted lists and without a path of this machine."""
    write_tensors(folder / _ADAPTER, {_KEY_ROOT + key: weight for key, weight in model.adapter_weights().items()})
    content = model.adapted.peft_config["default"].to_dict()
    content |= {"base_model_name_or_path": base.public_name, "modules_to_save": ["score"], "inference_mode": True}
    listed = {key: sorted(value) if isinstance(value, set) else value for key, value in content.items()}
    write_text(folder / _ADAPTER_CONFIG, json.dumps(listed, indent=2, sort_keys=True) + "\n")


def _read_lora(path: Path) -> LoraConfig:
    """Reads an adapter's settings, with the head among what is trained, whatever their writer said of it."""
    if not path.is_file():
        raise InputError(str(path), [Problem(path.name, "missing", "the adapter's settings")])
    try:
        lora = PeftConfig.from_pretrained(str(path.parent))
    except (ValueError, TypeError, KeyError) as error:
        problem = Problem(path.name, f"unreadable ({error})", "settings of a LoRA adapter")
        raise InputError(str(path), [problem]) from error
    if not isinstance(lora, LoraConfig) or lora.init_lora_weights not in _PLAIN_STARTS:
        found = f"{lora.peft_type}, init_lora_weights {getattr(lora, 'init_lora_weights', None)!r}"
        raise InputError(str(path), [Problem(path.name, found, "a plain LoRA adapter")])
    lora.task_type, lora.modules_to_save, lora.inference_mode = "SEQ_CLS", ["score"], False
    lora.base_model_name_or_path = None  # what base.json says counts
    return lora


@torch.no_grad()
def _apply(model: LastTokenRegressor, tensors: dict[str, torch.Tensor], where: str) -> None:
    """Puts an adapter's tensors into the model, all of them and nothing else."""
    weights = model.adapter_weights()
    check_pairs(set(tensors), set(weights), where)
    wrong = [key for key, weight in weights.items() if weight.shape != tensors[key].shape]
    if wrong:
        problems = [Problem(key, str(list(tensors[key].shape)), str(list(weights[key].shape))) for key in wrong]
        raise InputError(where, problems)
    for key, weight in weights.items():
        weight.copy_(tensors[key])
