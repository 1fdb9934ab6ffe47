"""What a GPU must do: a student's article in 40 ms and a probe's in 2, one at a time, its window full."""

import pytest

from benchmarks.suite import accuracy
from benchmarks.suite.lab import Lab, scores_in_groups
from benchmarks.suite.turns import Turns
from distillery_runtime.bench.plan import in_turn
from distillery_runtime.format.variants import FORMS
from distillery_runtime.models.cuda import cuda_is_installed

MOST_MS = {"student": 40.0, "probe": 2.0}


def test_target(lab: Lab, turns: Turns, stage_name: str, variant: str) -> None:
    """One row at a time, as long as the window."""
    if FORMS[variant].device != "cuda":
        pytest.skip("the targets are those of variants for CUDA; beside PyTorch a CPU's are in the stages' groups")
    if stage_name not in MOST_MS:
        pytest.skip(f"no target for a stage {stage_name}")
    if not cuda_is_installed():
        pytest.skip("the targets are those of a GPU: onnxruntime was built without CUDA")
    tokens = lab.entry(stage_name).window.max_tokens
    stage, rows = lab.stage(stage_name, variant), lab.rows(stage_name, tokens)

    facts = {
        "stage": stage_name,
        "variant": variant,
        "tokens": tokens,
        "batch": 1,
        "most_ms": MOST_MS[stage_name],
        **accuracy.of_scores(lab.bundle.spec, lab.exact_scores(stage_name, tokens), scores_in_groups(stage, rows, 1)),
    }
    turns.measure("targets", in_turn(stage.run, [[row] for row in rows]), facts)
    if turns.benchmark.stats:
        found = turns.benchmark.stats.stats.median * 1e3
        assert found <= MOST_MS[stage_name], f"{found:.1f} ms, expected at most {MOST_MS[stage_name]}"
