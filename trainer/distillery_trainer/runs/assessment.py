"""Assessing a run: the evaluation and the report of its models, in its fit and again afterwards."""

import logging
from collections.abc import Sequence
from pathlib import Path

from distillery_runtime.errors import DistilleryError, InputError, Problem
from distillery_runtime.files.safe_write import write_text
from distillery_trainer.data.articles import read_pool
from distillery_trainer.data.duplicates import near_duplicate_groups
from distillery_trainer.data.labels import LabelledSet, read_labels
from distillery_trainer.data.predictions import Predictions
from distillery_trainer.evaluate.evaluation import Evaluation
from distillery_trainer.evaluate.measurement import HeldOut, evaluate
from distillery_trainer.evaluate.parts import MIN_PART
from distillery_trainer.models.choose import STATIC, open_embedder
from distillery_trainer.report.assemble import render
from distillery_trainer.report.facts import Facts, Lesson
from distillery_trainer.report.learning_curve import Embeddings, Exam, learn
from distillery_trainer.runs.run import Run, open_run, unchanged_files

NAMED = 5

logger = logging.getLogger(__name__)


def assess(run: Run, articles: LabelledSet, made: Predictions) -> Evaluation:
    """Evaluates a run on labelled articles, by what its models said of them."""
    held_out = HeldOut(
        articles=articles,
        groups=made.groups,
        probe=made.probe,
        student=made.student,
        routing=run.routing,
        truncated=made.truncated,
        repeats=[article.repeats for article in run.articles().articles],
        unreadable=None if made.unread is None else made.unread > run.spec.text.max_unknown_share,
    )
    return evaluate(run.spec, run.fit_data(), held_out, run.seed)


def evaluate_run(run: Run) -> Evaluation:
    """What `eval.json` says, made again from the run's models.

    Raises:
        InputError: the labels files are gone or have changed.
    """
    return assess(run, run.part("test"), run.predict_test())


def evaluate_on(run: Run, files: Sequence[Path]) -> Evaluation:
    """The same for other labelled articles. The baselines stay those of the run's training articles.

    Raises:
        InputError: the files cannot be read or hold too few articles, an article (or a near-duplicate of it) was used
            to make the run, or files that the run was made with are gone, so that this cannot be known.
    """
    own, other = run.articles(), read_labels(files, run.spec)
    if len(other.articles) < MIN_PART:
        found = f"{len(other.articles)} articles"
        raise InputError("--labels", [Problem("(all files)", found, f"at least {MIN_PART}")])
    return assess(run, other, run.predict(other, _checked_groups(run, own, other)))


def learning_curves(run: Run) -> tuple[Lesson, ...]:
    """Learning curves of cheap models, on the embeddings of the probe's encoder before it learnt from any label."""
    data, held_out, places = run.fit_data(), run.part("test"), run.places("test")
    encoder = open_embedder(run.spec.cascade.probe) if run.spec.cascade.probe.embedder == STATIC else None
    parts = (data.train_texts, data.val_texts, held_out.texts)
    embeddings = Embeddings(*(run.embeddings(texts, encoder) for texts in parts))
    groups = run.groups
    exam = Exam(held_out.texts, held_out.labels(), [groups[i] for i in places])
    return learn(data, embeddings, exam, run.seed)


def facts_of(run: Run, lessons: tuple[Lesson, ...], titles: bool) -> Facts:
    """What the report of an evaluated run shows; `titles`: whether it names articles by title.

    Raises:
        InputError: a part of the run is missing or of another version.
    """
    return Facts(
        spec=run.spec,
        evaluation=run.evaluation,
        certificate=run.certificate,
        history=run.history,
        calibration=run.calibration(),
        predictions=run.predictions,
        labelled=run.labelled,
        lessons=lessons,
        seed=run.seed,
        titles=titles,
    )


def report_page(run: Run, lessons: tuple[Lesson, ...], titles: bool) -> str:
    """The report of an evaluated run as a page of HTML. Arguments and errors as in `facts_of`."""
    return render(facts_of(run, lessons, titles))


def report_run(folder: Path, out: Path, titles: bool = True) -> None:
    """Writes the report of a finished run. The run itself is left as it is, but for its cache.

    Without `titles`, or where the fit was told to leave them out, articles are named by their ids alone.

    What needs the labels files is left out where they are gone or have changed; so is the learning curve where the
    probe's encoder cannot be opened.

    Raises:
        InputError: the folder is no finished run, or one of another version.
        SpecError: its config is not valid for this version.
    """
    run = open_run(folder)
    _ = run.evaluation  # of another version, it is refused before anything is computed
    lessons = _lessons(run) if run.labelled else ()
    write_text(out, report_page(run, lessons, titles and run.titles))


def _lessons(run: Run) -> tuple[Lesson, ...]:
    try:
        return learning_curves(run)
    except DistilleryError as error:  # a base model or a package that is not here: the rest can be told without it
        logger.warning("no learning curve", extra={"reason": str(error)})
        return ()


def _checked_groups(run: Run, own: LabelledSet, other: LabelledSet) -> list[str]:
    """The other articles' near-duplicate groups, none of which holds an article that the run was made with."""
    count, splits = len(own.articles), run.splits
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


def _unlabelled(run: Run) -> list[str]:
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
