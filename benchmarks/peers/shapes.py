"""A checkpoint of Gemma-3-1B's shape with random weights: for speed, which does not depend on what the weights say.

The file is written tensor by tensor, as bfloat16, so that no more than one tensor is in memory.
"""

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np

CHUNK_ROWS = 8192
SPREAD = 0.02  # the standard deviation that transformers draws new weights with


@dataclass(frozen=True, slots=True)
class GemmaShape:
    """The sizes of a Gemma-3 text model; every `period`-th layer sees the whole text."""

    layers: int = 26
    hidden: int = 1152
    intermediate: int = 6912
    heads: int = 4
    shared_heads: int = 1
    head_width: int = 256
    vocabulary: int = 262_144
    window: int = 512
    period: int = 6


def gemma_config(shape: GemmaShape) -> dict[str, object]:
    """The config.json of a shape, as transformers 5 writes it."""
    kinds = ["sliding_attention" if (i + 1) % shape.period else "full_attention" for i in range(shape.layers)]
    rope = {"sliding_attention": 1e4, "full_attention": 1e6}
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "dtype": "bfloat16",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.shared_heads,
        "head_dim": shape.head_width,
        "query_pre_attn_scalar": shape.head_width,
        "sliding_window": shape.window,
        "layer_types": kinds,
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in rope.items()},
        "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-6,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }


def gemma_tensors(shape: GemmaShape) -> dict[str, tuple[int, ...]]:
    """The names and shapes of its tensors, in the file's order."""
    hidden, width = shape.hidden, shape.head_width
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocabulary, hidden)}
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (hidden,),
        "self_attn.q_proj": (shape.heads * width, hidden),
        "self_attn.k_proj": (shape.shared_heads * width, hidden),
        "self_attn.v_proj": (shape.shared_heads * width, hidden),
        "self_attn.o_proj": (hidden, shape.heads * width),
        "self_attn.q_norm": (width,),
        "self_attn.k_norm": (width,),
        "post_attention_layernorm": (hidden,),
        "pre_feedforward_layernorm": (hidden,),
        "mlp.gate_proj": (shape.intermediate, hidden),
        "mlp.up_proj": (shape.intermediate, hidden),
        "mlp.down_proj": (hidden, shape.intermediate),
        "post_feedforward_layernorm": (hidden,),
    }
    for index in range(shape.layers):
        tensors |= {f"model.layers.{index}.{name}.weight": size for name, size in layer.items()}
    return tensors | {"model.norm.weight": (hidden,)}


def write_random_gemma(folder: Path, tokenizer_of: Path, shape: GemmaShape | None = None) -> None:
    """Writes config.json and model.safetensors into a folder, unless they are there, with another Gemma's tokenizer.

    Args:
        folder: where the checkpoint is written.
        tokenizer_of: a folder whose tokenizer files are linked, for the token ids are real.
        shape: the sizes; Gemma-3-1B's by default.
    """
    shape = shape or GemmaShape()
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if not (folder / name).exists():
            (folder / name).symlink_to((tokenizer_of / name).resolve())
    weights, config = folder / "model.safetensors", folder / "config.json"
    config.write_text(json.dumps(gemma_config(shape), indent=2) + "\n", encoding="utf-8")
    if not weights.exists():
        beside = weights.with_suffix(".part")
        with beside.open("wb") as stream:
            _write_tensors(stream, gemma_tensors(shape))
        beside.rename(weights)


def _write_tensors(stream: BinaryIO, tensors: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file: the header's length, the header as JSON, the tensors' bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, size in tensors.items():
        begin, end = end, end + 2 * math.prod(size)
        header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    stream.write(struct.pack("<Q", len(text)) + text)
    generator = np.random.default_rng(0)
    for size in tensors.values():
        for part in _parts(size):
            values = generator.standard_normal(part, dtype=np.float32) * np.float32(SPREAD)
            stream.write(values.astype(ml_dtypes.bfloat16).tobytes())


def _parts(size: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """A large tensor's shape as those of slices of its rows."""
    for first in range(0, size[0], CHUNK_ROWS):
        yield min(CHUNK_ROWS, size[0] - first), *size[1:]
