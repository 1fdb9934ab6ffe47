"""Fit, build, score: the whole path on the filter's own examples, with neither torch nor a download."""

import json
from pathlib import Path

import numpy as np
import pytest

import distillery_runtime
from distillery_exporter.cli import main as exporter
from distillery_exporter.share import share
from distillery_runtime import InputError
from distillery_runtime.articles.text import compose
from distillery_runtime.bundles.golden import ids_digest
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.cli.main import main as trainer
from distillery_trainer.data.labels import read_labels


@pytest.fixture(scope="module")
def made(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run and its bundle, made by the commands."""
    folder = tmp_path_factory.mktemp("made")
    filter_folder = repository / "filters" / "sustainability_technology" / "v3"
    labels = [str(path) for path in sorted((filter_folder / "examples").glob("*.jsonl"))]
    arguments = ["fit", "--filter", str(filter_folder), "--labels", *labels, "--backend", "static",
                 "--folds", "0"]  # fmt: skip  # served scores are those of the evaluation where one model gives both
    settings = ["cascade.target_miss_rate=0.3", "cascade.probe.training.epochs=5", "student.static.training.epochs=10"]
    arguments += [part for setting in settings for part in ("--set", setting)]
    assert trainer([*arguments, "--run-dir", str(folder / "run")]) == 0
    assert exporter(["build", str(folder / "run"), "--out", str(folder / "bundle")]) == 0
    return folder / "run", folder / "bundle"


@pytest.fixture(scope="module")
def scorer(made: tuple[Path, Path]) -> distillery_runtime.HybridScorer:
    return distillery_runtime.load(made[1])


def test_the_student_beats_the_constant_on_held_out_examples(made: tuple[Path, Path]) -> None:
    evaluation = json.loads((made[0] / "eval.json").read_text(encoding="utf-8"))["parts"]["total"]

    assert evaluation["student"]["mae"] < 0.97 * evaluation["constant"]["mae"]


def test_a_static_stage_is_one_graph_whose_tokenizer_bundles_can_share(made: tuple[Path, Path], tmp_path: Path) -> None:
    (shared,) = share([made[1]], tmp_path / "set")

    names = {path for stage in shared.manifest.stages for path in stage.variants[0].graphs}
    assert names == {"probe/cpu-fp32.onnx", "student/cpu-fp32.onnx"}
    assert {"probe/tokenizer.json", "student/tokenizer.json"} <= set(shared.files.shared)


def test_the_bundle_makes_the_ids_that_training_used(
    made: tuple[Path, Path], scorer: distillery_runtime.HybridScorer, repository: Path
) -> None:
    files = sorted((repository / "filters/sustainability_technology/v3/examples").glob("*.jsonl"))
    texts = read_labels(files, scorer.spec).texts
    for stage in scorer.stages:
        lines = (made[0] / stage.name / "inputs.jsonl").read_text(encoding="utf-8").splitlines()

        served = [ids_digest(row.ids) for row in stage.window.encode(texts)]

        assert served == [json.loads(line)["ids_sha256"] for line in lines]


def test_served_scores_are_those_of_the_evaluation(
    made: tuple[Path, Path], scorer: distillery_runtime.HybridScorer, repository: Path
) -> None:
    """The cascade's MAE on the test articles, scored by the bundle, is the one in eval.json."""
    splits = [json.loads(line) for line in (made[0] / "splits.jsonl").read_text(encoding="utf-8").splitlines()]
    test = {row["id"] for row in splits if row["split"] == "test"}
    files = sorted((repository / "filters/sustainability_technology/v3/examples").glob("*.jsonl"))
    records = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    held_out = [record for record in records if record["id"] in test]
    unfiltered = distillery_runtime.HybridScorer(
        scorer.spec.model_copy(update={"prefilter": ()}), scorer.stages, scorer.bundle, scorer.selection
    )

    scores = np.array([list((s.scores or {}).values()) for s in unfiltered.score_batch(held_out)])

    labels = np.array([[record["labels"][name] for name in scorer.spec.dimension_names] for record in held_out])
    expected = json.loads((made[0] / "eval.json").read_text(encoding="utf-8"))["parts"]["total"]["cascade"]
    assert np.abs(scores - labels).mean() == pytest.approx(expected["mae"], abs=1e-4)
    overall_mae = np.abs(overalls(scores, scorer.spec) - overalls(labels, scorer.spec)).mean()
    assert overall_mae == pytest.approx(expected["overall"]["mae"], abs=1e-4)


def test_building_twice_gives_the_same_bundle(made: tuple[Path, Path], tmp_path: Path) -> None:
    assert exporter(["build", str(made[0]), "--out", str(tmp_path / "again")]) == 0

    assert (tmp_path / "again" / "bundle.json").read_bytes() == (made[1] / "bundle.json").read_bytes()


def test_a_bundle_replaces_a_bundle_but_nothing_else(made: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep", encoding="utf-8")

    assert exporter(["build", str(made[0]), "--out", str(tmp_path / "mine")]) == 2

    assert (tmp_path / "mine" / "thesis.txt").read_text(encoding="utf-8") == "keep"


def test_an_unfinished_run_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    from distillery_exporter.build import whole_run

    with pytest.raises(InputError, match=r"eval\.json"):
        whole_run(tmp_path)


def test_the_bundle_names_no_path_of_this_machine(made: tuple[Path, Path], repository: Path) -> None:
    for path in made[1].rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(repository).encode() not in content
            assert str(made[0]).encode() not in content


def test_the_prefilter_blocks_and_explains(scorer: distillery_runtime.HybridScorer) -> None:
    score = scorer.score({"id": "1", "title": "Best deals of Black Friday", "text": "Televisions for everyone."})

    assert (score.status, score.reason) == ("blocked", "prefilter rule shopping_deal")


def test_a_result_counts_the_tokens_of_the_composed_text(scorer: distillery_runtime.HybridScorer) -> None:
    article = distillery_runtime.Article("1", "Heat network", "It runs.")

    score = scorer.score(article)

    stage = next(stage for stage in scorer.stages if stage.name == score.stage)
    assert score.tokens == len(stage.window.encode([compose(article, scorer.spec.text).joined])[0].ids)
