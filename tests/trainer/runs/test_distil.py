"""`trainer fit --distil-from`: what a student learns from another run's scores, and which runs are refused."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.data.articles import read_pool
from distillery_trainer.data.labels import LabelledSet, read_labels
from distillery_trainer.filters.scaffold import init_filter
from distillery_trainer.runs.assessment import evaluate_on
from distillery_trainer.runs.distil import Distillation
from distillery_trainer.runs.fit import FitRequest, fit
from distillery_trainer.runs.opening import open_run
from distillery_trainer.runs.pipeline import Pipeline
from distillery_trainer.runs.run import Run
from distillery_trainer.runs.tasks import task_keys

QUICK: dict[str, object] = {
    "student.backend": "static",
    "student.static.training.epochs": 20,
    "cascade.probe.embedder": "static",
    "cascade.probe.training.epochs": 2,
    "cascade.probe.hidden": [4],
}

ROUNDING = 6e-5  # answers have four decimals, targets have not

Articles = Callable[..., list[dict[str, Any]]]
Write = Callable[[str, Sequence[Mapping[str, object]]], Path]


def silent(line: str) -> None:
    """Takes a fit's progress messages and drops them."""


@pytest.fixture(scope="module")
def source(articles: Articles, tmp_path_factory: pytest.TempPathFactory) -> FitRequest:
    """A finished run of 60 articles, about `solar` or not, to learn from."""
    folder = tmp_path_factory.mktemp("source")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILLERY_FILTERS", str(folder / "filters"))
        filter_folder = init_filter("topic")
    labels = folder / "labels.jsonl"
    labels.write_text("".join(json.dumps(row) + "\n" for row in articles(60, seed=1)))
    request = FitRequest(filter_folder, [labels], QUICK, run_dir=folder / "run")
    fit(request, silent)
    return request


