"""A finished run evaluated again, on its own test articles or on other labelled ones."""

from collections.abc import Sequence
from pathlib import Path

from distillery_runtime.errors import InputError, Problem
from distillery_trainer.data.articles import read_pool
from distillery_trainer.data.duplicates import near_duplicate_groups
from distillery_trainer.data.labels import LabelledSet, read_labels
from distillery_trainer.evaluate.metrics import Report
from distillery_trainer.evaluate.parts import MIN_PART
from distillery_trainer.runs.pipeline import Pipeline
from distillery_trainer.runs.run import FinishedRun, labelled_articles, unchanged_files

NAMED = 5


def evaluate_run(run: FinishedRun) -> Report:
    """What `eval.json` says, made again from the run's models.

    Raises:
        InputError: the labels files are gone or have changed.
    """
    pipeline = _pipeline(run)
    places = pipeline.places("test")
    made = pipeline.predictions(places, [pipeline.groups[i] for i in places])
    return pipeline.evaluation(pipeline.labelled.select(places), made)


def evaluate_on(run: FinishedRun, files: Sequence[Path]) -> Report:
    """The same for other labelled articles. The baselines stay those of the run's training articles.

    Raises:
        InputError: the files cannot be read or hold too few articles, an article (or a near-duplicate of it) was used
            to make the run, or files that the run was made with are gone, so that this cannot be known.
    """
    pipeline, other = _pipeline(run), read_labels(files, run.spec)
    if len(other.articles) < MIN_PART:
        found = f"{len(other.articles)} articles"
        raise InputError("--labels", [Problem("(all files)", found, f"at least {MIN_PART}")])
    groups = _checked_groups(run, pipeline.labelled, other)
    made = Pipeline(run.spec, other, run.folder, run.seed).predictions(range(len(other.articles)), groups)
    return pipeline.evaluation(other, made)


def _pipeline(run: FinishedRun) -> Pipeline:
    labelled = labelled_articles(run.manifest, run.spec)
    if labelled is None:
        names = ", ".join(str(entry["path"]) for entry in run.manifest["labels"])
        raise InputError(str(run.folder), [Problem("labels files", "gone or changed", f"as they were: {names}")])
    return Pipeline(run.spec, labelled, run.folder, run.seed)


def _checked_groups(run: FinishedRun, own: LabelledSet, other: LabelledSet) -> list[str]:
    """The other articles' near-duplicate groups, none of which holds an article that the run was made with."""
    count, splits = len(own.articles), run.splits()
    texts = [*own.texts, *other.texts, *set(_unlabelled(run)).difference(own.texts)]
    groups = near_duplicate_groups([str(i) for i in range(len(texts))], texts)
    groups, unlabelled = groups[: count + len(other.articles)], groups[count + len(other.articles) :]
    used = {article.id for article in own.articles if splits[article.id] != "test"}
    taken = {group for article, group in zip(own.articles, groups[:count], strict=True) if article.id in used}
    taken |= set(unlabelled)
    known = [a.id for a, g in zip(other.articles, groups[count:], strict=True) if a.id in used or g in taken]
    if known:
        named = ", ".join(known[:NAMED]) + (", ..." if len(known) > NAMED else "")
        found = f"{len(known)} that the run was made with, or near-duplicates of such ({named})"
        raise InputError("--labels", [Problem("articles", found, "articles that the run never saw")])
    return groups[count:]


def _unlabelled(run: FinishedRun) -> list[str]:
    """The texts without labels of this filter that a run learnt from or was certified on."""
    joint = run.manifest.get("joint") or {"labels": []}
    entries = [*run.manifest["pool"], *run.manifest["certify_on"], *joint["labels"]]
    if not entries:
        return []
    files = unchanged_files(entries)
    if files is None:
        names = ", ".join(str(entry["path"]) for entry in entries)
        raise InputError(str(run.folder), [Problem("articles it knows", "gone or changed", f"as they were: {names}")])
    return list(read_pool(files, run.spec.text).texts)
