"""Assessing a run: the evaluation and the report of its models, in its fit and again afterwards."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.errors import DistilleryError, InputError, Problem
from distillery_runtime.files.safe_write import write_text
from distillery_trainer.certify.operating_point import choose_selection, handed_on, nested, selected
from distillery_trainer.certify.read_out import HeldOutRaw, fit_read_out
from distillery_trainer.data.articles import read_pool
from distillery_trainer.data.duplicates import near_duplicate_groups
from distillery_trainer.data.labels import LabelledSet, read_labels, unchanged_files
from distillery_trainer.data.predictions import Answers, Decided, Predictions
from distillery_trainer.data.split import Round
from distillery_trainer.evaluate import baselines
from distillery_trainer.evaluate.evaluation import Evaluation, SplitSizes
from distillery_trainer.evaluate.measurement import HeldOut, evaluate
from distillery_trainer.evaluate.parts import MIN_PART
from distillery_trainer.models.choose import STATIC, open_embedder
from distillery_trainer.models.protocol import FitData
from distillery_trainer.report.assemble import render
from distillery_trainer.report.facts import Facts, Lesson
from distillery_trainer.report.learning_curve import Embeddings, Exam, learn
from distillery_trainer.runs.opening import open_run
from distillery_trainer.runs.run import PROBE, Run

NAMED = 5

logger = logging.getLogger(__name__)


def assess(run: Run, articles: LabelledSet, made: Predictions, is_own: bool = True) -> Evaluation:
    """Evaluates a run on labelled articles, by what its models said of them.

    Args:
        run: the run.
        articles: its test articles, or others.
        made: what its models say of them.
        is_own: whether they are its test articles, which in a run of folds are all of its articles.
    """
    spec, at = run.spec, made.selects_from
    unread = np.zeros((len(made.ids), 2)) if made.unread is None else made.unread
    unreadable = unread > spec.text.unread_limit
    stopped = ~handed_on(made.probe, run.routing, at, spec) & ~unreadable[:, 0]
    held_out = HeldOut(
        articles=articles,
        groups=made.groups,
        baselines=_baselines(run, articles, is_own),
        probe=Decided(made.probe, selected(made.probe, _of_probe(run, made, is_own), spec)),
        student=Decided(made.student, selected(made.student, at, spec)),
        stopped=stopped,
        threshold=run.routing.threshold,
        truncated=made.truncated,
        unreadable=unreadable,
        repeats=[article.repeats for article in run.articles().articles],
        sizes=SplitSizes(len(run.places("train")), len(run.places("val")), len(articles.articles), len(run.folds)),
    )
    return evaluate(spec, held_out, run.seed)


def _baselines(run: Run, articles: LabelledSet, is_own: bool) -> dict[str, Decided]:
    """What baselines decide, fitted, read out and given an operating point on the same articles as the run's models."""
    models: dict[str, Callable[[FitData, Sequence[str]], NDArray[np.float64]]] = {
        "tfidf_ridge": baselines.tfidf_ridge,
        "static": baselines.static,
    }
    if run.folds and is_own:
        data = [(_of_all_others(run, round_), run.articles().select(round_.test).texts) for round_ in run.rounds()]
        order = np.argsort(np.concatenate([round_.test for round_ in run.rounds()]))
        constant = [baselines.constant_decided(own, texts) for own, texts in data]
        found = {"constant": _together(constant, order)}
        for name, model in models.items():
            raw = _stacked([model(own, texts) for own, texts in data])[order]
            held_out = HeldOutRaw(raw, articles.labels(), run.groups)
            read = nested(held_out, run.fold_numbers, run.spec, run.seed)
            found[name] = Decided(read.answers, selected(read.answers, read.selects_from, run.spec))
        return found
    round_ = run.rounds()[0]
    own, groups = run.fit_data(round_), [run.groups[place] for place in round_.val]
    found = {"constant": baselines.constant_decided(own, articles.texts)}
    for name, model in models.items():
        raw = model(own, [*own.val_texts, *articles.texts])
        held_out = HeldOutRaw(raw[: len(groups)], own.val_labels, groups)
        found[name] = _read_out(run, held_out, raw[len(groups) :])
    return found


def _of_all_others(run: Run, round_: Round) -> FitData:
    """What baselines learn from in a fold, as the run's models do: all other folds, the penalty chosen on a tenth."""
    return replace(run.fit_data(round_.whole()), plan=baselines.tfidf_plan(run.fit_data(round_)))


def _of_probe(run: Run, made: Predictions, is_own: bool) -> NDArray[np.float64]:
    """The probe's own operating point, (N,), as every system is judged at its own."""
    if run.folds and is_own:
        return run.folded[0].selects_from
    held_out = run.held_out(PROBE)
    chances, finds = run.read_out(PROBE).answers(held_out.raw).chance, run.are_finds(held_out.labels)
    point = choose_selection(chances, finds, run.spec.operating_point, "held-out articles").chance
    return np.full(len(made.ids), np.nan if point is None else point)


def _read_out(run: Run, held_out: HeldOutRaw, raw: NDArray[np.floating]) -> Decided:
    """A system's decisions by its raw outputs, its read-out and operating point fitted on held-out articles."""
    read_out = fit_read_out(held_out, run.spec, run.seed)
    finds, rule = run.are_finds(held_out.labels), run.spec.operating_point
    point = choose_selection(read_out.answers(held_out.raw).chance, finds, rule, "the validation split").chance
    answers = read_out.answers(raw)
    return Decided(answers, selected(answers, np.full(len(raw), np.nan if point is None else point), run.spec))


def _together(parts: Sequence[Decided], order: NDArray[np.integer]) -> Decided:
    """Decisions on disjoint articles as one, then in this order."""
    answers = [part.answers for part in parts]
    joined = Answers(
        *(np.concatenate([getattr(a, name) for a in answers]) for name in ("expected", "scores", "chance"))
    )
    return Decided(joined, np.concatenate([part.selected for part in parts])).select(order)


def _stacked(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Raw outputs below each other, with a find head's logit only where all have one."""
    width = min(part.shape[1] for part in parts)
    return np.concatenate([part[:, :width] for part in parts])


def evaluate_run(run: Run) -> Evaluation:
    """What `eval.json` says, made again from the run's models.

    Raises:
        InputError: the labels files are gone or have changed.
    """
    return assess(run, run.part("test"), run.predict_test())


def evaluate_on(run: Run, files: Sequence[Path]) -> Evaluation:
    """The same for other labelled articles. The baselines stay those of the run's training articles, or first fold.

    Raises:
        InputError: the files cannot be read or hold too few articles, an article (or a near-duplicate of it) was used
            to make the run, or files that the run was made with are gone, so that this cannot be known.
    """
    own, other = run.articles(), read_labels(files, run.spec)
    if len(other.articles) < MIN_PART:
        found = f"{len(other.articles)} articles"
        raise InputError("--labels", [Problem("(all files)", found, f"at least {MIN_PART}")])
    return assess(run, other, run.predict(other, _checked_groups(run, own, other)), is_own=False)


def learning_curves(run: Run) -> tuple[Lesson, ...]:
    """Learning curves of cheap models, on the embeddings of the probe's encoder before it learnt from any label.

    In a run of folds they are of the first fold.
    """
    round_ = run.rounds()[0]
    data, places = replace(run.fit_data(round_), find_of=None), round_.test
    held_out = run.articles().select(places)
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
        read_out=run.read_out(),
        selection=run.selection,
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
    used = {article.id for article in own.articles if run.folds or splits[article.id] != "test"}
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
