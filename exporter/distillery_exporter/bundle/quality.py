"""What a bundle says of its own quality: `quality.json` by variant, and `reference.json` to notice drift."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from distillery_exporter.variants.parity import Report
from distillery_exporter.variants.stage_models import StageModel
from distillery_exporter.variants.trials import Trial, Written
from distillery_runtime.spec.verdict import decide
from distillery_trainer.runs.run import Run

BINS = 20

Record = dict[str, object]


def quality_record(
    run: Run,
    exact: Sequence[Written],
    trials: Sequence[Trial],
    parity: Mapping[str, Report],
    left_out: Sequence[Written] = (),
) -> Record:
    """The content of `quality.json`, for the variants that are in the bundle's folder and those that were refused.

    `left_out`: fp32 forms that the others were compared with and that are not shipped.
    """
    variants: dict[str, dict[str, dict[str, Record]]] = {}
    for item in exact:
        name = item.model.name
        for variant, record in _stage_records(item, trials, parity[name]):
            about = {**_size(item.model, variant), "shipped": not (variant == item.entry.name and item in left_out)}
            variants.setdefault(variant, {"stages": {}})["stages"][name] = {**about, **record}
    return {
        "schema_version": 1,
        "evaluation": run.evaluation.to_record(),
        "certificate": run.certificate,
        "variants": variants,
        "refused": [
            {"stage": other.stage, "variant": other.variant, "reasons": list(other.reasons), **_comparisons(other)}
            for other in trials
            if not other.written
        ],
    }


def _stage_records(item: Written, trials: Sequence[Trial], parity: Report) -> Iterator[tuple[str, Record]]:
    """What is known of each variant of one stage."""
    yield item.entry.name, {"parity": parity}
    for other in trials:
        if other.written and other.stage == item.model.name:
            yield other.variant, _comparisons(other)


def _comparisons(trial: Trial) -> Record:
    found = {"gate": trial.comparison, "gate_test": trial.on_test}
    return {name: comparison.record() for name, comparison in found.items() if comparison}


def _size(stage: StageModel, variant: str) -> Record:
    files = stage.bundle.glob(f"{stage.name}/{variant}*")
    record: Record = {"size_bytes": sum(path.stat().st_size for path in files)}
    if work := stage.model.work:
        record |= {"macs_per_token": work.per_token, "attention_macs_per_pair": work.per_pair}
    return record


def reference_record(run: Run) -> Record:
    """What scores look like on the test articles: histograms in half points and shares by tier; empty without them."""
    if run.labelled is None:
        return {"schema_version": 1, "articles": 0, "overall": [], "dimensions": {}, "tiers": {}}
    scores = run.student_scores(run.part("test").texts)
    verdicts = [decide(row, run.spec) for row in scores]
    tiers = [verdict.tier for verdict in verdicts]
    return {
        "schema_version": 1,
        "articles": len(verdicts),
        "overall": _histogram(np.array([verdict.overall for verdict in verdicts])),
        "dimensions": {name: _histogram(scores[:, i]) for i, name in enumerate(run.spec.dimension_names)},
        "tiers": {tier.name: round(tiers.count(tier.name) / len(tiers), 6) for tier in run.spec.tiers},
    }


def _histogram(values: NDArray[np.floating]) -> list[int]:
    """Counts in bins of half a point over [0, 10]."""
    counts: list[int] = np.histogram(values, bins=BINS, range=(0, 10))[0].tolist()
    return counts
