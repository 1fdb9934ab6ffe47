"""What `trainer mine` does: finds the articles whose labels would teach a model most, by what it says of them now."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.articles.prefilter import Prefilter
from distillery_runtime.bundles.load import load
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.curate.records import Received, read_records
from distillery_trainer.curate.sampling import Chosen, Request, draw, write_chosen
from distillery_trainer.data.pool import unlike
from distillery_trainer.runs.run import open_finished_run
from distillery_trainer.runs.run_models import RunModels

NEAR_TIER, DISAGREEMENT, TOP = "near_tier", "disagreement", "top"

Array = NDArray[np.float64]


def mine_files(files: Sequence[Path], source: Path, known: Sequence[Path], out: Path, request: Request) -> list[Chosen]:
    """Draws articles for a run's or bundle's next labels into `out`.

    Articles that the filter's rules block are not drawn, nor near-duplicates of those in the files `known`.

    Raises:
        InputError: a file, run or bundle is not usable, or there are fewer articles than asked for.
    """
    is_run = (source / "manifest.json").is_file()
    spec = open_finished_run(source).spec if is_run else load(source).spec
    every = _admitted(files, spec)
    texts = read_records(known, spec.text).texts if known else []
    articles = [every[place] for place in unlike([article.text for article in every], texts)]
    if not articles:
        raise InputError("--articles", [Problem("(all files)", "none that is admitted and new", "others")])
    texts = [article.text for article in articles]
    first, last = run_overalls(source, spec, texts) if is_run else bundle_overalls(source, texts)
    chosen = draw(len(articles), rankings(first, last, spec.operating_overall), request)
    scores = {"first_overall": first.tolist(), "last_overall": last.tolist()}
    write_chosen(out, articles, chosen, scores)
    return chosen


def rankings(first: Array, last: Array, operating: float) -> Mapping[str, Sequence[int]]:
    """Three orders of N articles, the most telling first, by the (N,) overalls of the first and the last stage.

    Near the operating tier a label decides; where the stages disagree one of them is wrong; and among the highest are
    the finds themselves, or the worst mistakes. With one stage the stages cannot disagree.
    """
    orders = {NEAR_TIER: np.abs(last - operating), DISAGREEMENT: -np.abs(first - last), TOP: -last}
    if np.array_equal(first, last):
        del orders[DISAGREEMENT]
    return {name: np.argsort(values, kind="stable").tolist() for name, values in orders.items()}


def run_overalls(folder: Path, spec: FilterSpec, texts: Sequence[str]) -> tuple[Array, Array]:
    """What the probe and the student of a run say: two times (N,) overalls."""
    models = RunModels(spec, folder)
    return overalls(models.probe_scores(texts), spec), overalls(models.student_scores(texts), spec)


def bundle_overalls(folder: Path, texts: Sequence[str]) -> tuple[Array, Array]:
    """What a bundle's first and last stage say, each asked about every text: two times (N,) overalls."""
    scorer = load(folder)
    said = [overalls(stage.run(stage.window.encode(texts)).scores, scorer.spec) for stage in scorer.stages]
    return said[0], said[-1]


def _admitted(files: Sequence[Path], spec: FilterSpec) -> list[Received]:
    prefilter = Prefilter(spec)
    received = read_records(files, spec.text).articles
    return [article for article in received if prefilter.check(article.cleaned).blocked_by is None]
