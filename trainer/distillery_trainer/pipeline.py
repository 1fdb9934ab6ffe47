"""The chain of a fit: split -> fit -> calibrate -> probe -> certify -> evaluate, on one run folder."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.calibration import Calibration, CalibrationMap
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.golden import ids_digest
from distillery_runtime.prefilter import Prefilter
from distillery_runtime.spec import FilterSpec
from distillery_runtime.verdict import overalls
from distillery_runtime.window import TokenWindow
from distillery_trainer.backends.choose import (
    STATIC,
    Embedder,
    call_helpers,
    fit_student,
    load_student,
    open_embedder,
    pin_embedder,
    reopen_embedder,
)
from distillery_trainer.backends.protocol import FitData, Student
from distillery_trainer.base_model import identity
from distillery_trainer.calibrate import fit_calibration
from distillery_trainer.certify import certify
from distillery_trainer.chunk_cache import ChunkCache
from distillery_trainer.evaluate import Evidence, evaluate
from distillery_trainer.files import digest, tree_digest, write_json, write_jsonl
from distillery_trainer.heads import HeadData, fit_head, load_head, save_head
from distillery_trainer.labels import LabelledSet
from distillery_trainer.progress import Bar
from distillery_trainer.run import Stage
from distillery_trainer.split import SHARES, near_duplicate_groups, split_by_group
from distillery_trainer.static_embedder import TABLE_FILES, TABLE_FOLDER

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Pipeline:
    """One fit: its spec (overrides applied), its labelled articles, its run folder and seed."""

    spec: FilterSpec
    labelled: LabelledSet
    folder: Path
    seed: int

    def stages(self) -> Sequence[Stage]:
        """The chain, each stage with the part of the spec that it depends on."""
        spec = self.spec.model_dump(mode="json")
        rubric = {key: spec[key] for key in ("dimensions", "tiers", "operating_tier", "gatekeepers")}
        backend = self.spec.student.backend
        student = [backend, spec["student"]["window"], spec["student"][backend], _content_of(self._base_model)]
        probe = [spec["cascade"]["probe"], _content_of(self.spec.cascade.probe.embedder)]
        names = list(self.spec.dimension_names)
        data = digest([[a.id, a.text, a.labels, dict(a.fields)] for a in self.labelled.articles])
        counted = digest(self.labelled.weights().tolist())
        cascade = [self.spec.cascade.target_miss_rate, self.spec.cascade.confidence]
        decided = [rubric, cascade, spec["prefilter"]]
        slices = [spec["evaluation"], spec["prefilter"]]
        weights = [[d["name"], d["weight"]] for d in spec["dimensions"]]
        return (
            Stage("split", "splits.jsonl", (), [data, weights, spec["gatekeepers"], self.seed], 1, self._split),
            Stage("fit", "student", ("split",), [student, names, counted, self.seed], 2, self._fit),
            Stage("calibrate", "calibration.json", ("fit",), [self.seed], 1, self._calibrate),
            Stage("probe", "probe", ("split",), [probe, names, counted, self.seed], 2, self._probe),
            Stage("certify", "certificate.json", ("calibrate", "probe"), decided, 2, self._certify),
            Stage("evaluate", "eval.json", ("certify",), [rubric, slices], 1, self._evaluate),
        )

    @cached_property
    def groups(self) -> list[str]:
        """Each article's near-duplicate group, in file order."""
        return [row["group"] for row in self._split_rows]

    def places(self, split: str) -> list[int]:
        """The places of a split's articles, in file order."""
        return [i for i, row in enumerate(self._split_rows) if row["split"] == split]

    @cached_property
    def _split_rows(self) -> list[dict[str, str]]:
        lines = (self.folder / "splits.jsonl").read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line]

    def _split(self, output: Path) -> None:
        ids = [article.id for article in self.labelled.articles]
        groups = near_duplicate_groups(ids, self.labelled.texts)
        assigned = split_by_group(ids, groups, overalls(self.labelled.labels(), self.spec), self.seed)
        empty = [name for name in SHARES if all(a.split != name for a in assigned)]
        if empty:
            found = f"{len(ids)} articles in {len(set(groups))} near-duplicate groups"
            raise InputError("--labels", [Problem(f"split {name}", found, "enough for each split") for name in empty])
        write_jsonl(output, [{"id": a.id, "split": a.split, "group": a.group} for a in assigned])

    def fit_data(self) -> FitData:
        """The training and validation articles."""
        train, val = self.labelled.select(self.places("train")), self.labelled.select(self.places("val"))
        return FitData(train.texts, train.labels(), val.texts, val.labels(), train.weights())

    def _fit(self, output: Path) -> None:
        call_helpers(self.spec, "FIT")
        with Bar("fit", lines=self.spec.student.backend != STATIC) as bar:
            fit_student(self.spec, self.fit_data(), output, self.seed, bar)
        prefix = self.spec.student.encoder.prefix if self.spec.student.backend == "encoder" else ""
        window = TokenWindow(output / "tokenizer.json", self.spec.student.window, prefix)
        self._write_inputs(window, output / "inputs.jsonl")

    def _calibrate(self, output: Path) -> None:
        places = self.places("val")
        raw = self.student_raw(places)
        calibration = self._fit_calibration(raw, places)
        write_json(output, _calibration_record(calibration))

    def _probe(self, output: Path) -> None:
        settings = self.spec.cascade.probe
        data = self.fit_data()
        embedder = open_embedder(settings)
        train, val = (self._embed(self.places(split), embedder) for split in ("train", "val"))
        with Bar("probe") as bar:
            rows = HeadData(train, data.train_labels, val, data.val_labels, data.train_weights)
            fitted = fit_head(rows, settings.hidden, settings.training, self.seed, bar)
        output.mkdir(parents=True, exist_ok=True)
        save_head(fitted.head, output / "head.safetensors")
        pin_embedder(settings, output)
        write_json(output / "head.json", {"kind": fitted.kind, "val_mae": fitted.val_mae})
        calibration = self._fit_calibration(fitted.head.predict(val), self.places("val"))
        write_json(output / "calibration.json", _calibration_record(calibration))
        self._write_inputs(embedder.window, output / "inputs.jsonl")

    def _certify(self, output: Path) -> None:
        places = self._one_of_each_group(self._admitted(self.places("calibration")))
        certificate = certify(
            overalls(self.probe_scores(places), self.spec),
            overalls(self.student_scores(places), self.spec),
            self.spec.operating_overall,
            self.spec.cascade.target_miss_rate,
            self.spec.cascade.confidence,
        )
        write_json(output, certificate.to_record())

    def _admitted(self, places: Sequence[int]) -> list[int]:
        """The articles that the prefilter lets through: the cascade sees no others."""
        prefilter = Prefilter(self.spec)
        return [i for i in places if prefilter.check(self.labelled.articles[i].cleaned).blocked_by is None]

    def _one_of_each_group(self, places: Sequence[int]) -> list[int]:
        """The first article of each near-duplicate group: a bound for independent draws must not count news twice."""
        first = {self.groups[i]: i for i in reversed(places)}
        return sorted(first.values())

    def _evaluate(self, output: Path) -> None:
        places = self.places("test")
        certificate = json.loads((self.folder / "certificate.json").read_text(encoding="utf-8"))
        evidence = Evidence(
            articles=self.labelled.select(places),
            groups=[self.groups[i] for i in places],
            probe=self.probe_scores(places),
            student=self.student_scores(places),
            threshold=certificate["threshold"],
        )
        write_json(output, evaluate(self.spec, self.fit_data(), evidence, self.seed))

    def student_raw(self, places: Sequence[int]) -> Scores:
        """The student's raw outputs for articles: (N, D) float32, kept as they are made."""
        key = tree_digest(self.folder / "student")
        return self._cached("student", key, places, lambda texts: self._student.predict(texts))

    def student_scores(self, places: Sequence[int]) -> Scores:
        """The student's calibrated scores: (N, D) float32 in [0, 10]."""
        return read_calibration(self.folder / "calibration.json").apply(self.student_raw(places))

    def probe_scores(self, places: Sequence[int]) -> Scores:
        """The probe's calibrated scores: (N, D) float32 in [0, 10]."""
        head = load_head(self.folder / "probe" / "head.safetensors")
        return read_calibration(self.folder / "probe" / "calibration.json").apply(
            head.predict(self._embed(places, self._embedder))
        )

    @cached_property
    def _student(self) -> Student:
        """The fitted student, loaded when its first answer is needed that is not kept."""
        return load_student(self.spec, self.folder / "student")

    @cached_property
    def _embedder(self) -> Embedder:
        """The encoder that the fitted probe stands on."""
        return reopen_embedder(self.spec.cascade.probe, self.folder / "probe")

    @property
    def _base_model(self) -> str:
        return str(getattr(getattr(self.spec.student, self.spec.student.backend), "base_model", STATIC))

    def _embed(self, places: Sequence[int], embedder: Embedder) -> Scores:
        settings = self.spec.cascade.probe
        content = _content_of(settings.embedder if settings.embedder == STATIC else str(embedder.folder))
        key = digest([settings.model_dump(mode="json", exclude={"embedder", "training", "hidden"}), content])
        return self._cached("embeddings", key, places, embedder.embed)

    def _cached(
        self, name: str, key: str, places: Sequence[int], function: Callable[[Sequence[str]], Scores]
    ) -> Scores:
        texts = self.labelled.select(places).texts
        with Bar(name) as bar:
            cache = ChunkCache(self.folder / "cache" / name, key)
            return cache.compute(texts, function, lambda done: bar.advance_to(done, len(texts)))

    def _fit_calibration(self, raw: Scores, places: Sequence[int]) -> Calibration:
        groups = [self.groups[i] for i in places]
        labels = self.labelled.select(places).labels()
        return fit_calibration(raw, labels, groups, self.spec.dimension_names, self.seed)

    def _write_inputs(self, window: TokenWindow, path: Path) -> None:
        """Records what each article became for the model, so that serving can be compared with training."""
        rows = zip(self.labelled.articles, window.encode(self.labelled.texts), strict=True)
        write_jsonl(
            path,
            [
                {"id": a.id, "tokens": len(r.ids), "truncated": r.truncated, "ids_sha256": ids_digest(r.ids)}
                for a, r in rows
            ],
        )


def read_calibration(path: Path) -> Calibration:
    """Reads calibration maps written by a run."""
    record = json.loads(path.read_text(encoding="utf-8"))
    return Calibration(tuple(CalibrationMap.model_validate_json(json.dumps(m)) for m in record["maps"]))


def _content_of(model: str) -> object:
    """What a key says of a model beside its name: its content, which may change under the name (not for a Hub id)."""
    if model == STATIC:
        return [tree_digest(TABLE_FOLDER / name) for name in TABLE_FILES]
    return identity(Path(model)) if Path(model).is_dir() else None


def _calibration_record(calibration: Calibration) -> dict[str, object]:
    return {"schema_version": 1, "maps": [m.model_dump(mode="json") for m in calibration.maps]}
