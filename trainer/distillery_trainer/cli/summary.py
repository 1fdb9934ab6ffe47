"""What `trainer fit` and `trainer evaluate` print: errors, finds, the certificate, and whether to deploy."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.reading import parse_spec
from distillery_trainer.certify.bounds import share_interval
from distillery_trainer.certify.calibration_file import read_calibration
from distillery_trainer.certify.calibration_lint import lint_calibration
from distillery_trainer.evaluate.parts import MIN_PART
from distillery_trainer.filters.find import read_yaml_file
from distillery_trainer.report.advice import answer, hits, recall_interval
from distillery_trainer.runs.run import OWN_CONFIG

Json = Mapping[str, Any]  # Any: nested JSON of known shape

SYSTEMS = ("constant", "tfidf_ridge", "static", "probe", "student", "cascade")


def summarise(folder: Path) -> str:
    """The summary of a run's own evaluation, and the faults of its calibration maps."""
    evaluation = json.loads((folder / "eval.json").read_text(encoding="utf-8"))
    certificate = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))
    path = folder / "config.resolved.yaml"
    spec = parse_spec(read_yaml_file(path, OWN_CONFIG).data, str(path))
    return summary(evaluation, certificate, spec, _faults(folder, spec))


def summary(evaluation: Json, certificate: Json, spec: FilterSpec, faults: Iterable[str] = ()) -> str:
    """Errors, decisions at the operating tier, the certificate, and last whether to deploy."""
    return "\n".join([*_lines(evaluation, certificate, spec), *faults, "", *_answer(evaluation, spec)])


def _faults(folder: Path, spec: FilterSpec) -> Iterator[str]:
    for fault in lint_calibration(read_calibration(folder / "calibration.json"), spec):
        if fault.kind != "ceiling":  # any fitted map has one; what it puts out of reach is a fault of its own
            yield f"calibration: {fault.kind} of {fault.where}: {fault.says}"


def _answer(evaluation: Json, spec: FilterSpec) -> Iterator[str]:
    """Whether to deploy, as the report says it, in what every terminal can show."""
    found = answer(evaluation, spec.operating_tier)
    for line in (f"Should it be deployed? {found.words}", *(f"  - {reason}" for reason in found.reasons)):
        yield line.replace("\u00a0", " ").replace("“", '"').replace("”", '"')


def _decisions(total: Json, tier: str) -> Iterator[str]:
    """What each system finds of the oracle's positives, and how much of what it announces is right."""
    yield f"{f'at {tier} or above':<24}{'found':>12}  {'recall (95 %)':<24}{'right':>12}  precision (95 %)"
    for system in SYSTEMS[1:]:
        made = total[system]["tiers"][tier]
        found, positives, predicted = hits(made), made["positives"], made["predicted"]
        recall = recall_interval(total[system], tier)
        precision = share_interval(found, predicted)
        yield (
            f"  {system:<22}{f'{found} of {positives}':>12}  {with_interval(made['recall'], recall):<24}"
            f"{f'{found} of {predicted}':>12}  {with_interval(made['precision'], precision)}"
        )
    if not total["student"]["tiers"][tier]["positives"]:
        yield "no test article is a positive by its labels: what the models find cannot be told"


def with_interval(value: float | None, interval: tuple[float, float] | list[float] | None, sign: str = "") -> str:
    """A number with its 95 % interval, three decimals each; a dash where it is not defined."""
    if value is None:
        return "-"
    bounds = f" ({interval[0]:{sign}.3f} to {interval[1]:{sign}.3f})" if interval else ""
    return f"{value:{sign}.3f}{bounds}"


def _lines(evaluation: Json, certificate: Json, spec: FilterSpec) -> Iterator[str]:
    yield ""
    yield f"{'test MAE (mean of dimensions)':<32}{'articles':>10}" + "".join(f"{name:>13}" for name in SYSTEMS)
    for name, part in evaluation["parts"].items():
        errors = "".join(f"{part[system]['mae']:>13.3f}" for system in SYSTEMS)
        yield f"  {name:<30}{part['constant']['n']:>10}{errors}"
    if few := [part.name for part in spec.evaluation.slices if part.name not in evaluation["parts"]]:
        yield f"  left out, with fewer than {MIN_PART} test articles: {', '.join(few)}"
    yield ""
    yield from _decisions(evaluation["parts"]["total"], spec.operating_tier)
    yield ""
    gain = evaluation["differences"]["total"]["student_minus_tfidf_ridge"]["mae"]
    yield f"student minus tfidf_ridge, 95 % interval: {with_interval(gain['difference'], gain['interval'], '+')}"
    floor = evaluation["noise_floor"]
    if floor and floor["share_of_reachable"]["student"] is not None:
        yield (
            f"the oracle differs from itself by {floor['mae']:.3f}; the student has achieved "
            f"{floor['share_of_reachable']['student']:.0%} of what lies between the constant and that"
        )
    if lost := evaluation.get("unreadable", {}).get("invalid"):
        finds = evaluation["unreadable"]["invalid_positive"]
        yield f"the student cannot read {lost} of the test articles, {finds} finds among them: a bundle refuses them"
    yield f"the probe answers {evaluation['cascade']['share_probe']:.1%} of the test articles"
    yield str(certificate["statement"])
