"""The model card of a bundle, for a person who has to decide whether to use it, and for the Hugging Face Hub."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distillery_exporter.bundle.card_metadata import UNKNOWN, card_metadata
from distillery_exporter.bundle.card_quality import certificate, limits, number, quality
from distillery_exporter.bundle.origins import Origin
from distillery_exporter.run_reader import Run
from distillery_exporter.variants.trials import Trial
from distillery_runtime.format.variants import REFERENCE

Json = Mapping[str, Any]  # Any: nested JSON of known shape


def model_card(
    run: Run,
    origins: Sequence[Origin],
    lineage: Mapping[str, str],
    record: Json,
    trials: Sequence[Trial],
) -> str:
    """The text of the bundle's README.md.

    Args:
        run: the run that the bundle is made of.
        origins: what each stage's weights derive from.
        lineage: as in the manifest.
        record: the content of `quality.json`.
        trials: what became of each variant beside fp32.
    """
    variants: Json = record["variants"]
    parts = (
        _what(run),
        _use(),
        _learnt(run, origins),
        quality(run),
        certificate(run),
        limits(run),
        _licence(run, origins),
        _sizes(variants),
        _exported(variants[REFERENCE.name]["stages"]),
        _variants(trials),
        _lineage(lineage),
    )
    text = "\n".join(line for part in parts for line in part)
    return f"---\n{card_metadata(run, origins).to_yaml()}\n---\n\n{text}\n"


def _what(run: Run) -> Iterator[str]:
    spec = run.spec
    yield f"# {spec.name} v{spec.version}"
    yield ""
    yield " ".join(spec.summary.split())
    yield ""
    yield "It scores an article from 0 to 10 on each dimension, on a CPU and with no LLM:"
    yield ""
    yield "| dimension | weight | question |"
    yield "|---|---|---|"
    for dimension in spec.dimensions:
        yield f"| {dimension.name} | {dimension.weight:g} | {' '.join(dimension.question.split())} |"
    yield ""
    yield (
        "The overall is the weighted mean. Tiers by overall: "
        + ", ".join(f"{tier.name} from {tier.min_overall:g}" for tier in spec.tiers)
        + "."
    )
    for gate in spec.gatekeepers:
        yield f"A {gate.dimension} below {gate.below:g} caps the overall at {gate.overall_cap:g}."
    yield ""


def _use() -> Iterator[str]:
    yield "## How to use it"
    yield ""
    yield "With the package `distillery-runtime` and this folder (from the Hub: `distillery pull OWNER/NAME`):"
    yield ""
    yield "```python"
    yield "import distillery_runtime"
    yield 'scorer = distillery_runtime.load("path/of/this/folder")'
    yield 'print(scorer.score({"id": "1", "title": "...", "text": "..."}))'
    yield "```"
    yield ""


def _learnt(run: Run, origins: Sequence[Origin]) -> Iterator[str]:
    manifest, sizes = run.manifest, run.evaluation["split_sizes"]
    yield "## What it learnt from"
    yield ""
    yield (
        f"From {manifest['articles']} articles and the scores that an LLM gave them (oracle of these labels: "
        f"{manifest['oracles']}; oracle meant for this filter: {run.spec.oracle.model}). They were divided by "
        f"near-duplicate group: {sizes['train']} to fit models, {sizes['val']} to stop and to calibrate, "
        f"{sizes['test']} to evaluate, the rest to certify{_certified_on(run)}. "
        "Of articles the bundle holds only its golden ones, which are the filter's own examples or generic."
    )
    if manifest.get("distil_from"):
        yield "It learnt too from the scores of other runs' students, on these articles and on others without labels."
    if joint := manifest.get("joint"):
        yield (
            f"The student shares its backbone with those of {', '.join(_others(run, joint['filters']))}, which learnt "
            "together: a panel of these filters' bundles passes an article once for all."
        )
    yield ""
    for item in origins:
        yield f"- {item.stage}: stands on {item.name}"
    yield ""


def _others(run: Run, filters: Sequence[str]) -> list[str]:
    return [label for label in filters if label != run.spec.label]


def _certified_on(run: Run) -> str:
    if run.certificate["drawn_from"] != "unlabelled":
        return ""
    return f" together with {run.certificate['articles']} articles without labels"


def _licence(run: Run, origins: Sequence[Origin]) -> Iterator[str]:
    stated = run.spec.card.license
    yield "## Licence"
    yield ""
    yield (
        f"Of this bundle: {stated}." if stated else "Of this bundle: not stated by who made it; ask before you use it."
    )
    yield "Its weights derive from:"
    yield ""
    for item in origins:
        ids = f" ({', '.join(item.hub_ids)})" if item.hub_ids and item.hub_ids != (item.name,) else ""
        yield f"- {item.stage}: {item.name}{ids}, licence {item.licence or UNKNOWN}"
    yield ""


def _sizes(variants: Json) -> Iterator[str]:
    yield "## Sizes"
    yield ""
    yield "Graphs and weights; a tokenizer for each stage comes on top. One variant of a stage is opened at a time."
    yield ""
    yield "| variant | stage | MB |"
    yield "|---|---|---|"
    for variant, entry in variants.items():
        for stage, figures in entry["stages"].items():
            if figures["shipped"]:
                yield f"| {variant} | {stage} | {figures['size_bytes'] / 1e6:.1f} |"
    yield ""


def _exported(stages: Json) -> Iterator[str]:
    yield "## Export"
    yield ""
    yield "Largest difference of the exported graphs from the trained models, raw outputs on real texts:"
    yield ""
    for stage, figures_of in stages.items():
        report = figures_of["parity"]
        figures = ", ".join(f"{name} {value:.2g}" for name, value in report.items() if name != "articles")
        yield f"- {stage}, {report['articles']} articles: {figures}"
    yield ""


def _variants(trials: Sequence[Trial]) -> Iterator[str]:
    kept = [(t, t.comparison) for t in trials if t.written and t.comparison]
    if not kept:
        return
    yield "Variants beside cpu-fp32, compared with it on the held-out articles:"
    yield ""
    yield "| stage | variant | MAE to fp32 | Spearman | label MAE (fp32) | flips (tier, gate, route) | articles |"
    yield "|---|---|---|---|---|---|---|"
    for item, found in kept:
        flips = f"{found.tier_flips}, {found.gatekeeper_flips}, {found.route_flips}"
        yield (
            f"| {item.stage} | {item.variant} | {found.mae_to_fp32:.3f} | {number(found.spearman)} | "
            f"{found.label_mae:.3f} ({found.label_mae_fp32:.3f}) | {flips} | {found.articles} |"
        )
    yield ""


def _lineage(lineage: Mapping[str, str]) -> Iterator[str]:
    yield "## Lineage"
    yield ""
    for key, value in lineage.items():
        yield f"- {key}: {value}"
