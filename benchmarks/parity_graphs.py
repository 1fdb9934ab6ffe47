"""Our graphs of a checkpoint, with a random head whose outputs look like raw scores."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.graphs import DIMENSIONS, our_model, plain_maps
from benchmarks.peers.models import Kind
from distillery_exporter.graphs.gemma import build_gemma_regressor
from distillery_exporter.graphs.precision import Plain
from distillery_exporter.graphs.watching import RESIDUAL, residual_scale
from distillery_exporter.variants.models import RESIDUAL_LIMIT, Bert, Gemma, Texts
from distillery_runtime.format.variants import Device
from distillery_runtime.models.session import Graph
from distillery_runtime.models.stage import INPUTS
from distillery_runtime.tokens.window import TokenIds, pad

MEAN, SPREAD = 5.0, 2.0  # raw scores are about this far from each other, between 0 and 10
OUTPUTS = {"decoder": ["raw", "scores"], "encoder": ["pooled"]}

Floats = NDArray[np.float32]


def random_head(pooled: Floats) -> Floats:
    """A head (D, H), always the same for the same states, whose outputs on them have the mean 5 and the deviation 2.

    Random rows alone would not do: a decoder's last states share a large common part, and a trained head has learned
    to look past it.

    Args:
        pooled: (N, H) float32, the states of some articles.
    """
    states = pooled.astype(np.float64)
    mean = states.mean(axis=0)
    rows = np.random.default_rng(0).standard_normal((DIMENSIONS, states.shape[1]))
    rows -= np.outer(rows @ mean, mean) / (mean @ mean)
    rows *= SPREAD / (states @ rows.T).std(axis=0)[:, None]
    head: Floats = (rows + MEAN * mean / (mean @ mean)).astype(np.float32)
    return head


@dataclass(frozen=True)
class Source:
    """A checkpoint and its head (None for an encoder); the forms that need it are fitted to the `tuning` articles."""

    folder: Path
    kind: Kind
    head: Floats | None
    tuning: Sequence[TokenIds]
    work: Path
    max_tokens: int

    @cached_property
    def model(self) -> Bert | Gemma:
        """The model as the exporter has it."""
        return self._model(self.max_tokens)

    @property
    def largest_residual(self) -> float:
        """The residual stream's largest magnitude, of a decoder."""
        return max(float(values.max()) for site, values in self._maxima.items() if site.endswith(RESIDUAL))

    @property
    def half_scale(self) -> float:
        """What a decoder's residual stream is divided by for float16."""
        return residual_scale(self._maxima, RESIDUAL_LIMIT)

    def build_fp32(self, path: Path, max_tokens: int | None = None) -> Path:
        """Writes the cpu-fp32 form and gives its path."""
        self._model(max_tokens or self.max_tokens).write(path, "cpu-fp32", plain_maps(DIMENSIONS))
        return path

    def build_int8(self, path: Path) -> Path:
        """Writes the cpu-int8 form and gives its path."""
        self.model.write(path, "cpu-int8", plain_maps(DIMENSIONS))
        return path

    def build_half(self, path: Path, dtype: type[np.generic], scale: float) -> Path:
        """Writes a decoder's form in half precision, its residual stream divided by any scale, and gives its path."""
        source, precision = self._decoder.source, Plain(dtype)
        build_gemma_regressor(path, source, DIMENSIONS, plain_maps(DIMENSIONS), self.max_tokens, precision, scale)
        return path

    @property
    def _decoder(self) -> Gemma:
        assert isinstance(self.model, Gemma)
        return self.model

    @property
    def _maxima(self) -> Mapping[str, Floats]:
        return self._decoder.maxima

    def _model(self, max_tokens: int) -> Bert | Gemma:
        return our_model(self.folder, self.head, Texts(lambda: self.tuning, self.work), max_tokens)


class OurModel:
    """A graph in the runtime's own session."""

    def __init__(self, path: Path, kind: Kind, threads: int, device: Device = "cpu") -> None:
        self._graph = Graph(path, INPUTS, OUTPUTS[kind], device, threads)
        self._output = OUTPUTS[kind][0]

    def answers(self, rows: Sequence[TokenIds]) -> Floats:
        """A decoder's raw outputs or an encoder's states for texts padded into one batch: (B, K) float32."""
        return self._graph.run(dict(zip(INPUTS, pad(rows), strict=True)))[self._output]

    def in_batches(self, batches: Iterable[Sequence[TokenIds]]) -> Floats:
        """The answers to several batches, one below the other."""
        return np.concatenate([self.answers(batch) for batch in batches])
