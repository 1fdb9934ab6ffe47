"""Who is compared: one row for each peer and form of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.peers.models import Kind, Model

REFERENCE = "pytorch-sdpa-fp32"
OURS = ("ours-cpu-fp32", "ours-cpu-int8")
ANCHORS = (REFERENCE, *OURS)  # what all others are compared with, in the same rounds
BFLOAT16 = ("AMX bf16", "AVX-512 BF16")  # without either, bfloat16 is emulated and many times slower

Option = str | bool | int


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the comparison.

    `worker` and `environment`: the module, and whose Python runs it. `gigabytes`: what a billion weights take up.
    `arithmetic`: the peak that its speed is measured against. `speed_only`: why its answers are not compared, or "".
    `instructions`: of these the processor must have one, if there are any.
    """

    name: str
    worker: str
    environment: str
    gigabytes: float
    options: Mapping[str, Option] = field(default_factory=dict)
    kinds: tuple[Kind, ...] = ("encoder", "decoder")
    arithmetic: Literal["fp32", "int8"] | None = None
    speed_only: str = ""
    instructions: tuple[str, ...] = ()

    def applies_to(self, model: Model) -> bool:
        """Whether there is such a row for a model."""
        return model.kind in self.kinds


DECODER: tuple[Kind, ...] = ("decoder",)
ENCODER: tuple[Kind, ...] = ("encoder",)
ALL = (*ENCODER, *DECODER)

CONTENDERS = (
    Contender(REFERENCE, "pytorch", "torch", 4.5, {"dtype": "float32"}, arithmetic="fp32"),
    Contender("ours-cpu-fp32", "ours", "ours", 4.5, {"form": "fp32"}, arithmetic="fp32"),
    Contender("ours-cpu-int8", "ours", "ours", 1.5, {"form": "int8"}, arithmetic="int8"),
    Contender("openvino-fp32", "openvino_peer", "openvino", 4.5, {"hint": "f32"}, arithmetic="fp32"),
    Contender("openvino-int8-weights", "openvino_peer", "openvino", 1.5, {"hint": "f32", "form": "weights"}),
    Contender("openvino-int8-nncf", "openvino_peer", "openvino", 2.5, {"hint": "f32", "form": "nncf"}, ALL, "int8"),
    Contender("llama.cpp-q8_0", "llama", "llama-cpp", 2.2, {"form": "Q8_0"}, DECODER),
    Contender("llama.cpp-q4_k_m", "llama", "llama-cpp", 1.5, {"form": "Q4_K_M"}, DECODER),
    Contender("llama.cpp-q8_0-embedding", "llama", "llama-cpp", 2.2, {"form": "Q8_0", "embedding": True}, DECODER),
    Contender("sentence-transformers-torch", "sentence", "torch", 4.5, {"backend": "torch"}, ENCODER, "fp32"),
    Contender("sentence-transformers-onnx", "sentence", "st-onnx", 4.5, {"backend": "onnx"}, ENCODER, "fp32"),
    Contender(
        "sentence-transformers-onnx-o3", "sentence", "st-onnx", 4.5, {"backend": "onnx", "form": "O3"}, ENCODER, "fp32"
    ),
    Contender(
        "sentence-transformers-onnx-int8",
        "sentence",
        "st-onnx",
        2,
        {"backend": "onnx", "form": "int8"},
        ENCODER,
        "int8",
    ),
    Contender("pytorch-sdpa-bf16", "pytorch", "torch", 2.5, {"dtype": "bfloat16"}, instructions=BFLOAT16),
    # Of a gated MLP OpenVINO 2026.4 divides by half of its threads: on Gemma with one thread it ends by SIGFPE.
    Contender("openvino-bf16", "openvino_peer", "openvino", 4.5, {"hint": "bf16"}, instructions=BFLOAT16),
    Contender(
        "pytorch-sdpa-fp32-lora",
        "pytorch",
        "torch",
        4.5,
        {"adapter": True},
        arithmetic="fp32",
        speed_only="a random adapter: speed only",
    ),
    Contender(
        "static-lookup",
        "static",
        "ours",
        0.3,
        kinds=ENCODER,
        speed_only="what a static embedding computes: another model, speed only",
    ),
)
