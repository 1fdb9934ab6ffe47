"""A peft adapter's settings: plain LoRA on chosen layers is read, and whatever would change its sums is refused."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"

_Empty = Annotated[dict[str, object], Field(max_length=0)]
_LAYER = re.compile(r".*?\.[^.]*\.(\d+)\.")  # peft's own rule for a module's layer


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
