"""The model card of a bundle: what it scores, how good it is, and what is certified, for a person to read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distillery_exporter.run_reader import Run
from distillery_exporter.trials import Trial

Json = Mapping[str, Any]  # Any: nested JSON of known shape


def model_card(run: Run, lineage: Mapping[str, str], parity: Mapping[str, Json], trials: Sequence[Trial]) -> str:
    """The text of the bundle's README.md, with metadata for the Hugging Face Hub on top."""
    parts = (_metadata(run), _what(run), _quality(run), _exported(parity), _variants(trials), _lineage(lineage))
    return "\n".join(line for part in parts for line in part) + "\n"


def _metadata(run: Run) -> Iterator[str]:
    yield from ("---", "library_name: distillery", "pipeline_tag: text-classification")
    yield from ("tags:", "- regression", "- onnx", f"- {run.spec.name}", "---", "")


def _what(run: Run) -> Iterator[str]:
    spec = run.spec
    yield f"# {spec.name} v{spec.version}"
    yield ""
    yield " ".join(spec.summary.split())
    yield ""
    yield "```python"
    yield "import distillery_runtime"
    yield 'scorer = distillery_runtime.load("path/of/this/folder")'
    yield 'score = scorer.score({"id": "1", "title": "...", "text": "..."})'
    yield "```"
    yield ""
    yield "| dimension (0-10) | weight | question |"
    yield "|---|---|---|"
    for dimension in spec.dimensions:
        yield f"| {dimension.name} | {dimension.weight:g} | {' '.join(dimension.question.split())} |"
    yield ""
    yield "Tiers by overall: " + ", ".join(f"{tier.name} from {tier.min_overall:g}" for tier in spec.tiers) + "."
    for gate in spec.gatekeepers:
        yield f"A {gate.dimension} below {gate.below:g} caps the overall at {gate.overall_cap:g}."
    yield ""


def _quality(run: Run) -> Iterator[str]:
    evaluation: Json = run.evaluation
    total = evaluation["parts"]["total"]
    sizes = evaluation["split_sizes"]
    yield "## Quality"
    yield ""
    yield (
        f"On {sizes['test']} held-out articles (no near-duplicate of a training article among them); {sizes['train']} "
        f"were trained on. MAE is the mean over dimensions, with a 95 % bootstrap interval by near-duplicate group."
    )
    yield ""
    yield f"| system | MAE | interval | Spearman of the overall | recall at {run.spec.operating_tier} |"
    yield "|---|---|---|---|---|"
    for name in ("constant", "tfidf_ridge", "probe", "student", "cascade"):
        part = total[name]
        interval = part["intervals"]["mae"]
        yield (
            f"| {name} | {part['mae']:.3f} | {f'{interval[0]:.3f} to {interval[1]:.3f}' if interval else '-'} | "
            f"{_number(part['overall']['spearman'])} | {_number(part['tiers'][run.spec.operating_tier]['recall'])} |"
        )
    yield ""
    share = evaluation["cascade"]["share_probe"]
    yield f"The probe answers {share:.1%} of these articles. {run.certificate['statement']}"
    yield ""


def _exported(parity: Mapping[str, Json]) -> Iterator[str]:
    yield "## Export"
    yield ""
    yield "Largest difference of the exported graphs from the trained models, raw outputs on real texts:"
    yield ""
    for stage, report in parity.items():
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
            f"| {item.stage} | {item.variant} | {found.mae_to_fp32:.3f} | {_number(found.spearman)} | "
            f"{found.label_mae:.3f} ({found.label_mae_fp32:.3f}) | {flips} | {found.articles} |"
        )
    yield ""


def _lineage(lineage: Mapping[str, str]) -> Iterator[str]:
    yield "## Lineage"
    yield ""
    for key, value in lineage.items():
        yield f"- {key}: {value}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
