"""What `trainer review` does: a sheet of articles for people to score, and how student and oracle agree with them."""

import itertools
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.safe_write import write_text
from distillery_runtime.spec.model import BANDS, FilterSpec
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.curate.sheet import SHEET, is_filled_in, read_scores, sheet_text
from distillery_trainer.data.predictions import Predictions
from distillery_trainer.data.split import limit_articles
from distillery_trainer.evaluate.inference import Estimate, classical_mean, powered_mean
from distillery_trainer.report.facts import in_words, percent
from distillery_trainer.report.page import Cell, bullets, details, document, escape, paragraph, section, table
from distillery_trainer.runs.run import Run

PAGE = "sheet.html"
FEWEST = 10

Array = NDArray[np.float64]


def export_sheet(run: Run, count: int, seed: int, out: Path) -> int:
    """Writes `sheet.csv` to fill in and `sheet.html` to read, of test articles drawn by the seed; gives how many.

    Neither shows what the oracle or the student said.

    Raises:
        InputError: the run is of another version, its labels files are gone or have changed, or the sheet that is
            there has been filled in.
    """
    ids = list(run.predictions.ids)
    texts = {article.id: article.cleaned for article in run.articles().articles}
    chosen = [ids[place] for place in limit_articles(ids, count, seed)]
    if is_filled_in(out / SHEET):
        raise InputError("--out", [Problem(str(out / SHEET), "a sheet that people have filled in", "another folder")])
    write_text(out / SHEET, sheet_text([(i, "", "", texts[i].title) for i in chosen]))
    parts = [section(f"{i}: {texts[i].title}", paragraph(texts[i].content)) for i in chosen]
    write_text(out / PAGE, document(f"{run.spec.label}: review", "en", [*_rubric(run.spec), *parts]))
    return len(chosen)


def _rubric(spec: FilterSpec) -> list[str]:
    """What a reader needs to score as the filter means it: the questions with their anchors, tiers, caps and flags."""
    weights = ", ".join(f"{percent(d.weight)} {in_words(d.name).lower()}" for d in spec.dimensions)
    how = (
        f"Score each article from 0 to 10 in the column “score” of {SHEET}. A score is the overall: the weighted mean "
        f"of the answers to the questions below ({weights}), lowered where a cap says so."
    )
    questions = [
        details(
            f"{in_words(dimension.name)}: {dimension.question}",
            table(["score", "evidence"], [[Cell(band), Cell(dimension.anchors[band])] for band in BANDS], "text"),
        )
        for dimension in spec.dimensions
    ]
    below = itertools.pairwise(["10", *(f"{tier.min_overall:g}" for tier in spec.tiers)])
    tiers = [[Cell(t.name), Cell(f"{low} to {high}")] for t, (high, low) in zip(spec.tiers, below, strict=True)]
    caps = [
        f"Where {in_words(g.dimension).lower()} is below {g.below:g}, the overall is at most {g.overall_cap:g}."
        for g in spec.gatekeepers
    ]
    flags = [
        f"{in_words(flag.name)}: {flag.question} Then at most "
        f"{', '.join(f'{cap:g} for {in_words(name).lower()}' for name, cap in flag.caps.items())}."
        for flag in spec.flags
    ]
    found = f"From {spec.operating_tier} on, an article is to be found."
    return [
        f"<h1>{escape(in_words(spec.name))}, version {spec.version}: review</h1>",
        paragraph(spec.summary, "under"),
        paragraph(how),
        section("The questions", *questions),
        section(
            "The tiers", table(["tier", "overall"], tiers, "text"), paragraph(found), *([bullets(caps)] if caps else [])
        ),
        *([section("What kind of article is it?", bullets(flags))] if flags else []),
    ]


def import_sheet(run: Run, sheet: Path) -> dict[str, object]:
    """What a filled-in sheet says, as JSON: agreement of people with student and oracle, each with its interval.

    Raises:
        InputError: the sheet is not readable, holds an unknown id or a score outside 0 to 10, or fewer than 10 scores.
    """
    made = run.predictions
    scores = read_sheet(sheet, made.ids)
    student, oracle = (overalls(values, run.spec) for values in (made.student.scores, made.labels))
    found = agreement(made, scores, student, oracle, run.spec.operating_overall)
    return {
        "schema_version": 1,
        "filter": run.spec.label,
        "run": run.folder.name,
        "operating_overall": run.spec.operating_overall,
        **{name: estimate.record() for name, estimate in found.items()},
    }


def agreement(
    made: Predictions, scores: Mapping[str, float], student: Array, oracle: Array, operating: float
) -> dict[str, Estimate]:
    """Estimates for all test articles, of which people scored some.

    The oracle's labels of the others are the machine's answers that make the student's figures sharper; for the
    oracle itself there is nothing but the people.

    Args:
        made: the test articles. scores: people's overalls by id.
        student, oracle: (N,) overalls in the order of `made`.
        operating: the overall from which an article is to be found.
    """
    seen = np.array([i in scores for i in made.ids])
    people = np.array([scores[i] for i in made.ids if i in scores], np.float64)
    own, their = student[seen], oracle[seen]
    rest, proxy = student[~seen], oracle[~seen]

    def alike(one: Array, other: Array) -> Array:
        same: Array = ((one >= operating) == (other >= operating)).astype(np.float64)
        return same

    def found(one: Array) -> Array:
        return (one >= operating).astype(np.float64)

    return {
        "student_mae": _powered(np.abs(own - people), np.abs(own - their), np.abs(rest - proxy)),
        "student_agreement": _powered(alike(own, people), alike(own, their), alike(rest, proxy)),
        "share_to_find": _powered(found(people), found(their), found(proxy)),
        "oracle_mae": classical_mean(np.abs(their - people)),
        "oracle_bias": classical_mean(their - people),
        "oracle_agreement": classical_mean(alike(their, people)),
    }


def read_sheet(path: Path, known: Collection[str]) -> dict[str, float]:
    """People's scores by id; rows without a score are passed over. Errors as in `import_sheet`."""
    scores = read_scores(path, known)
    if len(scores) < FEWEST:
        raise InputError(str(path), [Problem("score", f"{len(scores)} filled in", f"at least {FEWEST}")])
    return scores


def _powered(human: Array, proxy: Array, others: Array) -> Estimate:
    return powered_mean(human, proxy, others) if len(others) > 1 else classical_mean(human)
