"""One stage of the cascade: token ids in, raw outputs and calibrated scores out."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.errors import ModelError, ProviderError
from distillery_runtime.format.manifest import StageEntry, VariantEntry
from distillery_runtime.format.variants import Choice, Device, choose
from distillery_runtime.models.cuda import bucket_batches, cuda_is_installed, pad_to_bucket
from distillery_runtime.models.session import Graph, Provider
from distillery_runtime.models.shared import Shared
from distillery_runtime.spec.routing import CHANCE_DECIMALS
from distillery_runtime.tokens.window import TokenIds, TokenWindow, pad, token_batches

logger = logging.getLogger(__name__)

# Tokens of one batch on a CPU. Against single rows on one EPYC Zen 3 thread, e5-small in fp32: rows of 8-24 tokens
# run 1.5 times as fast at 128 and 1.1 at 4,096; rows of 64-160 tokens 1.0 at 128 and 0.64 at 4,096, probably because
# the activations outgrow the cache. So only short rows share a call. Gemma-3-270M in int8 showed the same pattern.
BATCH_TOKENS = 128

INPUTS = ("input_ids", "attention_mask")
POOLED = ("pooled",)
OUTPUTS = {1: ("raw", "scores"), 2: ("raw", "expected", "scores")}  # of the last graph, by the bundle's format

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StageOutput:
    """A stage's answers.

    `raw`: (N, D) float32, any finite value, or (N, D + 1) of a model with a find head, whose logit comes last.
    `expected`, `scores`: (N, D) float32 in [0, 10], the two read-outs, which are the same in format 1.
    """

    raw: Floats
    expected: Floats
    scores: Floats

    @property
    def rows(self) -> Floats:
        """All that decides: (N, 2 D) or (N, 2 D + 1) float32, `scores`, `expected` and the find head's logit."""
        return np.concatenate([self.scores, self.expected, self.raw[:, self.scores.shape[1] :]], axis=1)


