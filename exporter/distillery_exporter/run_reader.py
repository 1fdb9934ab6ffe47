"""Opening a finished run: its spec, its stages' results, and articles to compare models on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec import FilterSpec
from distillery_runtime.spec_checks import parse_spec
from distillery_trainer import finished_run
from distillery_trainer.files import digest
from distillery_trainer.fit import RUNS_FOLDER
from distillery_trainer.labels import LabelledSet, files_digest, read_labels
from distillery_trainer.run import RunFolder

NEEDED = ("manifest.json", "config.resolved.yaml", "splits.jsonl", "student", "probe", "calibration.json",
          "certificate.json", "eval.json")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run. `examples` are the filter's own articles, free to be shipped."""

    folder: Path
    spec: FilterSpec
    manifest: Mapping[str, object]
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
    config = folder / "config.resolved.yaml"
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    spec = parse_spec(content, str(config))
    manifest = _read(folder / "manifest.json")
    if digest(content) != manifest["spec_sha256"]:  # as it stands there: a later version's spec has further fields
        raise InputError("exporter build", [Problem(str(config), "changed", "the config that the run was made with")])
    _check_stages(folder, manifest)
    examples = sorted((Path(str(manifest["filter_folder"])) / "examples").glob("*.jsonl"))
    if files_digest(examples) != manifest["examples"]:
        examples = []  # edited since: golden articles are then the generic ones
    return Run(
        folder=folder,
        spec=spec,
        manifest=manifest,
        certificate=_read(folder / "certificate.json"),
        evaluation=_read(folder / "eval.json"),
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


def _check_stages(folder: Path, manifest: Mapping[str, object]) -> None:
    """Sees that every stage's output is the one that the manifest speaks of, and none is left of another fit."""
    stages = manifest["stages"]
    if not isinstance(stages, dict):
        problem = Problem(str(folder), "a fit that did not finish", "a finished run (`trainer fit` goes on with it)")
        raise InputError("exporter build", [problem])
    run = RunFolder(folder)
    expected = "as this fit made it (`trainer fit` makes it again)"
    changed = [name for name, key in stages.items() if not run.is_done(name, key)]
    if changed:
        raise InputError("exporter build", [Problem(f"{folder}: stage {n}", "changed", expected) for n in changed])


def _read(path: Path) -> Mapping[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(str(path), [Problem("(file)", f"not JSON ({error})", "as `trainer fit` wrote it")]) from error
    if not isinstance(content, dict):
        raise InputError(str(path), [Problem("(file)", type(content).__name__, "a JSON object")])
    return content
