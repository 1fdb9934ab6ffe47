"""A fit in folds as a bundle: both read-outs, the chance and the selection are served as they were trained."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distillery_runtime
from distillery_exporter.cli import main as exporter
from distillery_runtime.format.manifest import parse_manifest
from distillery_trainer.certify.operating_point import selected
from distillery_trainer.cli.main import main as trainer
from distillery_trainer.runs.opening import open_run
from distillery_trainer.runs.run import Run

PARITY = 1e-4  # graphs add up in another order than numpy
SHOWN = 2.1e-4  # the same, and the last of four decimals; a map to steps rises three times as fast, a chance faster
COUNT = 50


@pytest.fixture(scope="module")
def made(filter_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 50 articles in two folds, a third of them finds, and its bundle, made by the commands."""
    folder, generator = tmp_path_factory.mktemp("folds"), random.Random(5)
    lines = []
    for place in range(COUNT):
        is_find = place % 3 == 0
        words = generator.choices([f"word{i}" for i in range(200)], k=30) + ["solar"] * (4 if is_find else 0)
        labels = {"relevance": 8.0 if is_find else float(generator.choice([0, 0, 1, 3])), "evidence_quality": 5.0}
        language = "nl" if place % 5 else "en"
        article = {"id": f"a{place}", "title": "the", "text": " ".join(words), "labels": labels, "language": language}
        lines.append(json.dumps(article))
    (folder / "labels.jsonl").write_text("\n".join(lines), encoding="utf-8")
    arguments = ["fit", "--filter", str(filter_folder), "--labels", str(folder / "labels.jsonl"), "--backend", "static",
                 "--folds", "2", "--epochs", "2", "--set", "cascade.probe.training.epochs=2",
                 "--set", "cascade.target_miss_rate=0.5"]  # fmt: skip
    assert trainer([*arguments, "--run-dir", str(folder / "run")]) == 0
    assert exporter(["build", str(folder / "run"), "--out", str(folder / "bundle")]) == 0
    return folder


@pytest.fixture(scope="module")
def run(made: Path) -> Run:
    return open_run(made / "run")


@pytest.fixture(scope="module")
def scorer(made: Path) -> distillery_runtime.HybridScorer:
    return distillery_runtime.load(made / "bundle")


def test_each_graphs_raw_output_ends_in_the_logit_of_the_trained_find_head(
    run: Run, scorer: distillery_runtime.HybridScorer
) -> None:
    texts = run.articles().texts
    for stage in scorer.stages:
        served, trained = stage.run(stage.window.encode(texts)), run.raw(stage.name, texts)

        assert served.raw.shape == trained.shape == (COUNT, 3)
        np.testing.assert_allclose(served.raw, trained, atol=PARITY)
        assert np.ptp(trained[:, 2]) > 0.1


def test_results_are_the_read_outs_the_chance_and_the_selection_of_the_run(
    run: Run, made: Path, scorer: distillery_runtime.HybridScorer
) -> None:
    records = [json.loads(line) for line in (made / "labels.jsonl").read_text(encoding="utf-8").splitlines()]

    results = list(scorer.score_batch(records))

    stages = {name: run.answers(name, run.articles().texts) for name in ("probe", "student")}
    assert {result.stage for result in results} == {"probe", "student"}
    for place, result in enumerate(results):
        own = stages[str(result.stage)]
        assert list((result.expected or {}).values()) == pytest.approx(own.expected[place].tolist(), abs=SHOWN)
        assert list((result.scores or {}).values()) == pytest.approx(own.scores[place].tolist(), abs=3 * SHOWN)
        assert result.chance == pytest.approx(own.chance[place], abs=5 * SHOWN)
        assert result.selected == (result.chance >= run.selection.chance)
        assert result.selected_from == run.selection.chance


def test_the_bundle_keeps_the_runs_operating_point_and_moves_it_on_its_curve(run: Run, made: Path) -> None:
    manifest = parse_manifest((made / "bundle" / "bundle.json").read_bytes(), "bundle")

    assert manifest.format_version == 2
    assert manifest.selection == run.selection
    moved = distillery_runtime.load(made / "bundle", select="min_recall=1").selection
    assert moved is not None
    assert moved.chance == run.selection.curve[0].chance


def test_the_reference_says_what_results_look_like_out_of_fold(run: Run, made: Path) -> None:
    reference: dict[str, Any] = json.loads((made / "bundle" / "reference.json").read_text(encoding="utf-8"))

    predictions = run.predictions
    chosen = selected(predictions.student, predictions.selects_from, run.spec)
    assert (reference["schema_version"], reference["articles"]) == (2, COUNT)
    assert reference["selected"] == pytest.approx(chosen.mean(), abs=1e-6)
    histograms = [reference[name] for name in ("overall", "expected_overall", "chance", "unread", "tokens")]
    assert {sum(counts) for counts in (*histograms, *reference["dimensions"].values())} == {COUNT}
    assert reference["languages"] == {"en": 0.2, "nl": 0.8}
    assert sum(reference["tiers"].values()) == pytest.approx(1, abs=1e-5)
    assert [len(counts) for counts in histograms[:4]] == [20] * 4
