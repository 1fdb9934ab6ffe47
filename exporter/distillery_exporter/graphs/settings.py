"""Settings of models and adapters: strict about what changes a model's outputs, blind to the rest."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.reading import describe

Settings = TypeVar("Settings", bound=BaseModel)
LayerType = Literal["sliding_attention", "full_attention"]
CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"

_DEFAULT_THETA: dict[LayerType, float] = {"sliding_attention": 1e4, "full_attention": 1e6}
_Size = Annotated[int, Field(ge=1)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Empty = Annotated[dict[str, object], Field(max_length=0)]
_LAYER = re.compile(r".*?\.[^.]*\.(\d+)\.")  # peft's own rule for a module's layer


def read_json(path: Path) -> Mapping[str, object]:
    """Reads a JSON object.

    Raises:
        InputError: the file is missing, not readable, or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(str(path), [Problem("(file)", error.strerror or str(error), "a readable file")]) from error
    except ValueError as error:
        raise InputError(str(path), [Problem("(file)", str(error), "JSON")]) from error
    if not isinstance(data, dict):
        raise InputError(str(path), [Problem("(top)", type(data).__name__, "a JSON object")])
    return data


def read_settings(model: type[Settings], data: Mapping[str, object], where: Path) -> Settings:
    """Reads the settings that a graph depends on out of a config.

    Args:
        model: what to read.
        data: the config.
        where: its file, for messages.

    Raises:
        InputError: with every problem found: a missing key, a wrong value, an option that is not supported.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(str(where), [describe(item) for item in error.errors(include_url=False)]) from error


class BertSettings(BaseModel):
    """Sizes and choices of a `bert`, `roberta` or `xlm-roberta` encoder. Other choices are refused."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model_type: Literal["bert", "roberta", "xlm-roberta"]
    vocab_size: _Size
    hidden_size: _Size
    intermediate_size: _Size
    num_hidden_layers: _Size
    num_attention_heads: _Size
    max_position_embeddings: _Size
    type_vocab_size: _Size
    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-12
    pad_token_id: Annotated[int, Field(ge=0)] | None = None
    hidden_act: Literal["gelu"]
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False

    @field_validator("num_attention_heads")
    @classmethod
    def _heads_share_the_width(cls, heads: int, info: ValidationInfo) -> int:
        if info.data.get("hidden_size", 0) % heads:
            raise ValueError(f"a divisor of hidden_size, which is {info.data['hidden_size']}")
        return heads

    @property
    def first_position(self) -> int:
        """The position of the first token: RoBERTa counts from beyond its padding id, 1 unless the config differs."""
        if self.model_type == "bert":
            return 0
        return (1 if self.pad_token_id is None else self.pad_token_id) + 1


class Rope(BaseModel):
    """One layer type's rotary embedding: the base of its frequencies, all divided by `factor` if it is "linear"."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    rope_type: Annotated[Literal["default", "linear"], Field(validation_alias=AliasChoices("rope_type", "type"))] = (
        "default"
    )
    rope_theta: _Positive | None = None
    factor: Annotated[_Positive | None, Field(validate_default=True)] = None
    partial_rotary_factor: Annotated[float, Field(ge=1, le=1)] | None = None

    @field_validator("factor")
    @classmethod
    def _linear_has_factor(cls, factor: float | None, info: ValidationInfo) -> float | None:
        if factor is None and info.data.get("rope_type") == "linear":
            raise ValueError("a number, as rope_type is 'linear'")
        return factor

    @property
    def divisor(self) -> float:
        """What the frequencies are divided by."""
        return self.factor if self.rope_type == "linear" and self.factor else 1.0


class RopeByLayerType(BaseModel):
    """The rotary embeddings as transformers 5 writes them; one that is absent is the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sliding_attention: Rope | None = None
    full_attention: Rope | None = None


