"""Opening a finished run: its spec, its stages' results, and articles to compare models on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.data.labels import LabelledSet, files_digest, read_labels
from distillery_trainer.filters.find import example_files
from distillery_trainer.runs import run as finished_run
from distillery_trainer.runs.fit import RUNS_FOLDER
from distillery_trainer.runs.tasks import RunFolder

NEEDED = ("manifest.json", "config.resolved.yaml", "splits.jsonl", "student", "probe", "calibration.json",
          "certificate.json", "eval.json")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run. `examples` are the filter's own articles, free to be shipped."""

    folder: Path
    spec: FilterSpec
    manifest: Mapping[str, Any]  # Any: nested JSON of known shape
    certificate: Mapping[str, Any]  # Any: nested JSON of known shape
    evaluation: Mapping[str, Any]  # Any: as above
    examples: LabelledSet | None


def open_run(folder: Path) -> Run:
    """Reads a run.

    Raises:
        InputError: the folder is no run, or the run is not finished.
        SpecError: its config is not valid for this version.
    """
    missing = [name for name in NEEDED if not (folder / name).exists()]
    if missing:
        problems = [
            Problem(str(folder / name), "missing", "a finished run (`trainer fit` goes on with it)") for name in missing
        ]
        raise InputError("exporter build", problems)
    found = finished_run.open_finished_run(folder)
    spec, manifest = found.spec, found.manifest
    _check_stages(folder, manifest)
    examples = example_files(Path(str(manifest["filter_folder"])))
    if files_digest(examples) != manifest["examples"]:
        examples = []  # edited since: golden articles are then the generic ones
    return Run(
        folder=folder,
        spec=spec,
        manifest=manifest,
        certificate=found.certificate(),
        evaluation=found.evaluation(),
        examples=read_labels(examples, spec) if examples else None,
    )


def latest_run(root: Path = RUNS_FOLDER) -> Path:
    """The run under `runs/` that was evaluated last.

    Raises:
        InputError: there is no finished run.
    """
    finished = sorted(root.glob("*/v*/*/eval.json"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise InputError("exporter build", [Problem(str(root), "no finished run", "a run's folder as argument")])
    return finished[-1].parent


def labelled_articles(run: Run) -> LabelledSet | None:
    """The articles that the run was made from, or None when its labels files are gone or have changed."""
    return finished_run.labelled_articles(run.manifest, run.spec)


def _check_stages(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Sees that every stage's output is the one that the manifest speaks of, and none is left of another fit."""
    run = RunFolder(folder)
    expected = "as this fit made it (`trainer fit` makes it again)"
    changed = [name for name, key in manifest["stages"].items() if not run.is_done(name, key)]
    if changed:
        raise InputError("exporter build", [Problem(f"{folder}: stage {n}", "changed", expected) for n in changed])
