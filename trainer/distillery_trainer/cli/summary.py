"""What `trainer fit` and `trainer evaluate` print: errors, finds, the certificate, and whether to deploy."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.certify.bounds import share_interval
from distillery_trainer.certify.calibration_lint import lint_calibration
from distillery_trainer.certify.certificate import statements
from distillery_trainer.evaluate.evaluation import Evaluation, Systems
from distillery_trainer.evaluate.parts import MIN_PART, TOTAL
from distillery_trainer.report.advice import answer, hits, recall_interval
from distillery_trainer.runs.opening import open_run
from distillery_trainer.runs.run import Run

Json = Mapping[str, Any]  # Any: nested JSON of known shape

SYSTEMS = ("constant", "tfidf_ridge", "static", "probe", "student", "cascade")
SPREAD_SYSTEMS = ("tfidf_ridge", "probe", "student", "cascade")


def summarise(folder: Path) -> str:
    """The summary of a run's own evaluation, and the faults of its calibration maps."""
    run = open_run(folder)
    return summary(run.evaluation, run.certificate, run.spec, _faults(run))


def seed_spread(folders: Sequence[Path]) -> str:
    """A table of test MAE by seed and system, with mean and sample standard deviation."""
    return "\n".join(_spread([open_run(folder) for folder in folders]))


def _spread(runs: Sequence[Run]) -> Iterator[str]:
    totals = [run.evaluation.total.by_name() for run in runs]
    maes = [[total[name].mae for name in SPREAD_SYSTEMS] for total in totals]
    rows = [(f"seed {run.seed}", found) for run, found in zip(runs, maes, strict=True)]
    columns = list(zip(*maes, strict=True))
    rows.append(("mean", [statistics.mean(column) for column in columns]))
    if len(maes) > 1:
        rows.append(("standard deviation", [statistics.stdev(column) for column in columns]))
    yield f"{'test MAE (mean of dimensions)':<32}" + "".join(f"{name:>13}" for name in SPREAD_SYSTEMS)
    for name, found in rows:
        yield f"  {name:<30}" + "".join(f"{value:>13.3f}" for value in found)


def summary(evaluation: Evaluation, certificate: Json, spec: FilterSpec, faults: Iterable[str] = ()) -> str:
    """Errors, decisions at the operating tier, the certificate, and last whether to deploy."""
    return "\n".join([*_lines(evaluation, certificate, spec), *faults, "", *_answer(evaluation, spec)])


def _faults(run: Run) -> Iterator[str]:
    for fault in lint_calibration(run.read_out().maps.expected, run.spec):
        if fault.kind != "ceiling":  # any fitted map has one; what it puts out of reach is a fault of its own
            yield f"calibration: {fault.kind} of {fault.where}: {fault.says}"


def _answer(evaluation: Evaluation, spec: FilterSpec) -> Iterator[str]:
    """Whether to deploy, as the report says it, in what every terminal can show."""
    found = answer(evaluation, spec.operating_tier)
    for line in (f"Should it be deployed? {found.words}", *(f"  - {reason}" for reason in found.reasons)):
        yield line.replace("\u00a0", " ").replace("“", '"').replace("”", '"')


def _decisions(total: Systems, tier: str) -> Iterator[str]:
    """What each system finds of the oracle's positives, and how much of what it selects is right."""
    yield (
        f"{f'finds ({tier} or above)':<24}{'found':>12}  {'recall (95 %)':<24}{'right':>12}  {'precision (95 %)':<24}"
        f"{'F1':>6}{'AP':>7}"
    )
    systems = total.by_name()
    for system in SYSTEMS:
        made = systems[system].finds
        found, positives, predicted = hits(made), made.positives, made.predicted
        recall = recall_interval(systems[system])
        precision = share_interval(found, predicted)
        yield (
            f"  {system:<22}{f'{found} of {positives}':>12}  {with_interval(made.recall, recall):<24}"
            f"{f'{found} of {predicted}':>12}  {with_interval(made.precision, precision):<24}"
            f"{_short(made.f1):>6}{_short(systems[system].average_precision):>7}"
        )
    if weighted := total.cascade.weighted:
        yield (
            "  weighted by the odds of being drawn, the cascade: "
            + ", ".join(f"{name} {_short(weighted[name])}" for name in ("recall", "precision", "f1"))
        )
    if not total.student.finds.positives:
        yield "no test article is a positive by its labels: what the models find cannot be told"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def with_interval(value: float | None, interval: tuple[float, float] | list[float] | None, sign: str = "") -> str:
    """A number with its 95 % interval, three decimals each; a dash where it is not defined."""
    if value is None:
        return "-"
    bounds = f" ({interval[0]:{sign}.3f} to {interval[1]:{sign}.3f})" if interval else ""
    return f"{value:{sign}.3f}{bounds}"


def _lines(evaluation: Evaluation, certificate: Json, spec: FilterSpec) -> Iterator[str]:
    yield ""
    yield from _decisions(evaluation.total, spec.operating_tier)
    yield ""
    yield f"{'test MAE (mean of dimensions)':<32}{'articles':>10}" + "".join(f"{name:>13}" for name in SYSTEMS)
    for name, part in evaluation.parts.items():
        systems = part.by_name()
        errors = "".join(f"{systems[system].mae:>13.3f}" for system in SYSTEMS)
        yield f"  {name:<30}{part.constant.n:>10}{errors}"
    if few := [part.name for part in spec.evaluation.slices if part.name not in evaluation.parts]:
        yield f"  left out, with fewer than {MIN_PART} test articles: {', '.join(few)}"
    yield ""
    gain = evaluation.differences[TOTAL].student_minus_tfidf_ridge.mae
    yield f"student minus tfidf_ridge, 95 % interval: {with_interval(gain.difference, gain.interval, '+')}"
    floor = evaluation.noise_floor
    if floor and (reached := floor.share_of_reachable["student"]) is not None:
        yield (
            f"the oracle differs from itself by {floor.mae:.3f}; the student has achieved "
            f"{reached:.0%} of what lies between the constant and that"
        )
    if (lost := evaluation.unreadable) and lost.invalid:
        yield (
            f"the student cannot read {lost.invalid} of the test articles, {lost.invalid_positive} finds among them: "
            "a bundle refuses them"
        )
    yield f"the probe answers {evaluation.cascade.share_probe:.1%} of the test articles"
    yield statements(certificate)
