"""The part of a Gemma-3 text model's config.json that its graph depends on."""

from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

LayerType = Literal["sliding_attention", "full_attention"]

_Size = Annotated[int, Field(ge=1)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_DEFAULT_THETA: dict[LayerType, float] = {"sliding_attention": 1e4, "full_attention": 1e6}


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
