"""Opening a finished run: its config, its records, and the labelled articles that it was made from."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.strict_json import parse_json
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.reading import parse_spec
from distillery_trainer.data.articles import read_pool
from distillery_trainer.data.labels import LabelledSet, read_labels
from distillery_trainer.data.predictions import MAKE_AGAIN, Predictions, read_predictions
from distillery_trainer.data.split import limit_articles
from distillery_trainer.evaluate.evaluate import EVALUATION_VERSION
from distillery_trainer.filters.find import read_yaml_file
from distillery_trainer.runs.tasks import RunFolder
from distillery_trainer.store.files import digest

Json = Mapping[str, Any]  # Any: nested JSON of known shape

GO_ON = "a finished run (`trainer fit` goes on with it)"
OWN_CONFIG = 4  # times a config's limits: all defaults, and aliases written out
# Fields of manifest.json that are read, and their types.
MANIFEST: Mapping[str, type] = {
    "spec_sha256": str, "prompt_sha256": str, "filter_folder": str, "labels": list, "articles": int, "oracles": str,
    "examples": list, "pool": list, "certify_on": list, "seed": int,
}  # fmt: skip
SMALL_STAGES = ("split", "calibrate", "certify", "predict", "evaluate")  # whose outputs are read whole in no time


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run whose fit has finished, with the config that it was made with."""

    folder: Path
    spec: FilterSpec
    manifest: Json

    @property
    def seed(self) -> int:
        """The seed of its split, models and intervals."""
        return int(self.manifest["seed"])

    @property
    def titles(self) -> bool:
        """Whether its report may name articles by title."""
        return bool(self.manifest.get("titles", True))

    def splits(self) -> dict[str, str]:
        """Each labelled article's split, by id."""
        lines = (self.folder / "splits.jsonl").read_text(encoding="utf-8").split("\n")
        return {row["id"]: row["split"] for row in (json.loads(line) for line in lines if line)}

    def certificate(self) -> Json:
        """What is certified of its threshold.

        Raises:
            InputError: it is of another version.
        """
        content = _read(self.folder / "certificate.json")
        if "router" not in content:
            raise InputError(str(self.folder), [Problem("certificate.json", "no router", MAKE_AGAIN)])
        return content

    def predictions(self) -> Predictions:
        """What its models say of its test articles.

        Raises:
            InputError: the run is of a version that did not keep it.
        """
        return read_predictions(self.folder / "predictions.jsonl", self.spec.dimension_names)

    def evaluation(self) -> Json:
        """Its `eval.json`.

        Raises:
            InputError: it is of another version.
        """
        content = _read(self.folder / "eval.json")
        found = content.get("schema_version")
        if found != EVALUATION_VERSION:
            raise InputError(str(self.folder), [Problem("eval.json", f"schema version {found}", MAKE_AGAIN)])
        return content


def open_finished_run(folder: Path) -> FinishedRun:
    """Opens a run.

    Raises:
        InputError: the folder is no run, its fit has not finished, or its records have changed since.
        SpecError: its config is not valid for this version.
    """
    if not (folder / "manifest.json").is_file():
        raise InputError(str(folder), [Problem("manifest.json", "missing", "a run's folder")])
    manifest = _read(folder / "manifest.json")
    stages = manifest.get("stages")
    if not isinstance(stages, dict):
        raise InputError(str(folder), [Problem("manifest.json", "a fit that did not finish", GO_ON)])
    run = RunFolder(folder)
    if problems := list(_manifest_problems(manifest)):
        raise InputError(str(folder / "manifest.json"), problems)
    changed = [name for name in SMALL_STAGES if name in stages and not run.is_done(name, stages[name])]
    if changed:
        raise InputError(str(folder), [Problem(f"stage {n}", "changed", "as the fit made it") for n in changed])
    config = folder / "config.resolved.yaml"
    document = read_yaml_file(config, OWN_CONFIG)
    if document.problems or digest(document.data) != manifest["spec_sha256"]:
        raise InputError(str(folder), [Problem(config.name, "changed", "the config that the run was made with")])
    return FinishedRun(folder, parse_spec(document.data, str(config)), manifest)


def labelled_articles(manifest: Json, spec: FilterSpec) -> LabelledSet | None:
    """The articles that a run was made from, or None when its labels files are gone or have changed."""
    paths = unchanged_files(manifest["labels"])
    if paths is None:
        return None
    labelled = read_labels(paths, spec)
    limit, seed = manifest["limit"], manifest["seed"]
    if isinstance(limit, int) and isinstance(seed, int):
        return labelled.select(limit_articles([article.id for article in labelled.articles], limit, seed))
    return labelled


def files_of(folder: Path) -> list[Path]:
    """A run's folder and the files that its manifest says it was made from, which no output may replace.

    For a folder that is no sound run, the folder alone: whoever opens it says what is wrong.
    """
    try:
        manifest = _read(folder / "manifest.json")
    except (OSError, InputError):
        return [folder]
    joint = manifest.get("joint")
    lists = [manifest.get(name) for name in ("labels", "pool", "certify_on")]
    lists.append(joint.get("labels") if isinstance(joint, dict) else None)
    entries = [entry for found in lists if isinstance(found, list) for entry in found if isinstance(entry, dict)]
    return [folder, *(Path(entry["path"]) for entry in entries if isinstance(entry.get("path"), str))]


def partners_texts(run: FinishedRun) -> list[str] | None:
    """The texts that a jointly trained student may have learnt from other filters; none of a student that was not.

    None when the labels files of the other filters are gone or have changed.
    """
    joint = run.manifest.get("joint")
    if not joint:
        return []
    paths = unchanged_files(joint["labels"])
    return None if paths is None else list(read_pool(paths, run.spec.text).texts)


def unchanged_files(entries: Sequence[Mapping[str, str]]) -> list[Path] | None:
    """The files that a manifest names, or None when one is gone or has changed."""
    paths = [Path(entry["path"]) for entry in entries]
    for path, entry in zip(paths, entries, strict=True):
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            return None
    return paths


def _manifest_problems(manifest: Json) -> Iterator[Problem]:
    """Fields of another type than `trainer fit` writes."""
    for name, kind in MANIFEST.items():
        if name in manifest and type(manifest[name]) is not kind:
            yield Problem(name, json.dumps(manifest.get(name))[:80], f"{kind.__name__}, as `trainer fit` writes it")
    for name in ("labels", "pool", "certify_on"):
        entries = manifest[name] if isinstance(manifest.get(name), list) else []
        if not all(isinstance(e, dict) and {type(e.get("path")), type(e.get("sha256"))} == {str} for e in entries):
            yield Problem(name, "an entry without path and sha256", "files, as `trainer fit` writes them")


def _read(path: Path) -> Json:
    try:
        content = parse_json(path.read_bytes())
    except ValueError as error:
        raise InputError(str(path), [Problem("(file)", f"not JSON ({error})", "as `trainer fit` wrote it")]) from error
    if not isinstance(content, dict):
        raise InputError(str(path), [Problem("(file)", type(content).__name__, "a JSON object")])
    return content
