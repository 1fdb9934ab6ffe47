"""The chain of a fit: split, fit, calibrate, probe, select, certify, predict, evaluate, report, on one run folder.

In folds, models are first fitted on all folds but one, in turn: what they answer on the fold left out judges,
calibrates, chooses and certifies, and the models that ship are fitted on all articles.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from distillery_runtime.articles.prefilter import Prefilter
from distillery_runtime.bundles.golden import ids_digest
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.safe_write import replacing, write_text
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import overalls
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.certify.certificate import Drawn, Wanted, certificate, found_by
from distillery_trainer.certify.operating_point import choose_selection, selected, write_selection
from distillery_trainer.certify.read_out import HeldOutRaw, fit_read_out, write_read_out
from distillery_trainer.data.articles import Pool, admitted
from distillery_trainer.data.duplicates import near_duplicate_groups, new_texts
from distillery_trainer.data.labels import LabelledSet
from distillery_trainer.data.predictions import Answers, write_predictions
from distillery_trainer.data.split import (
    SHARES,
    SPLIT_VERSION,
    Assignment,
    Round,
    folds_by_group,
    is_fold,
    split_by_group,
    write_splits,
)
from distillery_trainer.evaluate.evaluation import write_evaluation
from distillery_trainer.models.choose import (
    HEADS_ONLY,
    STATIC,
    base_model_of,
    call_helpers,
    content_of,
    fit_student,
    load_student,
)
from distillery_trainer.models.heads import common_plan
from distillery_trainer.models.probe import fit_probe, load_probe
from distillery_trainer.models.protocol import FitData, HeadPlan
from distillery_trainer.runs.assessment import assess, learning_curves, report_page
from distillery_trainer.runs.distil import Distillation
from distillery_trainer.runs.joint import Share
from distillery_trainer.runs.run import (
    CALIBRATION,
    CERTIFICATE,
    EVALUATION,
    HELD_OUT,
    PREDICTIONS,
    PROBE,
    REPORT,
    SELECTION,
    SPLITS,
    STUDENT,
    Run,
)
from distillery_trainer.runs.tasks import Task
from distillery_trainer.store.files import digest, read_json, write_json, write_jsonl
from distillery_trainer.store.progress import Bar


@dataclass(frozen=True)
class Pipeline:
    """One fit, which makes a run: its spec has the overrides applied, its labelled articles are at hand.

    `distillation`: whom the models learn from beside the oracle. `certify_on`: the unlabelled articles that the
    certificate rests on, where it is not the calibration split's. `splits`: a split made before, of the same articles.
    `share`: of the joint training that the student is taken from, where it is not trained here. `folds`: how many, None
    for the four splits.
    """

    run: Run
    distillation: Distillation | None = None
    certify_on: Pool | None = None
    splits: Sequence[Assignment] = ()
    share: Share | None = None
    folds: int | None = None

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
        backend, embedder = self.spec.student.backend, self.spec.cascade.probe.embedder
        student = [backend, spec["student"]["window"], spec["student"][backend], content_of(base_model_of(self.spec))]
        probe = [spec["cascade"]["probe"], content_of(embedder)]
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
        split = [data, weights, spec["gatekeepers"], seed, *([self.folds] if self.folds else []), *given]
        costs = digest([[article.cost_usd, article.link] for article in labelled.articles])
        told = [self.spec.label, self.spec.summary, labelled.oracles, costs, seed, self.run.titles]
        finds = [rubric["tiers"], rubric["operating_tier"], weights, spec["gatekeepers"], spec["oracle"]["step"]]
        lesson = [names, counted, seed, finds, *taught]
        both = [student, probe, *lesson]
        held = [Task("hold_out", HELD_OUT, ("split",), both, 2, self._hold_out)] if self._in_folds else []
        first = ("split", *(task.name for task in held))
        own = [*finds, *distilled]
        after = (*first, "fit") if self._is_student_again else first
        return (
            Task("split", SPLITS, (), split, SPLIT_VERSION, self._split),
            *held,
            Task("fit", STUDENT, first, [student, *lesson], _since_words(5, backend), self._fit),
            Task("calibrate", CALIBRATION, ("fit",), [seed, finds], 4, self._calibrate),
            Task("probe", PROBE, after, [probe, names, counted, seed, *own], _since_words(7, embedder), self._probe),
            Task("select", SELECTION, ("calibrate",), [spec["operating_point"]], 1, self._select),
            Task("certify", CERTIFICATE, ("select", "probe"), certified, 9, self._certify),
            Task("predict", PREDICTIONS, ("select", "probe"), [], 4, self._predict),
            Task("evaluate", EVALUATION, ("certify", "predict"), [rubric, slices, repeats, drawn], 9, self._evaluate),
            Task("report", REPORT, ("evaluate", "predict"), told, 3, self._report),
        )

    @property
    def _in_folds(self) -> bool:
        return bool(self.folds) or any(is_fold(row.split) for row in self._given_splits)

    @cached_property
    def _given_splits(self) -> Sequence[Assignment]:
        """A split of these articles that was made before, if there is one."""
        return self.share.assignments() if self.share else self.splits

    def _split(self, output: Path) -> None:
        write_splits(output, self._given_splits or self._assigned())

    def _assigned(self) -> Sequence[Assignment]:
        ids = [article.id for article in self.labelled.articles]
        groups = near_duplicate_groups(ids, self.labelled.texts)
        overall = overalls(self.labelled.labels(), self.spec)
        if self.folds:
            if (count := len(set(groups))) < 3 * self.folds:  # a round needs groups to learn from and to tune on
                raise InputError("--folds", [Problem(str(self.folds), f"{count} groups of articles", "fewer folds")])
            return folds_by_group(ids, groups, overall, self.folds, self.run.seed)
        assigned = split_by_group(ids, groups, overall, self.run.seed)
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
        if self.share:
            return data
        data = self._as_in_folds(data, STUDENT)
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
            with Bar("fit", lines=self.spec.student.backend not in HEADS_ONLY) as bar:
                fit_student(self.spec, data, output, self.run.seed, bar, self.run.student_embeddings)
        self._write_inputs(self.run.student_window(output), output / "inputs.jsonl")

    def _hold_out(self, output: Path) -> None:
        """Fits both stages on all folds but one, in turn, and keeps their raw outputs on the fold left out."""
        output.mkdir(parents=True, exist_ok=True)
        for fold, round_ in zip(self.run.folds, self.run.rounds(), strict=True):
            if (output / f"{fold}.json").is_file():
                continue  # an interrupted call's
            work = output.parent / fold
            raw: dict[str, NDArray[np.float32]] = {}
            plans: dict[str, object] = {}
            if self.share:
                raw[STUDENT] = self.share.held_out(fold)
            else:
                raw[STUDENT], plans[STUDENT] = self._held_out_by(STUDENT, fold, round_, work)
            if self._is_student_again:
                raw[PROBE], plans[PROBE] = raw[STUDENT], plans[STUDENT]
            else:
                raw[PROBE], plans[PROBE] = self._held_out_by(PROBE, fold, round_, work)
            with replacing(output / f"{fold}.safetensors") as beside:
                save_file({name: np.ascontiguousarray(values) for name, values in raw.items()}, beside)
            write_json(output / f"{fold}.json", plans)
            shutil.rmtree(work)

    def _held_out_by(
        self, stage: str, fold: str, round_: Round, work: Path
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:  # Any: of a JSON object
        """A stage's raw outputs on a fold by a model of the other folds, and how it was fitted.

        A tenth of the other folds' articles chooses how, and then teaches like the rest.
        """
        chosen, whole = work / f"{stage}-choice", work / stage
        self._fit_stage(stage, self.run.fit_data(round_), chosen, f"{fold} {stage}, to choose")
        plan = read_json(chosen / "head.json")
        data = replace(self.run.fit_data(round_.whole()), plan=_plan(plan))
        self._fit_stage(stage, data, whole, f"{fold} {stage}")
        return self._stage_raw(stage, whole, self.labelled.select(round_.test).texts), dict(plan)

    def _fit_stage(self, stage: str, data: FitData, folder: Path, label: str) -> None:
        run, spec = self.run, self.spec
        with Bar(label) as bar:
            if stage == STUDENT:
                fit_student(spec, data, folder, run.seed, bar, run.student_embeddings)
            else:
                fit_probe(spec.cascade.probe, data, folder, run.seed, bar, run.embeddings)

    def _stage_raw(self, stage: str, folder: Path, texts: Sequence[str]) -> NDArray[np.float32]:
        """What a stage's model in a folder says of texts."""
        if stage == STUDENT:
            return self.run.student_raw(load_student(self.spec, folder), texts)
        return self.run.probe_raw(load_probe(self.spec.cascade.probe, folder), texts)

    @property
    def _is_student_again(self) -> bool:
        """Whether probe and student are static models with the same settings, which learn the same."""
        probe, student = self.spec.cascade.probe, self.spec.student
        own = student.static.model_dump() | {"window": student.window}
        alike = own == {name: getattr(probe, name) for name in own}
        return student.backend == STATIC == probe.embedder and self.share is None and alike

    def _as_in_folds(self, data: FitData, stage: str) -> FitData:
        """The data of a model that ships: fitted as the folds' validation articles chose, with a find head as theirs.

        Of a find head that no fold had, with too few finds for one, no held-out article says what it is worth.
        """
        if not self._in_folds:
            return data
        found = [read_json(self.run.folder / HELD_OUT / f"{fold}.json")[stage] for fold in self.run.folds]
        plan = common_plan([_plan(own) for own in found])
        has_find = self.run.held_out(stage).raw.shape[1] > len(self.spec.dimensions)
        return replace(data, plan=plan, find_of=self.run.margins if has_find else None)

    def _calibrate(self, output: Path) -> None:
        write_read_out(output, fit_read_out(self.run.held_out(STUDENT), self.spec, self.run.seed))

    def _select(self, output: Path) -> None:
        run = self.run
        held_out = run.held_out(STUDENT)
        answers = run.folded[1].answers if run.folds else run.read_out(STUDENT).answers(held_out.raw)
        drawn_from = "all labelled articles, out of fold" if run.folds else "the validation split"
        found = choose_selection(answers.chance, run.are_finds(held_out.labels), self.spec.operating_point, drawn_from)
        write_selection(output, found)

    def _probe(self, output: Path) -> None:
        run = self.run
        if self._is_student_again:
            ignored = shutil.ignore_patterns("inputs.jsonl")
            shutil.copytree(run.folder / STUDENT, output, dirs_exist_ok=True, ignore=ignored)
        else:
            self._fit_stage(PROBE, self._as_in_folds(self.student_data, PROBE), output, "probe")
        held_out = run.held_out(PROBE) if run.folds else self._validated(output)
        write_read_out(output / CALIBRATION, fit_read_out(held_out, self.spec, run.seed))
        self._write_inputs(load_probe(self.spec.cascade.probe, output).window, output / "inputs.jsonl")

    def _validated(self, folder: Path) -> HeldOutRaw:
        """The raw outputs of a probe that has no place yet, on the validation articles."""
        places, groups = self.run.places("val"), self.run.groups
        chosen = self.labelled.select(places)
        raw = self._stage_raw(PROBE, folder, chosen.texts)
        return HeldOutRaw(raw, chosen.labels(), [groups[place] for place in places])

    def _certify(self, output: Path) -> None:
        run, asked = self.run, self.spec.cascade
        places = self._one_of_each_group(self._admitted(list(range(len(run.groups))) if run.folds
                                                        else run.places("calibration")))  # fmt: skip
        drawn = self.labelled.select(places)
        held_out = self._folded(places) if run.folds else self._seen(drawn.texts)
        if np.ptp(every := self.labelled.sampling_weights()) > 0:
            held_out = replace(held_out, weights=drawn.sampling_weights(), most=float(every.max()))
        judges = {
            "student": self._seen(self._unlabelled(self.certify_on)) if self.certify_on else held_out,
            "oracle": replace(held_out, finds=run.are_finds(drawn.labels())),
        }
        wanted = Wanted(asked.target_miss_rate, asked.confidence)
        drawn_from = "unlabelled" if self.certify_on else "folds" if run.folds else "calibration"
        record = certificate(judges, wanted, drawn_from)
        threshold = cast(float | None, record["threshold"])  # of a JSON object
        write_json(output, record | {"found": found_by(threshold, held_out, judges["oracle"])})

    def _seen(self, texts: Sequence[str]) -> Drawn:
        """Articles as both models that ship see them."""
        chance = self.run.selection.chance
        selects_from = np.full(len(texts), np.nan if chance is None else chance)
        return self._drawn(texts, self.run.answers(PROBE, texts), self.run.answers(STUDENT, texts), selects_from)

    def _folded(self, places: Sequence[int]) -> Drawn:
        """Labelled articles as the models of the other folds see them."""
        probe, student = self.run.folded
        texts, chosen = self.labelled.select(places).texts, student.selects_from[list(places)]
        return self._drawn(texts, probe.answers.select(places), student.answers.select(places), chosen)

    def _drawn(
        self, texts: Sequence[str], probe: Answers, student: Answers, selects_from: NDArray[np.float64]
    ) -> Drawn:
        """What it cannot read, or would find itself, the probe hands on; what it cannot read the student refuses."""
        by_probe, by_student = self.run.is_unreadable(texts).T
        finds = selected(probe, selects_from, self.spec)
        finds |= overalls(probe.scores, self.spec) >= self.spec.operating_overall
        kept = selected(student, selects_from, self.spec) & ~by_student
        return Drawn(np.where(by_probe | finds, 1.0, probe.chance), kept)

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


def _since_words(version: int, model: str) -> int:
    """A task's version: static models are others since they weigh words, what is kept of the rest is still right."""
    return version + (model == STATIC)


def _plan(head: Mapping[str, Any]) -> HeadPlan:  # Any: of a JSON object
    """How a model was fitted, by its head.json."""
    return HeadPlan(str(head["kind"]), float(head["alpha"]), int(head["epochs"]))
