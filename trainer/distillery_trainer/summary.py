"""What `trainer fit` and `trainer evaluate` show: how good each system is on test articles, and what is certified."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from distillery_runtime.spec_checks import parse_spec
from distillery_trainer.calibration_file import read_calibration
from distillery_trainer.calibration_lint import lint_calibration

Json = Mapping[str, Any]  # Any: nested JSON of known shape

SYSTEMS = ("constant", "tfidf_ridge", "static", "probe", "student", "cascade")


def summarise(folder: Path) -> str:
    """The summary of a run's own evaluation, and the faults of its calibration maps."""
    evaluation = json.loads((folder / "eval.json").read_text(encoding="utf-8"))
    certificate = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))
    return "\n".join([summary(evaluation, certificate), *_faults(folder)])


def summary(evaluation: Json, certificate: Json) -> str:
    """Test MAE by part and system, the gain over word counts, the share the probe answers, and the certificate."""
    return "\n".join(_lines(evaluation, certificate))


def _faults(folder: Path) -> Iterator[str]:
    path = folder / "config.resolved.yaml"
    spec = parse_spec(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    for fault in lint_calibration(read_calibration(folder / "calibration.json"), spec):
        if fault.kind != "ceiling":  # any fitted map has one; what it puts out of reach is a fault of its own
            yield f"calibration: {fault.kind} of {fault.where}: {fault.says}"


def with_interval(value: float | None, interval: tuple[float, float] | list[float] | None, sign: str = "") -> str:
    """A number with its 95 % interval, three decimals each; a dash where it is not defined."""
    if value is None:
        return "-"
    bounds = f" ({interval[0]:{sign}.3f} to {interval[1]:{sign}.3f})" if interval else ""
    return f"{value:{sign}.3f}{bounds}"


def _lines(evaluation: Json, certificate: Json) -> Iterator[str]:
    yield ""
    yield f"{'test MAE (mean of dimensions)':<32}{'articles':>10}" + "".join(f"{name:>13}" for name in SYSTEMS)
    for name, part in evaluation["parts"].items():
        errors = "".join(f"{part[system]['mae']:>13.3f}" for system in SYSTEMS)
        yield f"  {name:<30}{part['constant']['n']:>10}{errors}"
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
