"""Every stage in every variant, by length and batch: as the cascade runs it, on rows of exactly that length."""

import pytest

from benchmarks.suite import accuracy
from benchmarks.suite.lab import Lab, scores_in_groups
from benchmarks.suite.settings import BATCHES, LENGTHS
from benchmarks.suite.torch_twin import TorchTwin
from benchmarks.suite.turns import Turns
from distillery_runtime.bench.plan import in_turn


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("batch", BATCHES)
def test_stage(
    lab: Lab, turns: Turns, torch_twin: TorchTwin, stage_name: str, variant: str, tokens: int, batch: int
) -> None:
    """Rows of one length, so many at a time, against cpu-fp32 one at a time."""
    stage, rows = lab.stage(stage_name, variant), lab.rows(stage_name, tokens)
    if len(rows) < batch:
        pytest.skip(f"batches of {batch}: the sample has {len(rows)} articles")
    groups = [rows[i : i + batch] for i in range(0, len(rows) - batch + 1, batch)]
    found = scores_in_groups(stage, rows, batch)

    facts = {
        "stage": stage_name,
        "variant": variant,
        "provider": stage.provider,
        "tokens": tokens,
        "batch": batch,
        **accuracy.of_scores(lab.bundle.spec, lab.exact_scores(stage_name, tokens), found),
    }
    in_torch = None
    if torch_twin.stages:
        in_torch = in_turn(lambda group: torch_twin.scores(stage_name, group), groups)
    else:
        facts["pytorch"] = f"left out: {torch_twin.reason}"
    turns.measure(stage_name, in_turn(stage.run, groups), facts, in_torch, "pytorch")
