"""The models that are compared, and how much there is to compute in a pass of each."""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["encoder", "decoder"]
Config = Mapping[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True)
class Model:
    """One model. `tokens`: the lengths it is timed at. `random`: weights without meaning, so that only speed counts."""

    name: str
    kind: Kind
    tokens: tuple[int, ...]
    random: bool = False


MODELS = (
    Model("multilingual-e5-small", "encoder", (128, 256, 512)),
    Model("gemma-3-270m", "decoder", (128, 512)),
    Model("gemma-3-1b-shape", "decoder", (128, 512), random=True),
)
TOKENIZER_OF_RANDOM = "gemma-3-270m"


def read_config(folder: Path) -> Config:
    """A checkpoint's config.json."""
    config: Config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


def multiply_adds(config: Config, kind: Kind, tokens: int) -> int:
    """The multiply-adds of one pass over a text: every linear layer for every token, and attention.

    A decoder's token attends to those up to itself, an encoder's to all. Embeddings, norms, activations are left out,
    and so is the head. A program that does less, as ours in the last layer, is measured against the same number.
    """
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    width = config.get("head_dim", hidden // heads)
    shared = config.get("num_key_value_heads", heads)
    attended = tokens * (tokens + 1) // 2 if kind == "decoder" else tokens**2
    feed = (3 if kind == "decoder" else 2) * hidden * inner
    linear = 2 * hidden * heads * width + 2 * hidden * shared * width + feed
    return int(layers * (tokens * linear + 2 * attended * heads * width))


def parameters(folder: Path) -> int:
    """How many numbers a checkpoint's weights are."""
    return sum(_numbers_in(path) for path in folder.glob("*.safetensors"))


def _numbers_in(path: Path) -> int:
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            total += (end - begin) // (4 if tensor["dtype"] == "F32" else 2)
    return total


def weights_label(model: Model, folder: Path) -> str:
    """Which weights these are: the digest of their files, and whether they are random."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return f"{'random, ' if model.random else ''}sha256 {digest.hexdigest()}"
