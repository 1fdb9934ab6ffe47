"""One stage of the cascade: token ids in, raw outputs and calibrated scores out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.errors import ModelError
from distillery_runtime.manifest import StageEntry, VariantEntry
from distillery_runtime.session import Graph, Provider
from distillery_runtime.window import TokenIds, TokenWindow, pad, token_batches

BATCH_TOKENS = 4096

INPUTS = ("input_ids", "attention_mask")
POOLED = ("pooled",)
OUTPUTS = ("raw", "scores")


@dataclass(frozen=True, slots=True)
class StageOutput:
    """A stage's answers: `raw` (N, D) float32, any finite value; `scores` (N, D) float32 in [0, 10], calibrated."""

    raw: NDArray[np.float32]
    scores: NDArray[np.float32]


class Stage:
    """A stage's tokenizer and graphs, opened from a checked bundle folder."""

    def __init__(
        self, folder: Path, entry: StageEntry, variant: VariantEntry, provider: Provider, threads: int | None
    ) -> None:
        self.name = entry.name
        self.threshold = entry.threshold
        self.variant = variant.name
        self.window = TokenWindow(folder / entry.tokenizer, entry.window, entry.prefix)
        ends = [INPUTS, *[POOLED] * (len(variant.graphs) - 1), OUTPUTS]
        self._graphs = [
            Graph(folder / path, ends[i], ends[i + 1], provider, threads) for i, path in enumerate(variant.graphs)
        ]

    @property
    def provider(self) -> str:
        """Where the graphs really run: "cpu" or "cuda"."""
        return self._graphs[0].provider

    def run(self, rows: Sequence[TokenIds]) -> StageOutput:
        """Answers every row, in order, in length-sorted batches of at most `BATCH_TOKENS` tokens.

        Raises:
            ModelError: the model gave another shape than (N, D), or a value that is not finite.
        """
        parts = [(batch, self.run_batch([rows[i] for i in batch])) for batch in self._batches(rows)]
        order = np.argsort(np.concatenate([batch for batch, _ in parts]))
        raw = np.concatenate([output.raw for _, output in parts])[order]
        scores = np.concatenate([output.scores for _, output in parts])[order]
        return StageOutput(raw, scores)

    @staticmethod
    def _batches(rows: Sequence[TokenIds]) -> list[list[int]]:
        return token_batches([len(row.ids) for row in rows], BATCH_TOKENS)

    def run_batch(self, rows: Sequence[TokenIds]) -> StageOutput:
        """Answers rows as one batch, padded to the longest; errors as in `run`."""
        input_ids, mask = pad(rows)
        values = self._graphs[0].run({"input_ids": input_ids, "attention_mask": mask})
        for graph in self._graphs[1:]:
            values = graph.run({"pooled": values["pooled"]})
        output = StageOutput(values["raw"], values["scores"])
        for array in (output.raw, output.scores):
            shaped = array.ndim == 2 and len(array) == len(rows) and array.shape == output.raw.shape
            if not shaped or not np.all(np.isfinite(array)):
                raise ModelError(
                    f"stage {self.name}, variant {self.variant}: an output that is not finite or not (N, D)"
                )
        return output
