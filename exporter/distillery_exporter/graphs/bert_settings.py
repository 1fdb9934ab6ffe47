"""The part of a BERT-like model's config.json that its graph depends on."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

_Size = Annotated[int, Field(ge=1)]


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
