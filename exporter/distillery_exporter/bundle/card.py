"""The model card of a bundle, for a person who has to decide whether to use it, and for the Hugging Face Hub."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from distillery_exporter.bundle.scripts import covered_scripts
from distillery_exporter.variants.trials import Trial
from distillery_runtime.format.variants import REFERENCE
from distillery_trainer.certify.certificate import statements
from distillery_trainer.evaluate.evaluation import SystemFigures
from distillery_trainer.models.records import Origin
from distillery_trainer.runs.run import Run

Json = Mapping[str, Any]  # Any: nested JSON of known shape
WEAK_SPEARMAN = 0.5
ANSWERS = "cascade"  # the system that a bundle answers with, as the card names it
TASK = "text-classification"  # the Hub has no task for regression on text
UNKNOWN = "unknown"


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
    manifest = run.manifest
    yield "## What it learnt from"
    yield ""
    yield (
        f"From {manifest['articles']} articles and the scores that an LLM gave them (oracle of these labels: "
        f"{manifest['oracles']}; oracle meant for this filter: {run.spec.oracle.model}). {_divided(run)} "
        "Of articles the bundle holds only its golden ones, which are the filter's own examples or generic."
    )
    if run.spec.card.note:
        yield ""
        yield " ".join(run.spec.card.note.split())
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


def _divided(run: Run) -> str:
    """How the articles were used."""
    sizes = run.evaluation.split_sizes
    if sizes.folds:
        return (
            f"They were divided by near-duplicate group into {sizes.folds} folds: models of the other folds judged "
            f"each article, and chose read-out, operating point and certificate{_certified_on(run)}; the models in "
            "this bundle are fitted on all of them."
        )
    return (
        f"They were divided by near-duplicate group: {sizes.train} to fit models, {sizes.val} to stop and to "
        f"calibrate, {sizes.test} to evaluate, the rest to certify{_certified_on(run)}."
    )


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
    yield "Variants beside cpu-fp32, compared with it on articles that no form of it was made from, or in folds on all:"
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


def quality(run: Run) -> Iterator[str]:
    """Every system on all test articles, then what the bundle answers by slice and by dimension."""
    evaluation, tier = run.evaluation, run.spec.operating_tier
    yield "## Quality"
    yield ""
    yield (
        f"{_judged_on(run)}, against the oracle's scores. MAE is the mean over dimensions on the scale of 0 to 10. "
        f"Brackets: 95 % bootstrap intervals by near-duplicate group. `{ANSWERS}` is {_answerer(run)}; `constant` and "
        "`tfidf_ridge` are what it has to beat."
    )
    yield from _table("system", evaluation.total.by_name().items(), tier)
    slices = [(name, part.cascade) for name, part in evaluation.parts.items() if part is not evaluation.total]
    if slices:
        yield f"The {ANSWERS} on parts of these articles:"
        yield from _table("slice", slices, tier)
    yield "| dimension | MAE | bias | Spearman |"
    yield "|---|---|---|---|"
    for name, errors in evaluation.total.cascade.dimensions.items():
        yield f"| {name} | {errors.mae:.3f} | {errors.bias:+.3f} | {number(errors.spearman)} |"
    yield ""


def _judged_on(run: Run) -> str:
    """The articles that figures are of, and whose answers they are."""
    sizes = run.evaluation.split_sizes
    if sizes.folds:
        return (
            f"On all {sizes.test} articles out of fold: each was answered by models fitted like this bundle's on the "
            f"other {sizes.folds - 1} folds, with the operating point of these (no near-duplicate of it among them)"
        )
    return f"On {sizes.test} held-out articles (no near-duplicate of a training article among them)"


def _answerer(run: Run) -> str:
    return "what such models answer together" if run.folds else "what this bundle answers"


def _kind_of_articles(run: Run) -> str:
    return "articles out of fold, by models of the other folds" if run.folds else "held-out articles"


def certificate(run: Run) -> Iterator[str]:
    """What the probe may miss, in words."""
    share = run.evaluation.cascade.share_probe
    yield "## Certificate"
    yield ""
    yield f"The probe answers {share:.1%} of these articles by itself. {statements(run.certificate)}"
    yield ""
    yield (
        "This compares the probe with the student, on articles drawn as those it was certified on. How far the "
        "student is from the oracle stands under Quality."
    )
    yield ""


def limits(run: Run) -> Iterator[str]:
    """What the bundle is for, and where not to trust it."""
    spec, found = run.spec, run.evaluation.total.cascade
    languages = f" in {', '.join(spec.card.language)}" if spec.card.language else ""
    window = spec.student.window
    yield "## Intended use and limits"
    yield ""
    yield f"- To sort and filter streams of articles{languages} by these questions. Not for decisions about persons."
    yield (
        "- It repeats its oracle, leanings and mistakes included: agreement with the oracle was measured, not truth. "
        "It judges the words of an article and looks nothing up."
    )
    yield "- Other sources, languages and times than those it learnt from are other articles: label some and evaluate."
    yield (
        f"- It reads at most {window.max_tokens} tokens of an article"
        + (", from its beginning and its end." if window.tail_share else ", from its beginning.")
    )
    scripts = ", ".join(covered_scripts(run.folder / "student" / "tokenizer.json")) or "no whole script"
    yield (
        f"- The student's vocabulary covers {scripts}. An article of which it cannot read more than "
        f"{spec.text.max_unknown_share:.0%} of the characters is refused as `invalid`."
    )
    yield "- A text can be written to score well."
    unseen = [name for name, decisions in found.tiers.items() if not decisions.positives]
    if unseen:
        yield f"- No test article is at or above {', '.join(unseen)}: how well it finds such articles is not known."
    weak = [name for name, errors in found.dimensions.items() if (errors.spearman or 0) < WEAK_SPEARMAN]
    if weak:
        yield f"- Weak, with a rank correlation below {WEAK_SPEARMAN:g}: {', '.join(weak)}."
    yield ""


def number(value: float | None) -> str:
    """A figure with three decimals, or a dash where it is not defined."""
    return "-" if value is None else f"{value:.3f}"


def _table(what: str, rows: Iterable[tuple[str, SystemFigures]], tier: str) -> Iterator[str]:
    yield ""
    finds = f"recall of finds ({tier}) | precision | F1 | average precision"
    yield f"| {what} | articles | MAE | Spearman of the overall | {finds} |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, found in rows:
        decisions = found.finds
        yield (
            f"| {name} | {found.n} | {found.mae:.3f}{_brackets(found.intervals['mae'])} | "
            f"{number(found.overall.spearman)} | "
            f"{number(decisions.recall)}{_brackets(found.intervals['recall'])} of {decisions.positives} | "
            f"{number(decisions.precision)} | {number(decisions.f1)} | {number(found.average_precision)} |"
        )
    yield ""


def _brackets(interval: Sequence[float] | None) -> str:
    return f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""


def card_metadata(run: Run, origins: Sequence[Origin]) -> ModelCardData:
    """Licence, languages, base models, tags and the figures of `eval.json`, total and slices."""
    spec = run.spec
    return ModelCardData(
        license=spec.card.license or UNKNOWN,
        language=list(spec.card.language) or None,
        library_name="distillery",
        pipeline_tag=TASK,
        tags=["regression", "onnx", spec.name],
        base_model=list(dict.fromkeys(name for item in origins for name in item.hub_ids)) or None,
        model_name=spec.label,
        eval_results=[
            result for name, part in run.evaluation.parts.items() for result in _results(run, name, part.cascade)
        ],
    )


def _results(run: Run, part: str, found: SystemFigures) -> Iterator[EvalResult]:
    """The figures of one part of the test articles."""
    for kind, name, value, interval in _figures(found, run.spec.operating_tier):
        if value is not None:
            yield EvalResult(
                task_type=TASK,
                task_name="Scores from 0 to 10",
                dataset_type=run.spec.name,
                dataset_name=f"{_kind_of_articles(run)} (oracle: {run.manifest['oracles']})",
                dataset_config=part,
                dataset_split="test",
                dataset_args={"articles": found.n},
                metric_type=kind,
                metric_name=name,
                metric_value=value,
                metric_args={"interval_95": list(interval)} if interval else None,
            )


def _figures(found: SystemFigures, tier: str) -> Iterator[tuple[str, str, float | None, Sequence[float] | None]]:
    """Metric of the Hub, name, value and interval; a value is None where it is not defined."""
    decisions = found.finds
    yield "mae", "MAE, mean over dimensions", found.mae, found.intervals["mae"]
    yield "rmse", "RMSE over dimensions", found.rmse, None
    yield "spearmanr", "Spearman of the overall", found.overall.spearman, None
    yield "recall", f"Recall at {tier}", decisions.recall, found.intervals["recall"]
    yield "precision", f"Precision at {tier}", decisions.precision, found.intervals["precision"]
    yield "f1", f"F1 at {tier}", decisions.f1, found.intervals["f1"]
    yield "average_precision", f"Average precision at {tier}", found.average_precision, None
