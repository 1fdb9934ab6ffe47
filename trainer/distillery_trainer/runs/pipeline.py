"""The chain of a fit: split, fit, calibrate, probe, certify, predict, evaluate, report, on one run folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.articles.prefilter import Prefilter
from distillery_runtime.bundles.golden import ids_digest
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.safe_write import write_text
from distillery_runtime.spec.calibration import Calibration
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.routing import Router, chances
from distillery_runtime.spec.verdict import overalls
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.certify.calibrate import fit_calibration
from distillery_trainer.certify.calibration_file import write_calibration
from distillery_trainer.certify.certificate import Drawn, Wanted, certificate
from distillery_trainer.certify.route import fit_router, read_routing, router_record
from distillery_trainer.data.articles import Pool, admitted
from distillery_trainer.data.duplicates import near_duplicate_groups, new_texts
from distillery_trainer.data.labels import LabelledSet
from distillery_trainer.data.predictions import Predictions, read_predictions, rounded_scores, write_predictions
from distillery_trainer.data.split import SHARES, SPLIT_VERSION, Assignment, split_by_group
from distillery_trainer.evaluate.evaluate import Evidence, evaluate
from distillery_trainer.evaluate.metrics import Report
from distillery_trainer.models.choose import STATIC, call_helpers, fit_student, open_embedder
from distillery_trainer.models.heads import load_head
from distillery_trainer.models.probe import fit_probe
from distillery_trainer.models.protocol import FitData
from distillery_trainer.report.build import render
from distillery_trainer.report.facts import read_facts
from distillery_trainer.report.learning import Embeddings, Exam, Lesson, learn
from distillery_trainer.runs.distil import Distillation
from distillery_trainer.runs.joint import Share
from distillery_trainer.runs.run_models import RunModels, content_of
from distillery_trainer.runs.tasks import Stage
from distillery_trainer.store.files import digest, write_json, write_jsonl
from distillery_trainer.store.progress import Bar

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Pipeline:
    """One fit: its spec (overrides applied), its labelled articles, its folder and its seed.

    `distillation`: whom the models learn from beside the oracle. `certify_on`: the unlabelled articles that the
    certificate rests on, where it is not the calibration split's. `splits`: a split made before, of the same articles.
    `share`: of the joint training that the student is taken from, where it is not trained here. `titles`: whether the
    report names articles by title.
    """

    spec: FilterSpec
    labelled: LabelledSet
    folder: Path
    seed: int
    distillation: Distillation | None = None
    certify_on: Pool | None = None
    splits: Sequence[Assignment] = ()
    share: Share | None = None
    titles: bool = True

    @cached_property
    def models(self) -> RunModels:
        """The run's two models."""
        return RunModels(self.spec, self.folder)

    def stages(self) -> Sequence[Stage]:
        """The chain, each stage with the part of the spec that it depends on."""
        spec = self.spec.model_dump(mode="json")
        rubric = {key: spec[key] for key in ("dimensions", "tiers", "operating_tier", "gatekeepers")}
        backend = self.spec.student.backend
        student = [backend, spec["student"]["window"], spec["student"][backend], content_of(self._base_model)]
        probe = [spec["cascade"]["probe"], content_of(self.spec.cascade.probe.embedder)]
        names = list(self.spec.dimension_names)
        data = digest([[a.id, a.text, a.labels, dict(a.fields)] for a in self.labelled.articles])
        counted = digest(self.labelled.weights().tolist())
        repeats = digest([article.repeats for article in self.labelled.articles])
        cascade = [self.spec.cascade.target_miss_rate, self.spec.cascade.confidence]
        distilled = self.distillation.key() if self.distillation else []
        taught = [*distilled, *(self.share.key() if self.share else [])]
        drawn = digest(self.labelled.sampling_weights().tolist())
        rules = [spec["prefilter"], spec["prefilter_unless"]]
        readable = spec["text"]["max_unknown_share"]
        decided = [rubric, cascade, rules, drawn, readable]
        certified = [*decided, digest(list(self.certify_on.texts))] if self.certify_on else decided
        slices = [spec["evaluation"], rules, readable]
        weights = [[d["name"], d["weight"]] for d in spec["dimensions"]]
        given = [digest([[a.id, a.split, a.group] for a in made])] if (made := self._given_splits) else []
        split = [data, weights, spec["gatekeepers"], self.seed, *given]
        costs = digest([[article.cost_usd, article.link] for article in self.labelled.articles])
        told = [self.spec.label, self.spec.summary, self.labelled.oracles, costs, self.seed, self.titles]
        return (
            Stage("split", "splits.jsonl", (), split, SPLIT_VERSION, self._split),
            Stage("fit", "student", ("split",), [student, names, counted, self.seed, *taught], 4, self._fit),
            Stage("calibrate", "calibration.json", ("fit",), [self.seed], 2, self._calibrate),
            Stage("probe", "probe", ("split",), [probe, names, counted, self.seed, *distilled], 5, self._probe),
            Stage("certify", "certificate.json", ("calibrate", "probe"), certified, 7, self._certify),
            Stage("predict", "predictions.jsonl", ("calibrate", "probe"), [], 2, self._predict),
            Stage("evaluate", "eval.json", ("certify", "predict"), [rubric, slices, repeats], 5, self._evaluate),
            Stage("report", "report.html", ("evaluate", "predict"), told, 2, self._report),
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

    @cached_property
    def _given_splits(self) -> Sequence[Assignment]:
        """A split of these articles that was made before, if there is one."""
        return self.share.assignments() if self.share else self.splits

    def _split(self, output: Path) -> None:
        assigned = self._given_splits or self._assigned()
        write_jsonl(output, [{"id": a.id, "split": a.split, "group": a.group} for a in assigned])

    def _assigned(self) -> Sequence[Assignment]:
        ids = [article.id for article in self.labelled.articles]
        groups = near_duplicate_groups(ids, self.labelled.texts)
        assigned = split_by_group(ids, groups, overalls(self.labelled.labels(), self.spec), self.seed)
        empty = [name for name in SHARES if all(a.split != name for a in assigned)]
        if empty:
            found = f"{len(ids)} articles in {len(set(groups))} near-duplicate groups"
            raise InputError("--labels", [Problem(f"split {name}", found, "enough for each split") for name in empty])
        return assigned

    def fit_data(self) -> FitData:
        """The training and validation articles."""
        train, val = self.labelled.select(self.places("train")), self.labelled.select(self.places("val"))
        return FitData(train.texts, train.labels(), val.texts, val.labels(), train.weights())

    @cached_property
    def student_data(self) -> FitData:
        """What the student learns from: the training and validation articles, and other students' scores, if asked.

        Raises:
            InputError: a run to learn from does not suit.
        """
        data, source = self.fit_data(), self.distillation
        if source is None:
            return data
        source.check(self.spec, {row["id"]: row["split"] for row in self._split_rows}, self.labelled)
        return source.added(data, self.labelled, self.folder / "cache" / "distil")

    def _fit(self, output: Path) -> None:
        if self.share:
            self.share.take(output)
        else:
            call_helpers(self.spec, "FIT")
            data = self.student_data
            with Bar("fit", lines=self.spec.student.backend != STATIC) as bar:
                fit_student(self.spec, data, output, self.seed, bar)
        self._write_inputs(self.models.student_window(output), output / "inputs.jsonl")

    def _calibrate(self, output: Path) -> None:
        places = self.places("val")
        raw = self.models.student_raw(self.labelled.select(places).texts)
        write_calibration(output, self._fit_calibration(raw, places))

    def _probe(self, output: Path) -> None:
        data = self.student_data
        with Bar("probe") as bar:
            embedder = fit_probe(self.spec.cascade.probe, data, output, self.seed, bar, self.models.embeddings)
        raw = load_head(output / "head.safetensors").predict(self.models.embeddings(data.val_texts, embedder))
        write_calibration(output / "calibration.json", self._fit_calibration(raw, self.places("val")))
        self._write_inputs(embedder.window, output / "inputs.jsonl")

    def _certify(self, output: Path) -> None:
        places = self._one_of_each_group(self._admitted(self.places("calibration")))
        drawn, asked, router = self.labelled.select(places), self.spec.cascade, self._router()
        held_out = self._seen(drawn.texts, router)
        if np.ptp(every := self.labelled.sampling_weights()) > 0:
            held_out = replace(held_out, weights=drawn.sampling_weights(), most=float(every.max()))
        judges = {
            "student": self._seen(self._unlabelled(self.certify_on), router) if self.certify_on else held_out,
            "oracle": replace(held_out, judge=overalls(drawn.labels(), self.spec)),
        }
        wanted = Wanted(self.spec.operating_overall, asked.target_miss_rate, asked.confidence)
        found = certificate(judges, wanted, "unlabelled" if self.certify_on else "calibration")
        write_json(output, found | {"router": router_record(router, self.spec)})

    def _router(self) -> Router:
        """Fitted on the validation articles, whose scores neither model learnt."""
        texts = self.labelled.select(self.places("val")).texts
        kept = overalls(self.models.student_scores(texts), self.spec) >= self.spec.operating_overall
        return fit_router(self.models.probe_scores(texts), kept, self.spec)

    def _seen(self, texts: Sequence[str], router: Router) -> Drawn:
        """Articles as both models see them: what it cannot read the probe hands on, and the student refuses."""
        chance = chances(self.models.probe_scores(texts), router, self.spec)
        overall = overalls(self.models.student_scores(texts), self.spec)
        by_probe, by_student = self.models.is_unreadable(texts).T
        return Drawn(np.where(by_probe, 1.0, chance), np.where(by_student, 0.0, overall))

    def _unlabelled(self, articles: Pool) -> list[str]:
        """The texts to certify on, which no model of this run knows."""
        pool = admitted(articles, self.spec)
        learnt = self.distillation.pool.texts if self.distillation else ()
        others = self.share.others() if self.share else ()
        texts = new_texts(pool, [*self.labelled.texts, *learnt, *others])
        if not texts:
            found = f"all {len(pool)} articles that the prefilter lets through are near-duplicates of known ones"
            raise InputError("--certify-on", [Problem("(all files)", found, "others")])
        return texts

    def _admitted(self, places: Sequence[int]) -> list[int]:
        """The articles that the prefilter lets through: the cascade sees no others."""
        prefilter = Prefilter(self.spec)
        return [i for i in places if prefilter.check(self.labelled.articles[i].cleaned).blocked_by is None]

    def _one_of_each_group(self, places: Sequence[int]) -> list[int]:
        """The first article of each near-duplicate group: a bound for independent draws must not count news twice."""
        first = {self.groups[i]: i for i in reversed(places)}
        return sorted(first.values())

    def _predict(self, output: Path) -> None:
        places = self.places("test")
        made = self.predictions(places, [self.groups[i] for i in places])
        write_predictions(output, made, self.spec.dimension_names)

    def predictions(self, places: Sequence[int], groups: Sequence[str]) -> Predictions:
        """What both models say of articles, whose near-duplicate groups these are."""
        articles = self.labelled.select(places)
        texts = articles.texts
        rows = self.models.student_window().encode(texts)
        return Predictions(
            ids=[article.id for article in articles.articles],
            groups=groups,
            tokens=[len(row.ids) for row in rows],
            truncated=[row.truncated for row in rows],
            characters=[len(text) for text in texts],
            labels=rounded_scores(articles.labels()),
            probe=rounded_scores(self.models.probe_scores(texts)),
            student=rounded_scores(self.models.student_scores(texts)),
            student_raw=rounded_scores(self.models.student_raw(texts)),
            unread=rounded_scores(self.models.unread(texts)),
        )

    def _evaluate(self, output: Path) -> None:
        made = read_predictions(self.folder / "predictions.jsonl", self.spec.dimension_names)
        write_json(output, self.evaluation(self.labelled.select(self.places("test")), made))

    def evaluation(self, articles: LabelledSet, made: Predictions) -> Report:
        """The content of `eval.json` for articles and what the models said of them."""
        certified = json.loads((self.folder / "certificate.json").read_text(encoding="utf-8"))
        evidence = Evidence(
            articles=articles,
            groups=made.groups,
            probe=made.probe,
            student=made.student,
            routing=read_routing(certified, self.spec),
            truncated=made.truncated,
            repeats=[article.repeats for article in self.labelled.articles],
            unreadable=None if made.unread is None else made.unread > self.spec.text.max_unknown_share,
        )
        return evaluate(self.spec, self.fit_data(), evidence, self.seed)

    def _report(self, output: Path) -> None:
        facts = read_facts(self.folder, self.spec, self.labelled, self.lessons(), self.seed, self.titles)
        write_text(output, render(facts))

    def lessons(self) -> tuple[Lesson, ...]:
        """Learning curves of cheap models, on the embeddings of the probe's encoder before it learnt from any label."""
        places = self.places("test")
        data, held_out = self.fit_data(), self.labelled.select(places)
        encoder = open_embedder(self.spec.cascade.probe) if self.spec.cascade.probe.embedder == STATIC else None
        parts = (data.train_texts, data.val_texts, held_out.texts)
        seen = (self.models.embeddings(texts, encoder) for texts in parts)
        embeddings = Embeddings(*seen)
        exam = Exam(held_out.texts, held_out.labels(), [self.groups[i] for i in places])
        return learn(data, embeddings, exam, self.seed)

    @property
    def _base_model(self) -> str:
        return str(getattr(getattr(self.spec.student, self.spec.student.backend), "base_model", STATIC))

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
                {
                    "id": a.id,
                    "tokens": len(r.ids),
                    "truncated": r.truncated,
                    "unread": round(min(r.unread, 1.0), 4),
                    "ids_sha256": ids_digest(r.ids),
                }
                for a, r in rows
            ],
        )
