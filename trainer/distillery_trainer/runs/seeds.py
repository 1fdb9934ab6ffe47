"""The same fit with several seeds, and how far their errors lie apart."""

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from distillery_runtime.errors import InputError, Problem
from distillery_trainer.runs.fit import FitRequest, fit
from distillery_trainer.store import processes

SYSTEMS = ("tfidf_ridge", "probe", "student", "cascade")


def fit_seeds(request: FitRequest, seeds: Sequence[int], say: Callable[[str], None]) -> list[Path]:
    """Fits one run for each seed, in `seed-<N>` of the request's run folder if it names one, and gives their folders.

    Raises:
        InputError: a seed is given twice, or several processes were started; and as `fit`.
    """
    if len(set(seeds)) < len(seeds):
        raise InputError("--seeds", [Problem(" ".join(map(str, seeds)), "a seed given twice", "each once")])
    if processes.count() > 1:
        raise InputError("--seeds", [Problem("processes", str(processes.count()), "one, or a fit for each seed")])
    return [fit(_with_seed(request, seed), say) for seed in seeds]


def seed_spread(runs: Sequence[Path]) -> str:
    """A table of test MAE by seed and system, with mean and sample standard deviation."""
    return "\n".join(_lines([_maes(run) for run in runs], [_seed(run) for run in runs]))


def _lines(maes: Sequence[Sequence[float]], seeds: Sequence[int]) -> Iterator[str]:
    rows = [(f"seed {seed}", found) for seed, found in zip(seeds, maes, strict=True)]
    columns = list(zip(*maes, strict=True))
    rows.append(("mean", [statistics.mean(column) for column in columns]))
    if len(maes) > 1:
        rows.append(("standard deviation", [statistics.stdev(column) for column in columns]))
    yield f"{'test MAE (mean of dimensions)':<32}" + "".join(f"{name:>13}" for name in SYSTEMS)
    for name, found in rows:
        yield f"  {name:<30}" + "".join(f"{value:>13.3f}" for value in found)


def _maes(run: Path) -> list[float]:
    total = json.loads((run / "eval.json").read_text(encoding="utf-8"))["parts"]["total"]
    return [float(total[name]["mae"]) for name in SYSTEMS]


def _seed(run: Path) -> int:
    return int(json.loads((run / "manifest.json").read_text(encoding="utf-8"))["seed"])


def _with_seed(request: FitRequest, seed: int) -> FitRequest:
    folder = request.run_dir / f"seed-{seed}" if request.run_dir else None
    return replace(request, seed=seed, run_dir=folder)
