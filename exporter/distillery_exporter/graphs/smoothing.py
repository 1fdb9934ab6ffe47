"""Smoothing: moves the spread of activations into the weights before int8, where it costs less. It changes no result.

SmoothQuant (Xiao et al. 2023, arXiv 2211.10438): column j of a product's input is divided by z_j, and of its weights
multiplied by it, z_j = max|x_j|^a / max|w_j|^(1 - a). The division costs nothing where it can be folded into what made
the input: a norm's gain, the rows of the value projection, the rows of the up projection.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from distillery_exporter.graphs.settings import GemmaSettings
from distillery_exporter.graphs.weights import Weights, WeightSource

# Of 0.4 to 0.8, measured on Gemma-3-270M: the error that rounding rows brings was least at 0.7, and weights that are
# rounded to fit their inputs bear it.
STRENGTH = 0.7
_SMALLEST = 1e-5


class SmoothedGemma:
    """A Gemma-3 model with the same answers, whose products' inputs are easier to round.

    Args:
        source: the model.
        settings: its settings.
        maxima: for each site of the model's products the largest magnitude of each input channel, (K,) float32.
        strength: the share of the spread that moves, from 0 to 1.
    """

    def __init__(
        self,
        source: WeightSource,
        settings: GemmaSettings,
        maxima: Mapping[str, Weights],
        strength: float = STRENGTH,
    ) -> None:
        self._source = source
        self._settings = settings
        self._maxima = maxima
        self._strength = strength
        self._factors: dict[str, Weights] = {}

    @property
    def where(self) -> Path:
        """The folder of config.json, for messages."""
        return self._source.where

    @property
    def config(self) -> Mapping[str, object]:
        """The model's config.json."""
        return self._source.config

    def get(self, name: str, shape: tuple[int, ...]) -> Weights:
        """Reads a tensor and moves its part of the spread in or out; errors as the source's."""
        weights = self._source.get(name, shape)
        layer, _, part = name.removesuffix(".weight").rpartition("layers.")[2].partition(".")
        change = self._changes(f"model.layers.{layer}").get(part)
        return change(weights) if change else weights

    def check_complete(self) -> None:
        """As the source's."""
        self._source.check_complete()

    def _changes(self, layer: str) -> Mapping[str, Callable[[Weights], Weights]]:
        """What happens to each of a layer's tensors. A gain is stored as its distance from 1."""
        s, attention, mlp = self._settings, f"{layer}.self_attn", f"{layer}.mlp"
        heads, shared = s.num_attention_heads * s.head_dim, s.num_key_value_heads * s.head_dim

        def qkv() -> Weights:
            sizes = {"q_proj": heads, "k_proj": shared, "v_proj": shared}
            return self._factor(f"{attention}.qkv", [(f"{attention}.{n}", size) for n, size in sizes.items()])

        def gate_up() -> Weights:
            names = [(f"{mlp}.{n}", s.intermediate_size) for n in ("gate_proj", "up_proj")]
            return self._factor(f"{mlp}.gate_up", names)

        def out() -> Weights:
            """(kv, width): the query heads of a group read the same values, so that they share a factor."""
            return self._factor(f"{attention}.o_proj", [(f"{attention}.o_proj", s.hidden_size)])

        def down() -> Weights:
            return self._factor(f"{mlp}.down_proj", [(f"{mlp}.down_proj", s.hidden_size)])

        return {
            "input_layernorm": lambda w: (1 + w) / qkv() - 1,
            "self_attn.q_proj": lambda w: w * qkv(),
            "self_attn.k_proj": lambda w: w * qkv(),
            "self_attn.v_proj": lambda w: w * qkv() / self._shared(out())[:, None],
            "self_attn.o_proj": lambda w: w * out(),
            "pre_feedforward_layernorm": lambda w: (1 + w) / gate_up() - 1,
            "mlp.gate_proj": lambda w: w * gate_up(),
            "mlp.up_proj": lambda w: w * gate_up() / down()[:, None],
            "mlp.down_proj": lambda w: w * down(),
        }

    def _factor(self, site: str, weights: Sequence[tuple[str, int]]) -> Weights:
        """The factors z of one site, (K,) float32, from the weights (size, K) that read it."""
        if site not in self._factors:
            inputs = self._maxima[site]
            columns = [np.abs(self._source.get(f"{n}.weight", (size, len(inputs)))).max(axis=0) for n, size in weights]
            largest = np.maximum.reduce(columns)
            if site.endswith("o_proj"):
                inputs, largest = self._repeated(inputs), self._repeated(largest)
            spread = np.maximum(inputs, _SMALLEST) ** self._strength
            self._factors[site] = spread / np.maximum(largest, _SMALLEST) ** (1 - self._strength)
        return self._factors[site]

    def _repeated(self, values: Weights) -> Weights:
        """(heads * width,) with the largest value of each group of query heads in all of its heads."""
        s = self._settings
        grouped = values.reshape(s.num_key_value_heads, -1, s.head_dim)
        return np.broadcast_to(grouped.max(axis=1, keepdims=True), grouped.shape).reshape(-1)

    def _shared(self, values: Weights) -> Weights:
        """(kv * width,) from (heads * width,), equal within each group."""
        s = self._settings
        return values.reshape(s.num_key_value_heads, -1, s.head_dim)[:, 0].reshape(-1)
