"""The run's models in PyTorch, as stages that take the same token ids."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distillery_runtime import HybridScorer
from distillery_runtime.tokens.window import TokenIds

if TYPE_CHECKING:
    from benchmarks.stream_torch import Floats, TorchStage


@dataclasses.dataclass(frozen=True, slots=True)
class TorchTwin:
    """PyTorch's stages by name: fp32, sdpa attention. Empty, for a `reason`, where there are none."""

    stages: Mapping[str, "TorchStage"]
    reason: str

    def scores(self, stage: str, rows: Sequence[TokenIds]) -> "Floats":
        """(N, D) float32 in [0, 10] from one batch, padded to its longest row."""
        longest = max(len(row.ids) for row in rows)
        return dataclasses.replace(self.stages[stage], padded_tokens=longest, batch=len(rows)).scores(rows)


def open_torch_twin(scorer: HybridScorer, bundle: Path, run: Path | None, threads: int) -> TorchTwin:
    """Opens the models of a bundle's run.

    Args:
        scorer: the bundle, loaded.
        bundle: its folder.
        run: the run that it was made from, or None.
        threads: PyTorch's.
    """
    if run is None:
        return TorchTwin({}, "no --torch-run was given")
    try:
        import torch
    except ImportError:
        return TorchTwin({}, "PyTorch is not installed")
    from benchmarks import stream_torch

    reason = stream_torch.why_not(scorer.spec)
    if reason:
        return TorchTwin({}, reason)
    _, stages = stream_torch.open_torch_cascade(scorer, bundle, run, 1, None)
    torch.set_num_threads(threads)
    return TorchTwin({stage.name: twin for stage, twin in zip(scorer.stages, stages, strict=True)}, "")
