"""Demo bundles made on the spot: the repository's filter under other names, fitted on its examples without torch.

Each has a split of its own and so another probe and student; the token table is common to all, as an encoder often is.
"""

from pathlib import Path

from benchmarks.suite.settings import ROOT
from distillery_exporter.build import build, whole_run
from distillery_runtime.format.variants import REFERENCE
from distillery_trainer.runs.fit import FitRequest, fit

PANEL = 4
PARITY_ARTICLES = 8
OVERRIDES = {"student.backend": "static", "cascade.probe.embedder": "static", "cascade.target_miss_rate": 0.3}


def make_demo_bundle(folder: Path, number: int) -> Path:
    """Gives the demo bundle with this number, made in `folder` unless it is there."""
    out = folder / f"demo-{number}"
    if not out.exists():
        filter_folder = sorted((ROOT / "filters").glob("*/v*"))[-1]
        labels = sorted((filter_folder / "examples").glob("*.jsonl"))
        overrides = OVERRIDES | {"name": f"demo_{number}"}
        request = FitRequest(filter_folder, labels, overrides, seed=number, run_dir=folder / f"run-{number}")
        run = whole_run(fit(request, lambda _: None))
        build(run, out, (REFERENCE.name,), PARITY_ARTICLES, lambda _: None)
    return out