def pool_file(folder: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Articles as a pool: their labels left out."""
    path = folder / "pool.jsonl"
    path.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "labels"}) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def distilled(articles: Articles, source: FitRequest, tmp_path_factory: pytest.TempPathFactory) -> FitRequest:
    """A finished run on the same labels that also learnt from the source's scores on 40 other articles."""
    folder = tmp_path_factory.mktemp("distilled")
    pool = pool_file(folder, articles(40, seed=2))
    request = FitRequest(source.filter_folder, source.labels, QUICK, run_dir=folder / "run",
                         distil_from=[source.run_dir], pool=[pool], distil_weight=0.25)  # fmt: skip
    fit(request, silent)
    return request


def pipeline_of(request: FitRequest, spec: FilterSpec) -> Pipeline:
    """A pipeline for a request's labels and sources, in the run folder where its split is."""
    source = Distillation(request.distil_from, read_pool(request.pool, spec.text), request.distil_weight)
    return Pipeline(Run(request.run_dir, spec, request.seed, lambda: read_labels(request.labels, spec)), source)


@pytest.fixture
def static_spec(spec: FilterSpec) -> FilterSpec:
    """The filter that `trainer init` writes, with a static student."""
    return spec.model_copy(update={"student": spec.student.model_copy(update={"backend": "static"})})


def test_the_student_learns_from_the_pools_articles_after_the_labelled_ones(
    distilled: FitRequest, static_spec: FilterSpec
) -> None:
    pipeline = pipeline_of(distilled, static_spec)

    data, labelled = pipeline.student_data, pipeline.run.fit_data()

    assert data.train_texts[: len(labelled.train_texts)] == labelled.train_texts
    assert len(data.train_texts) == len(labelled.train_texts) + 40
    np.testing.assert_array_equal(data.val_labels, labelled.val_labels)


def test_its_scores_are_the_sources_calibrated_ones(
    articles: Articles, distilled: FitRequest, source: FitRequest, static_spec: FilterSpec, write_rows: Write
) -> None:
    with_labels = read_labels([write_rows("labelled-pool.jsonl", articles(40, seed=2))], static_spec)
    source_run = open_run(source.run_dir)

    data = pipeline_of(distilled, static_spec).student_data

    means = source_run.answers("student", with_labels.texts).expected
    np.testing.assert_allclose(data.train_labels[-40:], means, atol=ROUNDING)


def test_such_a_score_counts_its_weight_against_a_labels_one(distilled: FitRequest, static_spec: FilterSpec) -> None:
    weights = pipeline_of(distilled, static_spec).student_data.train_weights

    assert weights is not None
    assert set(weights[:-40].ravel()) == {1.25}
    assert set(weights[-40:].ravel()) == {0.25}


def test_a_labelled_articles_target_lies_between_label_and_score_by_their_weights(
    distilled: FitRequest, source: FitRequest, static_spec: FilterSpec
) -> None:
    pipeline = pipeline_of(distilled, static_spec)
    data, labelled = pipeline.student_data, pipeline.run.fit_data()
    source_run = open_run(source.run_dir)

    scores = source_run.answers("student", labelled.train_texts).expected

    expected = (labelled.train_labels + 0.25 * scores) / 1.25
    np.testing.assert_allclose(data.train_labels[:-40], expected, atol=ROUNDING)


def test_scores_of_a_pool_teach_what_too_few_labels_do_not(
    articles: Articles, source: FitRequest, tmp_path: Path
) -> None:
    labels = tmp_path / "few.jsonl"
    labels.write_text("".join(json.dumps(row) + "\n" for row in articles(60, seed=3)))
    few = {"student.static.training.epochs": 1}
    alone = FitRequest(source.filter_folder, [labels], QUICK | few, limit=20, run_dir=tmp_path / "alone")
    pool = pool_file(tmp_path, articles(400, seed=4))
    taught = FitRequest(source.filter_folder, [labels], QUICK | few, limit=20, run_dir=tmp_path / "taught",
                        distil_from=[source.run_dir], pool=[pool], distil_weight=1.0)  # fmt: skip

    errors = [json.loads((fit(r, silent) / "eval.json").read_text())["parts"]["total"]["student"]["rmse"]
              for r in (alone, taught)]  # fmt: skip

    assert errors[1] < errors[0]


def test_a_pool_of_near_duplicates_alone_is_an_error(articles: Articles, source: FitRequest, tmp_path: Path) -> None:
    pool = pool_file(tmp_path, articles(60, seed=1))
    request = FitRequest(source.filter_folder, source.labels, QUICK, run_dir=tmp_path / "run",
                         distil_from=[source.run_dir], pool=[pool])  # fmt: skip

    with pytest.raises(InputError, match="all 60 articles are near-duplicates of labelled ones"):
        fit(request, silent)


def test_a_source_that_was_trained_on_test_articles_of_this_fit_is_refused(
    source: FitRequest, distilled: FitRequest, tmp_path: Path
) -> None:
    other_split = FitRequest(source.filter_folder, source.labels, QUICK, seed=5, run_dir=tmp_path / "other",
                             distil_from=distilled.distil_from, pool=distilled.pool)  # fmt: skip

    with pytest.raises(InputError, match=r"run: train: \d+ articles that are held out here"):
        fit(other_split, silent)


def test_so_is_one_that_knows_these_articles_under_other_ids(
    articles: Articles, source: FitRequest, distilled: FitRequest, tmp_path: Path
) -> None:
    labels = tmp_path / "renamed.jsonl"
    rows = [row | {"id": f"again-{row['id']}"} for row in articles(60, seed=1)]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    renamed = FitRequest(source.filter_folder, [labels], QUICK, seed=5, run_dir=tmp_path / "renamed",
                         distil_from=distilled.distil_from, pool=distilled.pool)  # fmt: skip

    with pytest.raises(InputError, match=r"run: near-duplicates: \d+ articles that are held out here"):
        fit(renamed, silent)


def test_a_folder_that_is_no_finished_run_is_refused(distilled: FitRequest, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    request = FitRequest(distilled.filter_folder, distilled.labels, QUICK, run_dir=tmp_path / "run",
                         distil_from=[tmp_path / "empty"], pool=distilled.pool)  # fmt: skip

    with pytest.raises(InputError, match=r"empty: manifest\.json: missing"):
        fit(request, silent)


def test_a_source_of_other_dimensions_is_refused(
    source: FitRequest, distilled: FitRequest, static_spec: FilterSpec, tmp_path: Path
) -> None:
    first = static_spec.dimensions[0].model_copy(update={"name": "novelty"})
    other = static_spec.model_copy(update={"dimensions": (first, *static_spec.dimensions[1:])})
    pool = read_pool(distilled.pool, static_spec.text)

    with pytest.raises(InputError, match="dimensions: relevance, evidence_quality, expected novelty, evidence_quality"):
        Distillation([source.run_dir], pool, 1.0).check(other, {}, LabelledSet(()))


@pytest.mark.parametrize(("given", "found"), [("distil_from", "--distil-from alone"), ("pool", "--pool alone")])
def test_one_of_the_two_options_alone_is_an_error(
    distilled: FitRequest, tmp_path: Path, given: str, found: str
) -> None:
    one: dict[str, Any] = {given: getattr(distilled, given)}
    request = FitRequest(distilled.filter_folder, distilled.labels, QUICK, run_dir=tmp_path, **one)

    with pytest.raises(InputError, match=found):
        fit(request, silent)


def test_the_manifest_names_the_sources_and_the_pool(distilled: FitRequest) -> None:
    manifest = json.loads((distilled.run_dir / "manifest.json").read_text())

    assert [run["run"] for run in manifest["distil_from"]] == ["run"]
    assert [(pool["name"], manifest["distil_weight"]) for pool in manifest["pool"]] == [("pool.jsonl", 0.25)]


def test_what_it_learnt_from_without_labels_is_no_test_of_it(
    articles: Articles, distilled: FitRequest, tmp_path: Path
) -> None:
    run = open_run(distilled.run_dir)
    labels = tmp_path / "other.jsonl"
    labels.write_text("".join(json.dumps(row | {"id": f"x{row['id']}"}) + "\n" for row in articles(40, seed=2)))

    with pytest.raises(InputError, match="40 that the run was made with, or near-duplicates of such"):
        evaluate_on(run, [labels])

    gone = distilled.pool[0].rename(tmp_path / "pool.jsonl")
    with pytest.raises(InputError, match="gone or changed"):
        evaluate_on(run, [labels])
    gone.rename(distilled.pool[0])


def test_another_weight_makes_all_but_the_split_again(distilled: FitRequest, static_spec: FilterSpec) -> None:
    pipeline = pipeline_of(distilled, static_spec)
    heavier = Distillation(distilled.distil_from, read_pool(distilled.pool, static_spec.text), 0.5)

    before = task_keys(pipeline.tasks())
    after = task_keys(Pipeline(pipeline.run, heavier).tasks())

    assert [name for name in before if before[name] == after[name]] == ["split"]
