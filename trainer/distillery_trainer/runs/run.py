"""A run: a folder with a filter's config, its labelled articles by split, its models, and what was found of them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.calibration import Calibration
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.reading import parse_spec
from distillery_runtime.spec.routing import Routing
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.certify.calibrate import read_calibration
from distillery_trainer.certify.route import read_routing
from distillery_trainer.data.articles import read_pool
from distillery_trainer.data.labels import LabelledSet, files_digest, read_labels
from distillery_trainer.data.predictions import MAKE_AGAIN, Predictions, read_predictions, rounded_scores
from distillery_trainer.data.split import Assignment, limit_articles, read_splits
from distillery_trainer.evaluate.evaluation import Evaluation, read_evaluation
from distillery_trainer.filters.find import example_files, read_yaml_file
from distillery_trainer.models.base_model import identity
from distillery_trainer.models.choose import STATIC, Embedder, load_student, reopen_embedder
from distillery_trainer.models.heads import load_head
from distillery_trainer.models.protocol import FitData, Student
from distillery_trainer.models.records import BaseRecord, base_folder
from distillery_trainer.models.static_embedder import TABLE_FILES, TABLE_FOLDER, StaticEmbedder
from distillery_trainer.runs.tasks import TaskFolder
from distillery_trainer.store.chunk_cache import ChunkCache
from distillery_trainer.store.files import digest, read_json, tree_digest
from distillery_trainer.store.progress import Bar

Json = Mapping[str, Any]  # Any: nested JSON of known shape
Scores = NDArray[np.float32]

RUNS_FOLDER = Path("runs")
MANIFEST, CONFIG, METADATA = "manifest.json", "config.resolved.yaml", "training_metadata.json"
SPLITS, STUDENT, CALIBRATION, PROBE = "splits.jsonl", "student", "calibration.json", "probe"
CERTIFICATE, PREDICTIONS, EVALUATION, REPORT = "certificate.json", "predictions.jsonl", "eval.json", "report.html"
RUN_PARTS = (  # what a fit writes in the folder, and replaces there
    *(MANIFEST, CONFIG, METADATA, "stages", "work", SPLITS, STUDENT),
    *(CALIBRATION, PROBE, CERTIFICATE, PREDICTIONS, EVALUATION, REPORT),
)
GO_ON = "a finished run (`trainer fit` goes on with it)"
OWN_CONFIG = 4  # times a config's limits: all defaults, and aliases written out
# Fields of manifest.json that are read, and their types.
MANIFEST_TYPES: Mapping[str, type] = {
    "spec_sha256": str, "prompt_sha256": str, "filter_folder": str, "labels": list, "articles": int, "oracles": str,
    "examples": list, "pool": list, "certify_on": list, "seed": int,
}  # fmt: skip
NEEDED = ("spec_sha256", "labels", "seed")
SMALL_TASKS = ("split", "calibrate", "certify", "predict", "evaluate")  # whose outputs are read whole in no time


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

    def places(self, split: str) -> list[int]:
        """The places of a split's articles, in file order."""
        return [place for place, row in enumerate(self.assignments.values()) if row.split == split]

    def part(self, split: str) -> LabelledSet:
        """A split's articles. Errors as in `articles`."""
        return self.articles().select(self.places(split))

    def fit_data(self) -> FitData:
        """The training and validation articles. Errors as in `articles`."""
        train, val = self.part("train"), self.part("val")
        return FitData(train.texts, train.labels(), val.texts, val.labels(), train.weights())

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
        return _changed(self.folder, self.manifest["stages"], self.manifest["stages"])

    @cached_property
    def certificate(self) -> Json:
        """The content of `certificate.json`: what is certified of the threshold."""
        return read_json(self.folder / CERTIFICATE)

    @property
    def routing(self) -> Routing:
        """Which articles the probe answers.

        Raises:
            InputError: the certificate is of another version.
        """
        if "router" not in self.certificate:
            raise InputError(str(self.folder), [Problem(CERTIFICATE, "no router", MAKE_AGAIN)])
        return read_routing(self.certificate, self.spec)

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

    def calibration(self, stage: str = STUDENT) -> Calibration:
        """A stage's calibration maps."""
        return read_calibration(self.folder / (PROBE if stage == PROBE else "") / CALIBRATION)

    @cached_property
    def student(self) -> Student:
        """The fitted student."""
        return load_student(self.spec, self.folder / STUDENT)

    @cached_property
    def embedder(self) -> Embedder:
        """The encoder that the fitted probe stands on."""
        return reopen_embedder(self.spec.cascade.probe, self.folder / PROBE)

    def student_raw(self, texts: Sequence[str]) -> Scores:
        """The student's raw outputs: (N, D) float32."""
        key = tree_digest(self.folder / STUDENT)
        return self.kept("student", key, texts, lambda some: self.student.predict(some))

    def student_scores(self, texts: Sequence[str]) -> Scores:
        """The student's calibrated scores: (N, D) float32 in [0, 10]."""
        return self.calibration(STUDENT).apply(self.student_raw(texts))

    def probe_scores(self, texts: Sequence[str]) -> Scores:
        """The probe's calibrated scores: (N, D) float32 in [0, 10]."""
        head = load_head(self.folder / PROBE / "head.safetensors")
        return self.calibration(PROBE).apply(head.predict(self.embeddings(texts)))

    def embeddings(self, texts: Sequence[str], embedder: Embedder | None = None) -> Scores:
        """What the probe's head reads: (N, H) float32, from the fitted probe's encoder unless another is given."""
        used, settings = embedder or self.embedder, self.spec.cascade.probe
        content = _table_digest(used.folder) if settings.embedder == STATIC else content_of(str(used.folder))
        key = digest([settings.model_dump(mode="json", exclude={"embedder", "training", "hidden"}), content])
        return self.kept("embeddings", key, texts, used.embed)

    def predict(self, articles: LabelledSet, groups: Sequence[str]) -> Predictions:
        """What both models say of any labelled articles, whose near-duplicate groups these are."""
        texts = articles.texts
        rows = self.student_window().encode(texts)
        return Predictions(
            ids=[article.id for article in articles.articles],
            groups=groups,
            tokens=[len(row.ids) for row in rows],
            truncated=[row.truncated for row in rows],
            characters=[len(text) for text in texts],
            labels=rounded_scores(articles.labels()),
            probe=rounded_scores(self.probe_scores(texts)),
            student=rounded_scores(self.student_scores(texts)),
            student_raw=rounded_scores(self.student_raw(texts)),
            unread=rounded_scores(self.unread(texts)),
        )

    def predict_test(self) -> Predictions:
        """What both models say of the test articles. Errors as in `articles`."""
        groups = self.groups
        return self.predict(self.part("test"), [groups[place] for place in self.places("test")])

    def student_window(self, folder: Path | None = None) -> TokenWindow:
        """What of a text the student reads; its tokenizer lies in `folder`, by default the run's own."""
        student = self.spec.student
        prefix = student.encoder.prefix if student.backend == "encoder" else ""
        return TokenWindow((folder or self.folder / STUDENT) / "tokenizer.json", student.window, prefix)

    def probe_window(self) -> TokenWindow:
        """What of a text the probe reads."""
        folder, probe = self.folder / PROBE, self.spec.cascade.probe
        if probe.embedder == STATIC:
            return StaticEmbedder(probe.window, folder).window
        base = base_folder(BaseRecord.read(folder / "base.json"))
        return TokenWindow(base / "tokenizer.json", probe.window, probe.prefix)

    def unread(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The share of each text that probe and student cannot read: (N, 2), in [0, 1]."""
        windows = (self.probe_window(), self.student_window())
        shares = [[min(row.unread, 1.0) for row in window.encode(texts)] for window in windows]
        return np.array(shares, np.float64).T.reshape(-1, 2)

    def is_unreadable(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Whether probe and student do not answer a text, as they cannot read it: (N, 2)."""
        return self.unread(texts) > self.spec.text.max_unknown_share

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
    if changed := _changed(folder, manifest["stages"], SMALL_TASKS):
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


def unchanged_files(entries: Sequence[Mapping[str, str]]) -> list[Path] | None:
    """The files that a manifest names, or None when one is gone or has changed."""
    paths = [Path(entry["path"]) for entry in entries]
    for path, entry in zip(paths, entries, strict=True):
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            return None
    return paths


def content_of(model: str) -> object:
    """What a key says of a model beside its name: its content, which may change under the name (not for a Hub id)."""
    if model == STATIC:
        return _table_digest(TABLE_FOLDER)
    return identity(Path(model)) if Path(model).is_dir() else None


def _table_digest(folder: Path) -> list[str]:
    return [tree_digest(folder / name) for name in TABLE_FILES]


def _changed(folder: Path, keys: Mapping[str, str], tasks: Iterable[str]) -> list[str]:
    """Those of some tasks whose output is not the one that was made for its key."""
    made = TaskFolder(folder)
    return [name for name in tasks if name in keys and not made.is_done(name, keys[name])]


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
