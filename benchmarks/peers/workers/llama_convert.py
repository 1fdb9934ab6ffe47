"""Writes a Gemma-3 checkpoint as GGUF and quantises it, in a process of its own: reads a task of `conversion`.

The file has no tokenizer, for the worker gets token ids. What is stored is bfloat16, from which llama.cpp's own
quantiser makes the form asked for; norms are float32, as that of the format stores 1 more than the checkpoint does.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from benchmarks.peers.workers.conversion import read_task

FORMS = {"Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M}
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_feedforward_layernorm": "post_ffw_norm",
}
WHOLE = {"embed_tokens": "token_embd", "norm": "output_norm"}

Array = NDArray[Any]  # Any: floats, or their bytes


def write_gguf(model: Path, path: Path) -> None:
    """Writes the checkpoint's weights with what llama.cpp has to know of them."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(path, "gemma3", use_temp_file=False)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_sliding_window(config["sliding_window"])
    writer.add_rope_freq_base(config["rope_parameters"]["full_attention"]["rope_theta"])
    writer.add_rope_freq_base_swa(config["rope_parameters"]["sliding_attention"]["rope_theta"])
    for name, array in _tensors(model):
        if array.ndim == 1:
            writer.add_tensor(name, 1 + array.astype(np.float32))
        else:
            bits = array.astype(ml_dtypes.bfloat16).view(np.uint8)
            writer.add_tensor(name, bits, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantise(source: Path, target: Path, form: str, threads: int) -> None:
    """Quantises by llama.cpp.

    Raises:
        RuntimeError: llama.cpp refuses.
    """
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.nthread, settings.ftype = threads, FORMS[form]
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), settings):
        raise RuntimeError(f"llama.cpp cannot make {form}")


def _tensors(model: Path) -> Iterator[tuple[str, Array]]:
    for path in sorted(model.glob("*.safetensors")):
        with safe_open(path, framework="np") as weights:
            for name in sorted(weights.keys()):
                short = name.removeprefix("model.").removesuffix(".weight")
                if short in WHOLE:
                    yield f"{WHOLE[short]}.weight", weights.get_tensor(name)
                elif short.startswith("layers."):
                    _, index, part = short.split(".", 2)
                    yield f"blk.{index}.{LAYER[part]}.weight", weights.get_tensor(name)


def main() -> None:
    """Converts, and quantises to the form that is asked for."""
    opening, folder = read_task()
    whole = folder / "bf16.gguf"
    write_gguf(opening.model, whole)
    quantise(whole, folder / "model.gguf", opening.options["form"], opening.threads)
    whole.unlink()


if __name__ == "__main__":
    main()
