"""Learning from larger students: their scores on articles with and without labels, beside the oracle's labels.

Hinton et al. 2015, arXiv 1503.02531: a small model learns more from a large one's answers than from labels alone, and
answers cost nothing. On the labelled articles they take the place of some of the oracle's noise. Several runs' scores
are averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.data.articles import Pool
from distillery_trainer.data.duplicates import new_texts, unlike
from distillery_trainer.data.labels import LabelledSet
from distillery_trainer.data.split import is_fold
from distillery_trainer.models.protocol import FitData
from distillery_trainer.runs.opening import open_run
from distillery_trainer.runs.run import CALIBRATION, STUDENT, Run
from distillery_trainer.store.chunk_cache import ChunkCache
from distillery_trainer.store.files import digest, tree_digest

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Distillation:
    """Whom to learn from, and on what: finished runs, a pool, and what a score of it counts against a label's 1."""

    runs: Sequence[Path]
    pool: Pool
    weight: float

    def key(self) -> list[object]:
        """What a fit depends on."""
        sources = [[tree_digest(run / STUDENT), tree_digest(run / CALIBRATION)] for run in self.runs]
        return [sources, digest(list(self.pool.texts)), self.weight]

    def check(self, spec: FilterSpec, splits: Mapping[str, str], labelled: LabelledSet) -> None:
        """Sees that the runs answer the same questions and never saw what this fit is judged on.

        Args:
            spec: the filter.
            splits: each labelled article's split in this fit, by id.
            labelled: these articles.

        Raises:
            InputError: a run is not finished, is of other dimensions, or learnt from an article that is held out here,
                under its own id or as a near-duplicate.
        """
        found = [open_run(run) for run in self.runs]
        problems = [problem for run in found for problem in _problems(run, spec, splits, labelled)]
        if problems:
            raise InputError("--distil-from", problems)

    def added(self, data: FitData, labelled: LabelledSet, cache: Path) -> FitData:
        """The articles to learn from, with the pool's, each with its score beside the label; `cache` keeps scores.

        A labelled article's target is the mean of label and score by their weights, and it counts what both count: the
        squared error from it has the gradient of the two errors together.
        """
        texts = new_texts(self.pool.texts, labelled.texts)
        if not texts:
            found = f"all {len(self.pool.texts)} articles are near-duplicates of labelled ones"
            raise InputError("--pool", [Problem("(all files)", found, "others")])
        known = len(data.train_texts)
        every = [*data.train_texts, *texts]
        scores = np.asarray(np.mean([_score(run, every, cache) for run in self.runs], axis=0), np.float32)
        weights = np.ones_like(data.train_labels) if data.train_weights is None else data.train_weights
        own = np.concatenate([weights, np.zeros_like(scores[known:])])
        labels = np.concatenate([data.train_labels, np.zeros_like(scores[known:])])
        total = own + np.float32(self.weight)
        mixed = (own * labels + np.float32(self.weight) * scores) / total
        return replace(data, train_texts=every, train_labels=mixed, train_weights=total)


def _problems(run: Run, spec: FilterSpec, splits: Mapping[str, str], labelled: LabelledSet) -> list[Problem]:
    found = run.spec.dimension_names
    if found != spec.dimension_names:
        return [Problem(f"{run.folder}: dimensions", ", ".join(found), ", ".join(spec.dimension_names))]
    theirs = {article: "train" if is_fold(split) else split for article, split in run.splits.items()}
    # A run's validation articles chose its epoch and its calibration: here they may do the same.
    held_out = {"train": ("val", "calibration", "test"), "val": ("calibration", "test")}
    counts = {
        split: sum(theirs.get(i) == split and own in elsewhere for i, own in splits.items())
        for split, elsewhere in held_out.items()
    }
    counts["near-duplicates"] = _twins(run, theirs, splits, labelled)
    return [
        Problem(f"{run.folder}: {name}", f"{count} articles that are held out here", "none")
        for name, count in counts.items()
        if count
    ]


def _twins(run: Run, theirs: Mapping[str, str], splits: Mapping[str, str], labelled: LabelledSet) -> int:
    """How many held out articles have a near-duplicate, under an id unknown here, among those that a run learnt from.

    0 where the run's labels files are gone: ids are all there is to go by.
    """
    articles = run.labelled.articles if run.labelled else ()
    learnt = [a.text for a in articles if theirs[a.id] in ("train", "val") and a.id not in splits]
    learnt += set(run.partners_texts() or ()).difference(a.text for a in articles)
    if not learnt:
        return 0
    held = [a.text for a in labelled.articles if splits[a.id] in ("calibration", "test")]
    return len(held) - len(unlike(held, learnt))


def _score(folder: Path, texts: Sequence[str], cache: Path) -> Scores:
    """A run's calibrated scores: (N, D) float32 in [0, 10]."""
    run, kept = open_run(folder), ChunkCache(cache, tree_digest(folder / STUDENT))
    raw = kept.compute(texts, lambda some: run.student.predict(some))
    return run.read_out().maps.expected.apply(raw[:, : len(run.spec.dimensions)])
