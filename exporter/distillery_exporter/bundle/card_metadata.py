"""The metadata on top of a model card, as the Hugging Face Hub reads it, the evaluation's figures among it."""

from collections.abc import Iterator, Sequence

from huggingface_hub import EvalResult, ModelCardData

from distillery_trainer.evaluate.evaluation import SystemFigures
from distillery_trainer.models.records import Origin
from distillery_trainer.runs.run import Run

ANSWERS = "cascade"  # the system that a bundle answers with, as the card names it
TASK = "text-classification"  # the Hub has no task for regression on text
UNKNOWN = "unknown"


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
                dataset_name=f"held-out articles (oracle: {run.manifest['oracles']})",
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
    decisions = found.tiers[tier]
    yield "mae", "MAE, mean over dimensions", found.mae, found.intervals["mae"]
    yield "rmse", "RMSE over dimensions", found.rmse, None
    yield "spearmanr", "Spearman of the overall", found.overall.spearman, None
    yield "recall", f"Recall at {tier}", decisions.recall, found.recall_interval(tier)
    yield "precision", f"Precision at {tier}", decisions.precision, None
