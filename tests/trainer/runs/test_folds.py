"""A fit in folds: all labels judge and certify out of fold, all labels train what ships, and a kill costs one fold."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.certify.operating_point import curve, selected
from distillery_trainer.data.labels import read_labels
from distillery_trainer.data.split import Round, given_splits
from distillery_trainer.evaluate import baselines, metrics
from distillery_trainer.filters.overrides import apply_overrides
from distillery_trainer.filters.scaffold import init_filter
from distillery_trainer.models import static
from distillery_trainer.models.heads import common_plan
from distillery_trainer.models.protocol import HeadPlan
from distillery_trainer.models.word_weights import WordWeights
from distillery_trainer.report.decisions import cascade_section
from distillery_trainer.runs.assessment import assess, evaluate_on, facts_of
from distillery_trainer.runs.fit import FitRequest, fit
from distillery_trainer.runs.opening import open_run
from distillery_trainer.runs.pipeline import Pipeline
from distillery_trainer.runs.run import Run

ARTICLES, FOLDS = 60, 3
OUTPUTS = ("held_out", "student", "calibration.json", "probe", "selection.json", "certificate.json",
           "predictions.jsonl", "eval.json", "report.html")  # fmt: skip

Articles = Callable[..., list[dict[str, Any]]]


def silent(line: str) -> None:
    """Takes a fit's progress messages and drops them."""


def load_words(folder: Path) -> WordWeights:
    """The word weights of a static model."""
    return WordWeights.load(folder / "words.safetensors")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run's outputs, by its path."""
    inside = [path for name in OUTPUTS for path in (folder / name, *(folder / name).rglob("*"))]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in inside if path.is_file()}


@pytest.fixture(scope="module")
def request_in_folds(
    quick: dict[str, object], articles: Articles, tmp_path_factory: pytest.TempPathFactory
) -> FitRequest:
    """A finished fit of 60 articles, two of them the same news, in three folds."""
    folder = tmp_path_factory.mktemp("folds")
    rows = articles(ARTICLES, seed=1, evidence=4.0)  # every other is a find
    rows[1]["text"] = rows[3]["text"]
    labels = folder / "labels.jsonl"
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILLERY_FILTERS", str(folder / "filters"))
        patch.setattr(metrics, "RESAMPLES", 50)
        request = FitRequest(init_filter("topic"), [labels], quick, run_dir=folder / "run", folds=FOLDS)
        fit(request, silent)
    return request


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "RESAMPLES", 50)  # as in the fit, so that bytes can be compared


@pytest.fixture
def run(request_in_folds: FitRequest) -> Run:
    assert request_in_folds.run_dir
    return open_run(request_in_folds.run_dir)


def test_every_article_is_tested_once_by_models_that_neither_learnt_nor_tuned_on_its_group(run: Run) -> None:
    rounds = run.rounds()

    assert sorted(place for own in rounds for place in own.test) == list(range(ARTICLES))
    for own in rounds:
        assert sorted([*own.train, *own.val, *own.test]) == list(range(ARTICLES))
        groups = [{run.groups[place] for place in part} for part in (own.train, own.val, own.test)]
        assert sum(map(len, groups)) == len(set(run.groups))


def test_the_evaluation_is_on_all_articles_and_says_so(run: Run) -> None:
    sizes = run.evaluation.split_sizes

    assert (sizes.train, sizes.val, sizes.test, sizes.folds) == (ARTICLES, 0, ARTICLES, FOLDS)
    assert {system.n for system in run.evaluation.total.by_name().values()} == {ARTICLES}
    assert run.predictions.ids == [article.id for article in run.articles().articles]


def test_predictions_are_the_folds_own_raw_outputs_read_out_by_the_other_folds(run: Run) -> None:
    raw = np.zeros((ARTICLES, 2))
    for fold, own in zip(run.folds, run.rounds(), strict=True):
        raw[own.test] = load_file(run.folder / "held_out" / f"{fold}.safetensors")["student"][:, :2]

    np.testing.assert_array_equal(run.predictions.student_raw, raw.round(4))
    for own in run.rounds():
        assert len(set(run.predictions.selects_from[own.test].tolist())) == 1


