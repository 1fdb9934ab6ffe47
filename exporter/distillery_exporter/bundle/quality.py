"""What a bundle says of its own quality: `quality.json` by variant, and `reference.json` to notice drift."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from distillery_exporter.variants.parity import Report
from distillery_exporter.variants.stage_models import StageModel
from distillery_exporter.variants.trials import Trial, Written
from distillery_runtime.spec.verdict import VerdictRules
from distillery_trainer.certify.operating_point import selected
from distillery_trainer.runs.run import Run

BINS = 20
TOKENS_OF_A_BIN = 64

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
    """What results look like on the test articles, to know drift by; empty without them.

    Histograms of `overall` and `dimensions` (the scores) and `expected_overall` have bins of half a point over [0, 10],
    those of `chance` and `unread` of 1/20 over [0, 1], those of `tokens` of 64. `tiers` and `languages` are shares.
    """
    if run.labelled is None:
        empty: Record = {"overall": [], "expected_overall": [], "chance": [], "unread": [], "tokens": []}
        return {"schema_version": 2, "articles": 0, "selected": None, **empty, "dimensions": {}, "tiers": {},
                "languages": {}}  # fmt: skip
    made, spec = run.predictions, run.spec
    student, rules = made.student, VerdictRules(spec)
    verdicts = [rules.decide(row) for row in student.scores.tolist()]
    tiers = [verdict.tier for verdict in verdicts]
    fields = {article.id: article.fields["language"] or "unknown" for article in run.articles().articles}
    languages = Counter(fields[article] for article in made.ids)
    weights = np.array([dimension.weight for dimension in spec.dimensions])
    unread = np.zeros(len(tiers)) if made.unread is None else made.unread[:, 1]
    return {
        "schema_version": 2,
        "articles": len(verdicts),
        "selected": round(float(selected(student, made.selects_from, spec).mean()), 6),
        "overall": _histogram(np.array([verdict.overall for verdict in verdicts])),
        "expected_overall": _histogram(student.expected @ weights),
        "chance": _histogram(student.chance, 1.0),
        "unread": _histogram(unread, 1.0),
        "tokens": np.bincount(np.asarray(made.tokens, np.int64) // TOKENS_OF_A_BIN).tolist(),
        "dimensions": {name: _histogram(student.scores[:, i]) for i, name in enumerate(spec.dimension_names)},
        "tiers": {tier.name: round(tiers.count(tier.name) / len(tiers), 6) for tier in spec.tiers},
        "languages": {name: round(count / len(tiers), 6) for name, count in sorted(languages.items())},
    }


def _histogram(values: NDArray[np.floating], most: float = 10.0) -> list[int]:
    """Counts in bins of a twentieth of [0, most]."""
    counts: list[int] = np.histogram(values, bins=BINS, range=(0, most))[0].tolist()
    return counts