class Stage:
    """A stage's tokenizer and the graphs of one of its variants, opened from a checked bundle folder.

    `graphs` is one graph from token ids to scores, or an encoder and a head. A head always runs on the CPU: it is a
    small matrix and a table on a vector that is in main memory anyway, microseconds there and a dozen launches on CUDA.

    Args:
        folder: the bundle's folder.
        entry: the stage.
        variant: which of its variants to open.
        provider: where to run it.
        threads: threads for each graph; None for the cores this process may use.
        shared: where to look for, and keep, graphs and tokenizers that other stages use too.
        reason: why this variant, for people.
    """

    def __init__(
        self,
        folder: Path,
        entry: StageEntry,
        variant: VariantEntry,
        provider: Device,
        threads: int | None,
        shared: Shared | None = None,
        reason: str = "",
    ) -> None:
        self.name = entry.name
        self.routing = entry.routing
        self.variant = variant.name
        self.reason = reason
        self.knows_chance = entry.chance is not None  # the oracle's; a router of format 1 knows the next stage's
        self.outputs = OUTPUTS[2 if self.knows_chance else 1]
        self._max_tokens = entry.window.max_tokens
        self.window: TokenWindow = (shared.window if shared else TokenWindow)(
            folder / entry.tokenizer, entry.window, entry.prefix
        )
        opened = shared.graph if shared else Graph
        chain = [INPUTS, *[POOLED] * (len(variant.graphs) - 1), self.outputs]
        self.graphs: tuple[Graph, ...] = tuple(
            opened(folder / path, chain[i], chain[i + 1], provider if i == 0 else "cpu", threads)
            for i, path in enumerate(variant.graphs)
        )

    @property
    def provider(self) -> Device:
        """Where the model really runs: "cpu" or "cuda"."""
        return self.graphs[0].provider

    def chance(self, values: Sequence[float]) -> float:
        """The chance in [0, 1] that an article is a find: (D,) or (D + 1,) rounded values; 0 without a chance model.

        In format 2 it is rounded as results show it, so that a reader can recompute every decision.
        """
        if self.routing.model is None:
            return 0.0
        chance = self.routing.model.chance(values)
        return round(chance, CHANCE_DECIMALS) if self.knows_chance else chance

    def run(self, rows: Sequence[TokenIds]) -> StageOutput:
        """Answers every row, in order, in batches of rows of similar length. At least one row.

        Raises:
            ModelError: the model gave another shape than (N, D), or a value that is not finite.
        """
        return self._answer(self._run_all(rows), len(rows))

    def run_batch(self, rows: Sequence[TokenIds]) -> StageOutput:
        """Answers rows as one batch, padded to the longest; errors as in `run`."""
        return self._answer(self._run_first(rows), len(rows))

    def pool(self, rows: Sequence[TokenIds]) -> Floats:
        """Gives every row's pooled state, in order, in batches like `run`; only for a stage of two graphs.

        Returns:
            (N, H) float32.

        Raises:
            ModelError: the encoder gave another shape, or a value that is not finite.
        """
        return self._checked(self._run_all(rows)["pooled"], len(rows))

    def answer(self, pooled: Floats) -> StageOutput:
        """Answers pooled states (N, H), as `pool` gives them; only for a stage of two graphs. Errors as in `run`."""
        return self._answer({"pooled": pooled}, len(pooled))

    def _answer(self, values: dict[str, Floats], count: int) -> StageOutput:
        for graph in self.graphs[1:]:
            values = graph.run({"pooled": self._checked(values["pooled"], count)})
        raw, *read, scores = (self._checked(values[name], count) for name in self.outputs)
        expected = read[0] if read else scores
        if expected.shape != scores.shape or raw.shape[1] - scores.shape[1] not in ((0, 1) if read else (0,)):
            shapes = f"raw {raw.shape}, expected {expected.shape}, scores {scores.shape}"
            raise ModelError(f"{self._where}: {shapes}, expected the same shape")
        return StageOutput(raw, expected, scores)

    def _run_all(self, rows: Sequence[TokenIds]) -> dict[str, Floats]:
        """The first graph's outputs for all rows, in the rows' order."""
        batches = list(self._batches([len(row.ids) for row in rows]))
        parts = [self._run_first([rows[i] for i in batch]) for batch in batches]
        order = np.argsort(np.concatenate(batches))
        return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        if self.provider == "cuda":
            yield from bucket_batches(lengths, self._max_tokens)
        else:
            yield from token_batches(lengths, BATCH_TOKENS)

    def _run_first(self, rows: Sequence[TokenIds]) -> dict[str, Floats]:
        arrays = pad_to_bucket(rows, self._max_tokens) if self.provider == "cuda" else pad(rows)
        values = self.graphs[0].run(dict(zip(INPUTS, arrays, strict=True)))
        if any(value.ndim != 2 or len(value) != len(arrays[0]) for value in values.values()):
            raise ModelError(f"{self._where}: an output that is not one vector for each row")
        return {name: value[: len(rows)] for name, value in values.items()}

    def _checked(self, array: Floats, count: int) -> Floats:
        if array.ndim != 2 or len(array) != count or not np.all(np.isfinite(array)):
            raise ModelError(f"{self._where}: an output that is not finite or not one vector for each row")
        return array

    @property
    def _where(self) -> str:
        return f"stage {self.name}, variant {self.variant}"


def open_stage(
    folder: Path, entry: StageEntry, provider: Provider, threads: int | None, wanted: str | None, shared: Shared
) -> Stage:
    """Opens the variant of a stage that is best here. With "auto" that is CUDA where a session really starts on it.

    Raises:
        ProviderError: the hardware that was asked for, or that the stage's variants need, is not here.
        BundleError: no variant of the stage is known, or a file of it cannot be opened.
    """
    variants = {variant.name: variant for variant in entry.variants}

    def opened(device: Device, note: str = "") -> Stage:
        choice: Choice = choose(list(variants), device, wanted)
        return Stage(folder, entry, variants[choice.name], device, threads, shared, choice.reason + note)

    stage = None
    note = ""
    if provider == "auto" and cuda_is_installed():
        try:
            stage = opened("cuda")
        except ProviderError as error:
            logger.warning("not on CUDA", extra={"stage": entry.name, "error": str(error)})
            note = "; CUDA is installed but could not be used"
    stage = stage or opened("cuda" if provider == "cuda" else "cpu", note)
    fields = {"stage": stage.name, "variant": stage.variant, "provider": stage.provider, "reason": stage.reason}
    logger.info("stage opened", extra=fields)
    return stage