def test_raw_outputs_are_of_models_that_learnt_from_all_other_folds(run: Run, tmp_path: Path) -> None:
    for fold, own in zip(run.folds, run.rounds(), strict=True):
        plan = json.loads((run.folder / "held_out" / f"{fold}.json").read_text())["student"]
        others = sorted({*range(ARTICLES)} - {*own.test})
        data = replace(
            run.fit_data(Round(others, [], own.test)), plan=HeadPlan(plan["kind"], plan["alpha"], plan["epochs"])
        )

        static.fit(run.spec.student.static, run.spec.student.window, data, tmp_path / fold, run.seed, None)

        texts = run.articles().select(own.test).texts
        raw = load_file(run.folder / "held_out" / f"{fold}.safetensors")["student"]
        np.testing.assert_array_equal(static.load(tmp_path / fold, run.spec.student.window).predict(texts), raw)


@pytest.mark.parametrize("name", ["static", "tfidf_ridge"])
def test_baselines_learn_from_all_other_folds_too(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    learnt, fitted = list[set[str]](), getattr(baselines, name)
    monkeypatch.setattr(baselines, name, lambda data, texts: learnt.append({*data.train_texts}) or fitted(data, texts))

    assess(run, run.articles(), run.predictions)

    texts = run.articles().texts
    assert learnt == [{texts[place] for place in (*own.train, *own.val)} for own in run.rounds()]


def test_the_models_that_ship_are_fitted_on_all_articles_as_the_folds_chose(run: Run) -> None:
    for stage in ("probe", "student"):
        folds = [json.loads((run.folder / "held_out" / f"{fold}.json").read_text())[stage] for fold in run.folds]
        shipped = json.loads((run.folder / stage / "head.json").read_text())

        plan = common_plan([HeadPlan(f["kind"], f["alpha"], f["epochs"]) for f in folds])
        assert (shipped["kind"], shipped["alpha"], shipped["epochs"]) == (plan.kind, plan.alpha, plan.epochs)
        assert shipped["val_mae"] == {}
        assert len(load_words(run.folder / stage).bias) == len(run.spec.dimensions) + 1


def test_the_certificate_rests_on_one_article_of_each_group_out_of_fold_and_adds_up(run: Run) -> None:
    found = run.certificate["found"]

    first = sorted({group: place for place, group in reversed(list(enumerate(run.groups)))}.values())
    finds = run.are_finds(run.articles().select(first).labels())
    assert (run.certificate["drawn_from"], run.certificate["articles"]) == ("folds", len(first))
    assert len(first) == ARTICLES - 1
    assert found["positives"] == finds.sum()
    made = run.predictions.select(first)
    assert found["by_student"] == np.sum(finds & selected(made.student, made.selects_from, run.spec))
    assert found["selected"] <= found["by_student"]


def test_the_operating_point_lies_on_the_curve_of_all_articles_out_of_fold(run: Run) -> None:
    made, chosen = run.predictions, run.selection

    assert (chosen.articles, chosen.positives) == (ARTICLES, run.are_finds(made.labels).sum())
    assert chosen.curve == curve(made.student.chance, run.are_finds(made.labels))
    assert chosen.chance in [point.chance for point in chosen.curve]


def test_the_report_does_not_call_labelled_articles_unlabelled(run: Run) -> None:
    page = cascade_section(facts_of(run, (), True))

    assert "without labels" not in page


def test_an_identical_call_makes_nothing_again(request_in_folds: FitRequest) -> None:
    said: list[str] = []

    fit(request_in_folds, said.append)

    assert "hold_out: done before" in said
    assert not [line for line in said if line.endswith(" ...")]


def test_a_fit_that_was_killed_between_two_folds_goes_on_with_the_next_to_the_same_bytes(
    request_in_folds: FitRequest, tmp_path: Path
) -> None:
    done = request_in_folds.run_dir
    assert done
    killed = Path(shutil.copytree(done, tmp_path / "run"))
    key = json.loads((killed / "stages" / "hold_out.json").read_text())["key"]
    for name in OUTPUTS[1:]:
        shutil.rmtree(killed / name) if (killed / name).is_dir() else (killed / name).unlink()
    shutil.rmtree(killed / "stages")
    (killed / "work" / f"hold_out-{key[:16]}").mkdir(parents=True)
    half_done = (killed / "held_out").rename(killed / "work" / f"hold_out-{key[:16]}" / "held_out")
    for suffix in ("json", "safetensors"):
        (half_done / f"fold-2.{suffix}").unlink()
    kept = (half_done / "fold-1.safetensors").stat().st_mtime_ns

    fit(replace(request_in_folds, run_dir=killed), silent)

    assert contents(killed) == contents(done)
    assert (killed / "held_out" / "fold-1.safetensors").stat().st_mtime_ns == kept


def test_unlabelled_articles_certify_the_models_that_ship_while_the_oracle_judges_out_of_fold(
    request_in_folds: FitRequest, articles: Articles, tmp_path: Path
) -> None:
    done = request_in_folds.run_dir
    assert done
    copied = Path(shutil.copytree(done, tmp_path / "run"))
    pool = tmp_path / "pool.jsonl"
    rows = [{k: v for k, v in row.items() if k != "labels"} for row in articles(90, seed=7, evidence=4.0)]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))

    run = open_run(fit(replace(request_in_folds, run_dir=copied, certify_on=[pool]), silent))

    before, after = open_run(done).certificate, run.certificate
    made = run.answers("student", [row["text"] for row in rows])
    chance = run.selection.chance
    assert (after["drawn_from"], after["articles"]) == ("unlabelled", 90)
    assert after["positives"] == selected(made, np.full(90, np.nan if chance is None else chance), run.spec).sum()
    assert after["oracle"] | {"threshold": None} == before["oracle"] | {"threshold": None}
    assert after["found"]["positives"] == before["found"]["positives"]