class GemmaSettings(BaseModel):
    """Sizes and choices of a `gemma3_text` model, with transformers' defaults. Other choices are refused."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model_type: Literal["gemma3_text"]
    vocab_size: _Size
    hidden_size: _Size
    intermediate_size: _Size
    num_hidden_layers: _Size
    num_attention_heads: _Size
    num_key_value_heads: _Size
    head_dim: Annotated[int, Field(ge=2, multiple_of=2)] = 256
    max_position_embeddings: _Size = 131_072
    query_pre_attn_scalar: _Positive = 256
    rms_norm_eps: _Positive = 1e-6
    sliding_window: _Size = 4096
    sliding_window_pattern: _Size = 6
    layer_types: tuple[LayerType, ...] | None = None

    rope_parameters: RopeByLayerType | None = None
    rope_theta: _Positive | None = None
    rope_local_base_freq: _Positive | None = None
    rope_scaling: Rope | None = None

    hidden_activation: Literal["gelu_pytorch_tanh"] = "gelu_pytorch_tanh"
    attention_bias: Literal[False] = False
    attn_logit_softcapping: Literal[None] = None
    final_logit_softcapping: Literal[None] = None
    use_bidirectional_attention: Literal[False, None] = None

    @field_validator("num_key_value_heads")
    @classmethod
    def _groups_are_equal(cls, shared: int, info: ValidationInfo) -> int:
        if info.data.get("num_attention_heads", 0) % shared:
            raise ValueError(f"a divisor of num_attention_heads, which is {info.data['num_attention_heads']}")
        return shared

    @field_validator("layer_types")
    @classmethod
    def _every_layer_has_a_type(cls, types: tuple[LayerType, ...] | None, info: ValidationInfo) -> object:
        layers = info.data.get("num_hidden_layers")
        if types is not None and layers is not None and len(types) != layers:
            raise ValueError(f"{layers} of them, one for each layer, not {len(types)}")
        return types

    @property
    def layers(self) -> tuple[LayerType, ...]:
        """Each layer's type; without a list every `sliding_window_pattern`-th layer sees everything."""
        if self.layer_types is not None:
            return self.layer_types
        period = self.sliding_window_pattern
        return tuple(
            "sliding_attention" if (index + 1) % period else "full_attention" for index in range(self.num_hidden_layers)
        )

    def rope(self, layer_type: LayerType) -> tuple[float, float]:
        """A layer type's rotary base and what its frequencies are divided by, from either way to write them."""
        older = self.rope_theta if layer_type == "full_attention" else self.rope_local_base_freq
        given = self.rope_parameters or RopeByLayerType()
        named = (given.full_attention if layer_type == "full_attention" else given.sliding_attention) or Rope()
        if self.rope_scaling is not None and layer_type == "full_attention":
            named = named.model_copy(update=self.rope_scaling.model_dump(exclude_unset=True))
        return named.rope_theta or older or _DEFAULT_THETA[layer_type], named.divisor


class AdapterSettings(BaseModel):
    """What `adapter_config.json` says about where the adapter sits and how much it counts."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    peft_type: Literal["LORA"]
    r: Annotated[int, Field(ge=1)]
    lora_alpha: Annotated[float, Field(allow_inf_nan=False)]
    target_modules: str | tuple[str, ...]
    layers_to_transform: int | tuple[int, ...] | None = None

    # Options under which `B @ A * alpha / r`, added to the stored base weights, is not what was trained.
    use_rslora: Literal[False] = False
    use_dora: Literal[False] = False
    use_qalora: Literal[False] = False
    use_bdlora: Literal[None, False] = None
    lora_bias: Literal[False] = False
    fan_in_fan_out: Literal[False] = False
    bias: Literal["none"] = "none"
    init_lora_weights: Literal[True, False, "gaussian", None] = True
    rank_pattern: _Empty | None = None
    alpha_pattern: _Empty | None = None
    layers_pattern: Literal[None] = None
    exclude_modules: Literal[None] = None
    layer_replication: Literal[None] = None
    alora_invocation_tokens: Literal[None] = None
    target_parameters: Literal[None] = None
    arrow_config: Literal[None] = None
    kasa_config: Literal[None] = None
    monteclora_config: Literal[None] = None
    trainable_token_indices: Literal[None] = None

    def covers(self, module: str) -> bool:
        """Whether peft puts a LoRA pair on this module, e.g. `model.layers.0.self_attn.q_proj`."""
        if isinstance(self.target_modules, str):  # a pattern stands alone: peft asks for no layer then
            return re.fullmatch(self.target_modules, module) is not None
        named = any(module == name or module.endswith(f".{name}") for name in self.target_modules)
        return named and self._is_in_layers(module)

    def _is_in_layers(self, module: str) -> bool:
        wanted = self.layers_to_transform
        if wanted is None or wanted == ():
            return True
        layer = _LAYER.match(module)
        return layer is not None and int(layer[1]) in (wanted if isinstance(wanted, tuple) else (wanted,))
