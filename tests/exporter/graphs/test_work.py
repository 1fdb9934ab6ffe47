"""The multiply-adds that are told of a model are those of its weights."""

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from distillery_exporter.variants.models import bert_work, gemma_work

pytest.importorskip("torch")


def _products(base: Path) -> dict[str, int]:
    """The sizes of the weights of a checkpoint's layers that tokens are multiplied with."""
    tensors = load_file(base / "model.safetensors")
    return {name: t.size for name, t in tensors.items() if "layer" in name and name.endswith("weight") and t.ndim == 2}


def test_every_weight_of_an_encoders_layers_is_used_once_for_each_token(encoder_base: Path) -> None:
    config = json.loads((encoder_base / "config.json").read_text(encoding="utf-8"))

    work = bert_work(config, encoder_base)

    assert work.per_token == sum(_products(encoder_base).values())
    assert work.per_pair == 2 * config["num_hidden_layers"] * config["hidden_size"]


def test_a_decoders_last_layer_only_makes_keys_and_values_for_each_token(decoder_base: Path) -> None:
    config = json.loads((decoder_base / "config.json").read_text(encoding="utf-8"))
    last = f"layers.{config['num_hidden_layers'] - 1}."
    spared = ("q_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    work = gemma_work(config, decoder_base)

    sizes = _products(decoder_base)
    assert work.per_token == sum(
        size for name, size in sizes.items() if not (last in name and any(part in name for part in spared))
    )
