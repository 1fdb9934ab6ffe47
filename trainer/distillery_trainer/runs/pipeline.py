"""The chain of a fit: split, fit, calibrate, probe, certify, predict, evaluate, report, on one run folder."""

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
from distillery_trainer.certify.calibrate import fit_calibration, write_calibration
from distillery_trainer.certify.certificate import Drawn, Wanted, certificate
from distillery_trainer.certify.route import fit_router, router_record
from distillery_trainer.data.articles import Pool, admitted
from distillery_trainer.data.duplicates import near_duplicate_groups, new_texts
from distillery_trainer.data.labels import LabelledSet
from distillery_trainer.data.predictions import write_predictions
from distillery_trainer.data.split import SHARES, SPLIT_VERSION, Assignment, split_by_group, write_splits
from distillery_trainer.evaluate.evaluation import write_evaluation
from distillery_trainer.models.choose import STATIC, call_helpers, fit_student
from distillery_trainer.models.heads import load_head
from distillery_trainer.models.probe import fit_probe
from distillery_trainer.models.protocol import FitData
from distillery_trainer.runs.assessment import assess, learning_curves, report_page
from distillery_trainer.runs.distil import Distillation
from distillery_trainer.runs.joint import Share
from distillery_trainer.runs.run import (
    CALIBRATION,
    CERTIFICATE,
    EVALUATION,
    PREDICTIONS,
    PROBE,
    REPORT,
    SPLITS,
    STUDENT,
    Run,
    content_of,
)
from distillery_trainer.runs.tasks import Task
from distillery_trainer.store.files import digest, write_json, write_jsonl
from distillery_trainer.store.progress import Bar

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Pipeline:
    """One fit, which makes a run: its spec has the overrides applied, its labelled articles are at hand.

    `distillation`: whom the models learn from beside the oracle. `certify_on`: the unlabelled articles that the
    certificate rests on, where it is not the calibration split's. `splits`: a split made before, of the same articles.
    `share`: of the joint training that the student is taken from, where it is not trained here.
    """

    run: Run
    distillation: Distillation | None = None
    certify_on: Pool | None = None
    splits: Sequence[Assignment] = ()
    share: Share | None = None

    @property
    def spec(self) -> FilterSpec:
        """The run's."""
        return self.run.spec

    @property
    def labelled(self) -> LabelledSet:
        """The run's articles."""
        return self.run.articles()

    def tasks(self) -> Sequence[Task]:
        """The chain, each task with the part of the spec that it depends on."""
        seed, labelled, spec = self.run.seed, self.labelled, self.spec.model_dump(mode="json")
        rubric = {key: spec[key] for key in ("dimensions", "tiers", "operating_tier", "gatekeepers")}
        backend = self.spec.student.backend
        student = [backend, spec["student"]["window"], spec["student"][backend], content_of(self._base_model)]
        probe = [spec["cascade"]["probe"], content_of(self.spec.cascade.probe.embedder)]
        names = list(self.spec.dimension_names)
        data = digest([[a.id, a.text, a.labels, dict(a.fields)] for a in labelled.articles])
        counted = digest(labelled.weights().tolist())
        repeats = digest([article.repeats for article in labelled.articles])
        cascade = [self.spec.cascade.target_miss_rate, self.spec.cascade.confidence]
        distilled = self.distillation.key() if self.distillation else []
        taught = [*distilled, *(self.share.key() if self.share else [])]
        drawn = digest(labelled.sampling_weights().tolist())
        rules = [spec["prefilter"], spec["prefilter_unless"]]
        readable = spec["text"]["max_unknown_share"]
        decided = [rubric, cascade, rules, drawn, readable]
        certified = [*decided, digest(list(self.certify_on.texts))] if self.certify_on else decided
        slices = [spec["evaluation"], rules, readable]
        weights = [[d["name"], d["weight"]] for d in spec["dimensions"]]
        given = [digest([[a.id, a.split, a.group] for a in made])] if (made := self._given_splits) else []
        split = [data, weights, spec["gatekeepers"], seed, *given]
        costs = digest([[article.cost_usd, article.link] for article in labelled.articles])
        told = [self.spec.label, self.spec.summary, labelled.oracles, costs, seed, self.run.titles]
        return (
            Task("split", SPLITS, (), split, SPLIT_VERSION, self._split),
            Task("fit", STUDENT, ("split",), [student, names, counted, seed, *taught], 4, self._fit),
            Task("calibrate", CALIBRATION, ("fit",), [seed], 2, self._calibrate),
            Task("probe", PROBE, ("split",), [probe, names, counted, seed, *distilled], 5, self._probe),
            Task("certify", CERTIFICATE, ("calibrate", "probe"), certified, 7, self._certify),
            Task("predict", PREDICTIONS, ("calibrate", "probe"), [], 2, self._predict),
            Task("evaluate", EVALUATION, ("certify", "predict"), [rubric, slices, repeats], 5, self._evaluate),
            Task("report", REPORT, ("evaluate", "predict"), told, 2, self._report),
        )

    @cached_property
    def _given_splits(self) -> Sequence[Assignment]:
        """A split of these articles that was made before, if there is one."""
        return self.share.assignments() if self.share else self.splits

    def _split(self, output: Path) -> None:
        write_splits(output, self._given_splits or self._assigned())

    def _assigned(self) -> Sequence[Assignment]:
        ids = [article.id for article in self.labelled.articles]
        groups = near_duplicate_groups(ids, self.labelled.texts)
        assigned = split_by_group(ids, groups, overalls(self.labelled.labels(), self.spec), self.run.seed)
        empty = [name for name in SHARES if all(a.split != name for a in assigned)]
        if empty:
            found = f"{len(ids)} articles in {len(set(groups))} near-duplicate groups"
            raise InputError("--labels", [Problem(f"split {name}", found, "enough for each split") for name in empty])
        return assigned

    @cached_property
    def student_data(self) -> FitData:
        """What the student learns from: the training and validation articles, and other students' scores, if asked.

        Raises:
            InputError: a run to learn from does not suit.
        """
        data, source = self.run.fit_data(), self.distillation
        if source is None:
            return data
        source.check(self.spec, self.run.splits, self.labelled)
        return source.added(data, self.labelled, self.run.folder / "cache" / "distil")

    def _fit(self, output: Path) -> None:
        if self.share:
            self.share.take(output)
        else:
            call_helpers(self.spec, "FIT")
            data = self.student_data
            with Bar("fit", lines=self.spec.student.backend != STATIC) as bar:
                fit_student(self.spec, data, output, self.run.seed, bar)
        self._write_inputs(self.run.student_window(output), output / "inputs.jsonl")

    def _calibrate(self, output: Path) -> None:
        places = self.run.places("val")
        raw = self.run.student_raw(self.labelled.select(places).texts)
        write_calibration(output, self._fit_calibration(raw, places))

    def _probe(self, output: Path) -> None:
        data, run = self.student_data, self.run
        with Bar("probe") as bar:
            embedder = fit_probe(self.spec.cascade.probe, data, output, run.seed, bar, run.embeddings)
        raw = load_head(output / "head.safetensors").predict(run.embeddings(data.val_texts, embedder))
        write_calibration(output / CALIBRATION, self._fit_calibration(raw, run.places("val")))
        self._write_inputs(embedder.window, output / "inputs.jsonl")

    def _certify(self, output: Path) -> None:
        places = self._one_of_each_group(self._admitted(self.run.places("calibration")))
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
        texts = self.run.part("val").texts
        kept = overalls(self.run.student_scores(texts), self.spec) >= self.spec.operating_overall
        return fit_router(self.run.probe_scores(texts), kept, self.spec)

    def _seen(self, texts: Sequence[str], router: Router) -> Drawn:
        """Articles as both models see them: what it cannot read the probe hands on, and the student refuses."""
        chance = chances(self.run.probe_scores(texts), router, self.spec)
        overall = overalls(self.run.student_scores(texts), self.spec)
        by_probe, by_student = self.run.is_unreadable(texts).T
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
        groups = self.run.groups
        first = {groups[i]: i for i in reversed(places)}
        return sorted(first.values())

    def _predict(self, output: Path) -> None:
        write_predictions(output, self.run.predict_test(), self.spec.dimension_names)

    def _evaluate(self, output: Path) -> None:
        write_evaluation(output, assess(self.run, self.run.part("test"), self.run.predictions))

    def _report(self, output: Path) -> None:
        write_text(output, report_page(self.run, learning_curves(self.run), self.run.titles))

    @property
    def _base_model(self) -> str:
        return str(getattr(getattr(self.spec.student, self.spec.student.backend), "base_model", STATIC))

    def _fit_calibration(self, raw: Scores, places: Sequence[int]) -> Calibration:
        groups = self.run.groups
        labels = self.labelled.select(places).labels()
        names = self.spec.dimension_names
        return fit_calibration(raw, labels, [groups[i] for i in places], names, self.run.seed)

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
