"""A run: a folder with a filter's config, its labelled articles by split, its models, and what was found of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec, ProbeSettings
from distillery_runtime.spec.routing import Routing
from distillery_runtime.spec.selection import Selection
from distillery_runtime.spec.verdict import overalls
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.certify.operating_point import Nested, nested, read_selection
from distillery_trainer.certify.read_out import HeldOutRaw, StageReadOut, read_read_out
from distillery_trainer.data.articles import read_pool
from distillery_trainer.data.labels import LabelledSet, files_digest, read_labels, unchanged_files
from distillery_trainer.data.predictions import (
    MAKE_AGAIN,
    STAGES,
    Answers,
    Predictions,
    read_predictions,
    rounded_scores,
)
from distillery_trainer.data.split import Assignment, Round, fold_names, read_splits, rounds_of
from distillery_trainer.evaluate.evaluation import Evaluation, read_evaluation
from distillery_trainer.filters.find import example_files
from distillery_trainer.models.choose import (
    FROZEN,
    STATIC,
    Embedder,
    embedding_key,
    load_student,
    reopen_embedder,
)
from distillery_trainer.models.frozen import FrozenStudent, prefix_of
from distillery_trainer.models.probe import load_probe
from distillery_trainer.models.protocol import FitData, Student
from distillery_trainer.models.records import BaseRecord, base_folder
from distillery_trainer.runs.tasks import TaskFolder
from distillery_trainer.store.chunk_cache import ChunkCache
from distillery_trainer.store.files import read_json, tree_digest
from distillery_trainer.store.progress import Bar

Json = Mapping[str, Any]  # Any: nested JSON of known shape
Scores = NDArray[np.float32]

RUNS_FOLDER = Path("runs")
MANIFEST, CONFIG, METADATA = "manifest.json", "config.resolved.yaml", "training_metadata.json"
SPLITS, STUDENT, CALIBRATION, PROBE = "splits.jsonl", "student", "calibration.json", "probe"
HELD_OUT, SELECTION = "held_out", "selection.json"
CERTIFICATE, PREDICTIONS, EVALUATION, REPORT = "certificate.json", "predictions.jsonl", "eval.json", "report.html"
RUN_PARTS = (  # what a fit writes in the folder, and replaces there
    *(MANIFEST, CONFIG, METADATA, "stages", "work", SPLITS, STUDENT),
    *(HELD_OUT, CALIBRATION, PROBE, SELECTION, CERTIFICATE, PREDICTIONS, EVALUATION, REPORT),
)


@dataclass(frozen=True)
class Run:
    """A run, finished or as far as its fit has come: each part of the folder is read when it is first asked for.

    `seed`: of its split, models and intervals. `read_labelled`: gives the labelled articles that it is made from, None
    where their files are gone or have changed. `titles`: whether its report may name articles by title. Columns of
    scores are in the spec's order.
    """

    folder: Path
    spec: FilterSpec
    seed: int
    read_labelled: Callable[[], LabelledSet | None]
    titles: bool = True

    @cached_property
    def manifest(self) -> Json:
        """The content of `manifest.json`: what the run was made from, and how."""
        return read_json(self.folder / MANIFEST)

    @cached_property
    def labelled(self) -> LabelledSet | None:
        """The labelled articles that it is made from, None where their files are gone or have changed."""
        return self.read_labelled()

    def articles(self) -> LabelledSet:
        """The labelled articles that it is made from.

        Raises:
            InputError: the labels files are gone or have changed.
        """
        if self.labelled is None:
            names = ", ".join(str(entry["path"]) for entry in self.manifest["labels"])
            raise InputError(str(self.folder), [Problem("labels files", "gone or changed", f"as they were: {names}")])
        return self.labelled

    @cached_property
    def assignments(self) -> dict[str, Assignment]:
        """Where each labelled article went, by id, in file order."""
        return read_splits(self.folder / SPLITS)

    @property
    def splits(self) -> dict[str, str]:
        """Each labelled article's split, by id."""
        return {article: row.split for article, row in self.assignments.items()}

    @property
    def groups(self) -> list[str]:
        """Each labelled article's near-duplicate group, in file order."""
        return [row.group for row in self.assignments.values()]

    @cached_property
    def folds(self) -> tuple[str, ...]:
        """The folds' names; none where articles are split into parts instead."""
        return fold_names(self.assignments.values())

    def places(self, split: str) -> list[int]:
        """The places of a split's articles, in file order; in a run of folds all articles train and test."""
        if self.folds and split in ("train", "test"):
            return list(range(len(self.assignments)))
        return [place for place, row in enumerate(self.assignments.values()) if row.split == split]

    def part(self, split: str) -> LabelledSet:
        """A split's articles. Errors as in `articles`."""
        return self.articles().select(self.places(split))

    def rounds(self) -> list[Round]:
        """What is learnt from and judged in turn: each fold once, or the splits."""
        return rounds_of(list(self.assignments.values()), self.seed)

    def fit_data(self, round_: Round | None = None) -> FitData:
        """The training and validation articles: of a round, or of the whole run. Errors as in `articles`."""
        places = round_ or Round(self.places("train"), self.places("val"), [])
        labelled = self.articles()
        train, val = labelled.select(places.train), labelled.select(places.val)
        labels = val.labels() if places.val else train.labels()[:0]
        return FitData(train.texts, train.labels(), val.texts, labels, train.weights(), find_of=self.margins)

    def margins(self, labels: NDArray[np.floating]) -> NDArray[np.float64]:
        """By how much (N, D) labels make an overall above where the operating tier begins: (N,)."""
        return overalls(np.clip(labels, 0, 10), self.spec) - self.spec.operating_overall

    def are_finds(self, labels: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which of (N, D) labels the oracle places at the operating tier or above: (N,)."""
        return self.margins(labels) >= 0

    @cached_property
    def examples(self) -> LabelledSet | None:
        """The filter's own articles, free to be shipped; None where there are none, or they were edited since."""
        files = example_files(Path(str(self.manifest["filter_folder"])))
        return read_labels(files, self.spec) if files and files_digest(files) == self.manifest["examples"] else None

    def partners_texts(self) -> list[str] | None:
        """The texts that a jointly trained student may have learnt from other filters; none of a student that was not.

        None when the labels files of the other filters are gone or have changed.
        """
        joint = self.manifest.get("joint")
        if not joint:
            return []
        paths = unchanged_files(joint["labels"])
        return None if paths is None else list(read_pool(paths, self.spec.text).texts)

    def changed(self) -> list[str]:
        """The tasks whose output is not the one that the manifest speaks of."""
        return changed_tasks(self.folder, self.manifest["stages"], self.manifest["stages"])

    @cached_property
    def certificate(self) -> Json:
        """The content of `certificate.json`: what is certified of the threshold."""
        return read_json(self.folder / CERTIFICATE)

    @property
    def routing(self) -> Routing:
        """Which articles the probe answers.

        Raises:
            InputError: the certificate, or the probe's read-out, is of another version.
        """
        threshold = self.certificate["threshold"]
        return Routing(None if threshold is None else float(threshold), self.read_out(PROBE).chance)

    @cached_property
    def selection(self) -> Selection:
        """The operating point.

        Raises:
            InputError: the run is of a version that had none.
        """
        if not (self.folder / SELECTION).is_file():
            raise InputError(str(self.folder), [Problem(SELECTION, "missing", MAKE_AGAIN)])
        return read_selection(self.folder / SELECTION)

    @cached_property
    def predictions(self) -> Predictions:
        """What its models say of its test articles.

        Raises:
            InputError: the run is of a version that did not keep it.
        """
        return read_predictions(self.folder / PREDICTIONS, self.spec.dimension_names)

    @cached_property
    def evaluation(self) -> Evaluation:
        """Its evaluation on the test articles.

        Raises:
            InputError: it is of another version.
        """
        return read_evaluation(self.folder / EVALUATION)

    @cached_property
    def history(self) -> Json | None:
        """How the student's training went, by epoch; None of a student that keeps no record of it."""
        path = self.folder / STUDENT / "training_history.json"
        return read_json(path) if path.is_file() else None

    def read_out(self, stage: str = STUDENT) -> StageReadOut:
        """How a stage's raw outputs are read.

        Raises:
            InputError: it is of another version.
        """
        return read_read_out(self.folder / (PROBE if stage == PROBE else "") / CALIBRATION)

    def held_out(self, stage: str) -> HeldOutRaw:
        """A stage's raw outputs on articles that it was not fitted on, for its read-out.

        Those of all labelled articles, each by the models of the other folds; without folds the validation articles'.
        """
        places = list(range(len(self.assignments))) if self.folds else self.places("val")
        labelled, groups = self.articles().select(places), self.groups
        raw = self._folded_raw(stage) if self.folds else self.raw(stage, labelled.texts)
        return HeldOutRaw(raw, labelled.labels(), [groups[place] for place in places])

    def _folded_raw(self, stage: str) -> Scores:
        parts = [load_file(self.folder / HELD_OUT / f"{fold}.safetensors")[stage] for fold in self.folds]
        width = min(part.shape[1] for part in parts)  # a find head counts only where each fold has one
        raw = np.zeros((len(self.assignments), width), np.float32)
        for part, round_ in zip(parts, self.rounds(), strict=True):
            raw[round_.test] = part[:, :width]
        return raw

    @cached_property
    def folded(self) -> tuple[Nested, Nested]:
        """Answers of probe and student on all articles, each by what was fitted on the other folds."""
        probe, student = (nested(self.held_out(stage), self.fold_numbers, self.spec, self.seed) for stage in STAGES)
        return probe, student

    @cached_property
    def fold_numbers(self) -> NDArray[np.int64]:
        """Each article's fold, counted from 0: (N,)."""
        return np.array([self.folds.index(row.split) for row in self.assignments.values()], np.int64)

    @cached_property
    def student(self) -> Student:
        """The fitted student."""
        return load_student(self.spec, self.folder / STUDENT)

    @cached_property
    def embedder(self) -> Embedder:
        """The encoder that the fitted probe stands on."""
        return reopen_embedder(self.spec.cascade.probe, self.folder / PROBE)

    def raw(self, stage: str, texts: Sequence[str]) -> Scores:
        """A stage's raw outputs: (N, D) float32, or (N, D + 1) with a find head's logit."""
        if stage == PROBE:
            return self.probe_raw(load_probe(self.spec.cascade.probe, self.folder / PROBE), texts)
        if self.spec.student.backend == FROZEN:
            return self.student_raw(self.student, texts)
        key = tree_digest(self.folder / STUDENT)
        return self.kept("student", key, texts, lambda some: self.student.predict(some))

    def student_raw(self, student: Student, texts: Sequence[str]) -> Scores:
        """What any student of this run's settings gives; a frozen one embeds each text once for all fits."""
        if isinstance(student, FrozenStudent):
            return student.head.predict(self.student_embeddings(texts, student.embedder))
        return student.predict(texts)

    def probe_raw(self, probe: Student, texts: Sequence[str]) -> Scores:
        """As `student_raw`, of any probe of this run's settings."""
        if isinstance(probe, FrozenStudent):
            return probe.head.predict(self.embeddings(texts, probe.embedder))
        return probe.predict(texts)

    def answers(self, stage: str, texts: Sequence[str]) -> Answers:
        """What a stage answers."""
        return self.read_out(stage).answers(self.raw(stage, texts))

    def embeddings(self, texts: Sequence[str], embedder: Embedder | None = None) -> Scores:
        """What the probe's head reads: (N, H) float32, from the fitted probe's encoder unless another is given."""
        return self._embedded(texts, embedder or self.embedder, self.spec.cascade.probe)

    def student_embeddings(self, texts: Sequence[str], embedder: Embedder) -> Scores:
        """What a frozen student's head reads: (N, H) float32, each text embedded once for all of the run's fits."""
        return self._embedded(texts, embedder, self.spec.student.frozen.in_window(self.spec.student.window))

    def _embedded(self, texts: Sequence[str], used: Embedder, settings: ProbeSettings) -> Scores:
        return self.kept("embeddings", embedding_key(settings, used), texts, used.embed)

    def predict(self, articles: LabelledSet, groups: Sequence[str]) -> Predictions:
        """What both models say of any labelled articles, whose near-duplicate groups these are."""
        texts, chance = articles.texts, self.selection.chance
        return self._predictions(
            articles,
            groups,
            (self.answers(PROBE, texts), self.answers(STUDENT, texts)),
            self.raw(STUDENT, texts),
            np.full(len(texts), np.nan if chance is None else chance),
        )

    def predict_test(self) -> Predictions:
        """What both models say of the test articles; of all, each by the models of other folds, where there are folds.

        There read-outs and operating points are of the other folds too. Errors as in `articles`.
        """
        groups = self.groups
        if not self.folds:
            return self.predict(self.part("test"), [groups[place] for place in self.places("test")])
        probe, student = self.folded
        return self._predictions(
            self.articles(), groups, (probe.answers, student.answers), self._folded_raw(STUDENT), student.selects_from
        )

    def _predictions(
        self,
        articles: LabelledSet,
        groups: Sequence[str],
        stages: tuple[Answers, Answers],
        raw: Scores,
        selects_from: NDArray[np.float64],
    ) -> Predictions:
        texts = articles.texts
        rows = self.student_window().encode(texts)
        return Predictions(
            ids=[article.id for article in articles.articles],
            groups=groups,
            tokens=[len(row.ids) for row in rows],
            truncated=[row.truncated for row in rows],
            characters=[len(text) for text in texts],
            labels=rounded_scores(articles.labels()),
            probe=stages[0],
            student=stages[1],
            student_raw=rounded_scores(raw[:, : len(self.spec.dimensions)]),
            selects_from=selects_from,
            unread=rounded_scores(self.unread(texts)),
        )

    def student_window(self, folder: Path | None = None) -> TokenWindow:
        """What of a text the student reads; its tokenizer lies in `folder`, by default the run's own."""
        student = self.spec.student
        own = folder or self.folder / STUDENT
        prefix = student.encoder.prefix if student.backend == "encoder" else ""
        if student.backend == FROZEN:
            prefix = prefix_of(student.frozen, own)
        return TokenWindow(own / "tokenizer.json", student.window, prefix)

    def probe_window(self) -> TokenWindow:
        """What of a text the probe reads."""
        folder, probe = self.folder / PROBE, self.spec.cascade.probe
        if probe.embedder == STATIC:
            return TokenWindow(folder / "tokenizer.json", probe.window)
        base = base_folder(BaseRecord.read(folder / "base.json"))
        return TokenWindow(base / "tokenizer.json", probe.window, prefix_of(probe, folder))

    def unread(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The share of each text that probe and student cannot read: (N, 2), in [0, 1]."""
        windows = (self.probe_window(), self.student_window())
        shares = [[min(row.unread, 1.0) for row in window.encode(texts)] for window in windows]
        return np.array(shares, np.float64).T.reshape(-1, 2)

    def is_unreadable(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Whether probe and student do not answer a text, as they cannot read it: (N, 2)."""
        return self.unread(texts) > self.spec.text.unread_limit

    def kept(
        self, name: str, key: str, texts: Sequence[str], answer: Callable[[Sequence[str]], Scores], label: str = ""
    ) -> Scores:
        """The answers to texts, (N, K) float32, chunk by chunk in the run's cache, so that a killed pass goes on.

        Args:
            name: of the folder in the cache, and of the progress bar unless it has a `label`.
            key: names all that the answers depend on, but for the texts.
            texts: what to answer.
            answer: called with the texts of a chunk that is not kept.
        """
        with Bar(label or name) as bar:
            cache = ChunkCache(self.folder / "cache" / name, key)
            return cache.compute(texts, answer, lambda done: bar.advance_to(done, len(texts)))


def changed_tasks(folder: Path, keys: Mapping[str, str], tasks: Iterable[str]) -> list[str]:
    """Those of some tasks whose output is not the one that was made for its key."""
    made = TaskFolder(folder)
    return [name for name in tasks if name in keys and not made.is_done(name, keys[name])]