def test_a_file_of_folds_asks_for_them_as_the_option_does(run: Run) -> None:
    splits = given_splits(run.folder / "splits.jsonl", run.predictions.ids)

    by_file, by_option = (Pipeline(run, **asked).tasks() for asked in ({"splits": splits}, {"folds": FOLDS}))

    assert [task.name for task in by_file] == [task.name for task in by_option]
    assert by_file[1].name == "hold_out"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"folds": 1}, "--folds: 1, expected at least 2"),
        ({"splits": "own"}, "--splits: 3 folds"),
        ({"overrides": {"student.backend": "encoder"}}, "--backend encoder: 3 folds"),
        ({"overrides": {"student.backend": "encoder"}, "splits": "own", "folds": 0}, "--backend encoder: 3 folds"),
        ({"limit": 20, "folds": 21}, "fewer folds"),
        ({"distil_from": "own", "pool": "own"}, "--distil-from: 3 folds"),
        ({"distil_from": "own", "pool": "own", "splits": "own", "folds": 0}, "--distil-from: 3 folds"),
    ],
)
def test_folds_that_cannot_be_had_are_refused(
    request_in_folds: FitRequest, tmp_path: Path, changes: dict[str, Any], found: str
) -> None:
    done = request_in_folds.run_dir
    assert done
    own = {"splits": done / "splits.jsonl", "distil_from": [done], "pool": request_in_folds.labels}
    asked = {name: own[name] if value == "own" else value for name, value in changes.items()}
    request = replace(request_in_folds, run_dir=tmp_path / "run", **asked)

    with pytest.raises(InputError, match=found):
        fit(request, silent)


def test_other_labelled_articles_are_judged_by_the_models_that_ship(
    run: Run, articles: Articles, tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in articles(30, seed=2, evidence=4.0)))

    found = evaluate_on(run, [other])

    assert (found.split_sizes.train, found.split_sizes.test, found.total.student.n) == (ARTICLES, 30, 30)
    assert found.total.student.mae < found.total.constant.mae


def test_none_of_its_own_articles_is_another_one(run: Run, request_in_folds: FitRequest) -> None:
    with pytest.raises(InputError, match=f"{ARTICLES} that the run was made with"):
        evaluate_on(run, request_in_folds.labels)


def test_where_no_fold_had_finds_enough_for_a_find_column_none_is_shipped(
    quick: dict[str, object], spec: FilterSpec, articles: Articles, tmp_path: Path
) -> None:
    rows = articles(ARTICLES, seed=1, evidence=4.0)
    for row in rows[13:]:  # leaves six finds, four for each fold's models, and finds are learnt from five on
        row["labels"]["relevance"] = 2.0
    labels = tmp_path / "labels.jsonl"
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    static = apply_overrides(spec, quick)
    run = Run(tmp_path / "run", static, 0, lambda: read_labels([labels], static))

    for task in Pipeline(run, folds=FOLDS).tasks()[:4]:
        task.make(run.folder / task.output)

    assert task.name == "calibrate"
    assert run.answers("student", ["some words"]).chance.shape == (1,)
    assert len(load_words(run.folder / "student").bias) == len(static.dimensions)
