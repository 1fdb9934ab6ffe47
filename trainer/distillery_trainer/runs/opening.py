"""Opening finished runs: a folder is checked against its manifest before anything of it is used."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.reading import parse_spec
from distillery_trainer.data.labels import LabelledSet, read_labels, unchanged_files
from distillery_trainer.data.split import limit_articles
from distillery_trainer.filters.find import read_yaml_file
from distillery_trainer.runs.run import CONFIG, EVALUATION, MANIFEST, RUNS_FOLDER, Json, Run, changed_tasks
from distillery_trainer.store.files import digest, read_json

GO_ON = "a finished run (`trainer fit` goes on with it)"
OWN_CONFIG = 4  # times a config's limits: all defaults, and aliases written out
# Fields of manifest.json that are read, and their types.
MANIFEST_TYPES: Mapping[str, type] = {
    "spec_sha256": str, "prompt_sha256": str, "filter_folder": str, "labels": list, "articles": int, "oracles": str,
    "examples": list, "pool": list, "certify_on": list, "seed": int,
}  # fmt: skip
NEEDED = ("spec_sha256", "labels", "seed")
SMALL_TASKS = ("split", "calibrate", "select", "certify", "predict", "evaluate")  # whose outputs are read in no time


def open_run(folder: Path) -> Run:
    """Opens a finished run.

    Raises:
        InputError: the folder is no run, its fit has not finished, or its records have changed since.
        SpecError: its config is not valid for this version.
    """
    if not (folder / MANIFEST).is_file():
        raise InputError(str(folder), [Problem(MANIFEST, "missing", "a run's folder")])
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest.get("stages"), dict):
        raise InputError(str(folder), [Problem(MANIFEST, "a fit that did not finish", GO_ON)])
    if problems := list(_manifest_problems(manifest)):
        raise InputError(str(folder / MANIFEST), problems)
    if changed := changed_tasks(folder, manifest["stages"], SMALL_TASKS):
        raise InputError(str(folder), [Problem(f"stage {name}", "changed", "as the fit made it") for name in changed])
    config = folder / CONFIG
    document = read_yaml_file(config, OWN_CONFIG)
    if document.problems or digest(document.data) != manifest["spec_sha256"]:
        raise InputError(str(folder), [Problem(config.name, "changed", "the config that the run was made with")])
    spec, titles = parse_spec(document.data, str(config)), bool(manifest.get("titles", True))
    return Run(folder, spec, int(manifest["seed"]), partial(_read_labelled, manifest, spec), titles)


def latest_run(root: Path = RUNS_FOLDER) -> Path | None:
    """The finished run under `root` that was evaluated last."""
    found = sorted(root.glob(f"*/v*/*/{EVALUATION}"), key=lambda path: path.stat().st_mtime)
    return found[-1].parent if found else None


def files_of(folder: Path) -> list[Path]:
    """A run's folder and the files that its manifest says it was made from, which no output may replace.

    For a folder that is no sound run, the folder alone: whoever opens it says what is wrong.
    """
    try:
        manifest = read_json(folder / MANIFEST)
    except (OSError, InputError):
        return [folder]
    joint = manifest.get("joint")
    lists = [manifest.get(name) for name in ("labels", "pool", "certify_on")]
    lists.append(joint.get("labels") if isinstance(joint, dict) else None)
    entries = [entry for found in lists if isinstance(found, list) for entry in found if isinstance(entry, dict)]
    return [folder, *(Path(entry["path"]) for entry in entries if isinstance(entry.get("path"), str))]


def _read_labelled(manifest: Json, spec: FilterSpec) -> LabelledSet | None:
    """The articles that a run was made from, or None when its labels files are gone or have changed."""
    paths = unchanged_files(manifest["labels"])
    if paths is None:
        return None
    labelled = read_labels(paths, spec)
    limit, seed = manifest.get("limit"), manifest["seed"]
    if isinstance(limit, int) and isinstance(seed, int):
        return labelled.select(limit_articles([article.id for article in labelled.articles], limit, seed))
    return labelled


def _manifest_problems(manifest: Json) -> Iterator[Problem]:
    """Fields of another type than `trainer fit` writes."""
    for name in NEEDED:
        if name not in manifest:
            yield Problem(name, "missing", f"{MANIFEST_TYPES[name].__name__}, as `trainer fit` writes it")
    for name, kind in MANIFEST_TYPES.items():
        if name in manifest and type(manifest[name]) is not kind:
            yield Problem(name, json.dumps(manifest.get(name))[:80], f"{kind.__name__}, as `trainer fit` writes it")
    for name in ("labels", "pool", "certify_on"):
        entries = manifest[name] if isinstance(manifest.get(name), list) else []
        if not all(isinstance(e, dict) and {type(e.get("path")), type(e.get("sha256"))} == {str} for e in entries):
            yield Problem(name, "an entry without path and sha256", "files, as `trainer fit` writes them")
