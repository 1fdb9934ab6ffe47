"""The whole cascade in every variant: articles in, results out."""

from benchmarks.suite import accuracy
from benchmarks.suite.lab import Lab
from benchmarks.suite.turns import Turns
from distillery_runtime.format.variants import REFERENCE


def test_cascade(lab: Lab, turns: Turns, variant: str) -> None:
    """The sample at once, against cpu-fp32 one article at a time."""
    scorer, records = lab.scorer(variant), lab.records
    expected = [lab.scorer(REFERENCE.name).score(record) for record in records]
    found = scorer.score_batch(records)

    facts = {
        "variant": variant,
        "stages": ", ".join(f"{stage.name} {stage.variant}" for stage in scorer.stages),
        "articles": len(records),
        "decided_by_last_stage": sum(result.stage == scorer.stages[-1].name for result in found),
        **accuracy.of_results(expected, found),
    }
    turns.measure("cascade", lambda: scorer.score_batch(records), facts)
