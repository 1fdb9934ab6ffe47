"""The losses against each other: the same student, trained with each of them, for several seeds.

    python benchmarks/losses.py NAME --work DIR [--seeds 0 1 2] [--rates RATE ...] [--note TEXT] [--results DIR] \
      -- --filter NAME --backend encoder ... (as `trainer fit`, without --seed, --run-dir, loss and learning rate)

A rate that suits one loss need not suit another: with the first seed each loss is trained at every rate, and keeps the
one that was best on validation articles. A seed also splits the articles, so a difference between losses is taken
within each seed, article by article on its test articles. Runs that are finished in DIR are kept, so an interrupted
measurement goes on. Writes benchmarks/results/losses-NAME.json.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any, get_args

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # run as a script, its own folder would come first

from benchmarks.kills import TRAINER
from benchmarks.parity_result import command, news
from benchmarks.quality import RESULTS
from distillery_runtime.bench.machine import this_machine
from distillery_runtime.spec.model import EncoderSettings, Loss
from distillery_trainer.data.split import SPLIT_VERSION
from distillery_trainer.runs.compare import compare
from distillery_trainer.runs.opening import open_run

LOSSES: tuple[Loss, ...] = get_args(Loss)
REFERENCE: Loss = EncoderSettings().loss  # the default, which the others are compared with

Json = Mapping[str, Any]  # Any: nested JSON of known shape


def main(arguments: Sequence[str] | None = None) -> int:
    """Fits, compares and writes the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help="of the result")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-4], metavar="RATE")
    parser.add_argument("--note", default="", metavar="TEXT", help="what was trained, in a few words")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("fit", nargs="+", metavar="OPTION", help="options of `trainer fit`, after --")
    options = parser.parse_args(arguments)
    first, *others = options.seeds
    rates, runs = {}, {}
    for loss in LOSSES:
        tried = {rate: _fitted(options, loss, rate, first) for rate in options.rates}
        rates[loss] = min(tried, key=lambda rate: _val_mae(tried[rate]))
        runs[loss] = [tried[rates[loss]], *(_fitted(options, loss, rates[loss], seed) for seed in others)]
    record = {
        "benchmark": "losses", "schema_version": 1, "command": command(sys.argv), "machine": asdict(this_machine()),
        "split_version": SPLIT_VERSION,
        "note": options.note, "seeds": options.seeds, "rates_tried": options.rates, "reference": REFERENCE,
        "losses": {loss: {"learning_rate": rates[loss], **_figures(runs[loss], runs[REFERENCE])} for loss in LOSSES},
    }  # fmt: skip
    path = options.results / f"losses-{options.name}.json"
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    news(f"{path.name} written")
    return 0


def _fitted(options: argparse.Namespace, loss: Loss, rate: float, seed: int) -> Path:
    """The run of one loss, rate and seed, fitted unless it is there."""
    run: Path = options.work / f"{loss}-{rate:g}-{seed}"
    backend = options.fit[options.fit.index("--backend") + 1]
    settings = (f"student.{backend}.loss={loss}", f"student.{backend}.training.learning_rate={rate!r}")
    news(f"{run.name} ...")
    options.work.mkdir(parents=True, exist_ok=True)
    with run.with_name(f"{run.name}.log").open("wb") as log:
        chosen = [part for setting in settings for part in ("--set", setting)]
        made = [*TRAINER, *options.fit, *chosen, "--seed", str(seed), "--run-dir", str(run)]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL, stderr=log)
    return run


def _val_mae(run: Path) -> float:
    history = json.loads((run / "student" / "training_history.json").read_text(encoding="utf-8"))
    return min(float(epoch["val_mae"]) for epoch in history["epochs"])


def _figures(runs: Sequence[Path], reference: Sequence[Path]) -> dict[str, object]:
    """One loss's test figures by seed, and its differences from the reference's."""
    found = [open_run(run).evaluation.total.student for run in runs]
    return {
        "test_mae": [figures.mae for figures in found],
        "spearman": [figures.overall.spearman for figures in found],
        "recall": [list(figures.tiers.values())[-1].recall for figures in found],
        "mean_test_mae": round(mean(figures.mae for figures in found), 6),
        "against_reference": [_difference(*pair) for pair in zip(runs, reference, strict=True)],
    }


def _difference(run: Path, reference: Path) -> Json | None:
    """The paired difference of MAE, negative where the loss is better than the reference; None for that itself."""
    if run == reference:
        return None
    report: Json = compare(open_run(run), open_run(reference))
    found = report["parts"]["total"]["mae"]
    return {key: found[key] for key in ("difference", "interval", "outcome")}


if __name__ == "__main__":
    sys.exit(main())
