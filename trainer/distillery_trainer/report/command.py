"""`trainer report`: the report of a finished run, made again from what is still at hand."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from distillery_runtime.errors import DistilleryError, InputError, Problem
from distillery_runtime.spec import FilterSpec
from distillery_runtime.spec_checks import parse_spec
from distillery_trainer.atomic_files import write_text
from distillery_trainer.files import digest
from distillery_trainer.labels import LabelledSet, files_digest, read_labels
from distillery_trainer.pipeline import Pipeline
from distillery_trainer.report.build import render
from distillery_trainer.report.facts import read_facts
from distillery_trainer.report.learning import Lesson
from distillery_trainer.split import limit_articles

NEEDED = ("manifest.json", "config.resolved.yaml", "splits.jsonl", "calibration.json", "certificate.json", "eval.json")

Json = Mapping[str, Any]  # Any: nested JSON of known shape

logger = logging.getLogger(__name__)


def report_run(run: Path, out: Path) -> None:
    """Writes the report of a finished run. The run itself is left as it is, but for its cache.

    What needs the labels files is left out where they are gone or have changed; so is the learning curve where the
    probe's encoder cannot be opened.

    Raises:
        InputError: the folder is no finished run.
        SpecError: its config is not valid for this version.
    """
    manifest, spec, labelled = read_run(run)
    lessons = _lessons(Pipeline(spec, labelled, run, manifest["seed"])) if labelled else ()
    write_text(out, render(read_facts(run, spec, labelled, lessons, manifest["seed"])))


def read_run(run: Path) -> tuple[Json, FilterSpec, LabelledSet | None]:
    """A finished run's manifest, its filter, and its articles where they are at hand and unchanged.

    Raises:
        InputError: the folder is no finished run.
        SpecError: its config is not valid for this version.
    """
    problems = [Problem(str(run / n), "missing", "a finished run") for n in NEEDED if not (run / n).is_file()]
    if problems:
        raise InputError("trainer report", problems)
    manifest: Json = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    config = run / "config.resolved.yaml"
    spec = parse_spec(yaml.safe_load(config.read_text(encoding="utf-8")), str(config))
    if manifest["stages"] is None or digest(spec.model_dump(mode="json")) != manifest["spec_sha256"]:
        found = "not finished" if manifest["stages"] is None else f"{config.name} has changed since"
        raise InputError("trainer report", [Problem(str(run), found, "a finished run (`trainer fit` goes on with it)")])
    return manifest, spec, _labelled(manifest, spec)


def _labelled(manifest: Json, spec: FilterSpec) -> LabelledSet | None:
    """The run's articles, if the labels files are where they were, with the same bytes."""
    files = [Path(item["path"]) for item in manifest["labels"]]
    recorded = [item["sha256"] for item in manifest["labels"]]
    if not all(file.is_file() for file in files) or [item["sha256"] for item in files_digest(files)] != recorded:
        return None
    labelled = read_labels(files, spec)
    if manifest["limit"] is None:
        return labelled
    ids = [article.id for article in labelled.articles]
    return labelled.select(limit_articles(ids, manifest["limit"], manifest["seed"]))


def _lessons(pipeline: Pipeline) -> tuple[Lesson, ...]:
    try:
        return pipeline.lessons()
    except DistilleryError as error:  # a base model or a package that is not here: the rest can be told without it
        logger.warning("no learning curve", extra={"reason": str(error)})
        return ()
