"""`trainer fit --joint --backend frozen`: runs and bundles whose heads learned together on one frozen encoder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from distillery_exporter.cli import main as exporter
from distillery_runtime import load, load_panel
from distillery_runtime.scoring.timings import Timings
from distillery_trainer.cli.main import main as trainer
from distillery_trainer.filters.scaffold import CONFIG
from distillery_trainer.runs.opening import open_run

pytest.importorskip("torch")

NAMES = ("tiny-1", "turned-1")
pytestmark = pytest.mark.slow  # a fit of two filters in folds, and two builds


@pytest.fixture(scope="module")
def arguments(
    labels: Path, filter_folder: Path, encoder_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """The command that fits `tiny`, and `turned`, which asks the same questions the other way round."""
    folder = tmp_path_factory.mktemp("joint-heads")
    turned = Path(shutil.copytree(filter_folder, folder / "turned"))
    (turned / "config.yaml").write_text(CONFIG.format(name="turned"), encoding="utf-8")
    rows = [json.loads(line) for line in labels.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        relevance, quality = row["labels"].values()
        row["labels"] = {"relevance": quality, "evidence_quality": relevance}
    (folder / "turned.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return ["fit", "--joint", "--filter", str(filter_folder), "--filter", str(turned), "--backend", "frozen",
            "--labels", f"{filter_folder}={labels}", f"{turned}={folder / 'turned.jsonl'}", "--folds", "2",
            "--embedder", str(encoder_base), "--set", "student.frozen.layers=[1, 2]",
            "--set", "student.frozen.pooling=mean_max", "--set", "gatekeepers=[]", "--max-tokens", "40",
            "--set", "cascade.probe.training.epochs=2", "--run-dir", str(folder / "runs")]  # fmt: skip


@pytest.fixture(scope="module")
def made(arguments: list[str]) -> Path:
    """A folder with `runs` and a bundle of each filter."""
    assert trainer(arguments) == 0
    folder = Path(arguments[-1]).parent
    for name in NAMES:
        build = ["build", str(folder / "runs" / name), "--out", str(folder / "bundles" / name)]
        assert exporter([*build, "--variants", "cpu-fp32,cpu-int8"]) == 0
    return folder


def test_each_run_is_judged_by_its_own_part_of_what_the_folds_held_out(made: Path) -> None:
    for name in NAMES:
        run = open_run(made / "runs" / name)
        raw = run.held_out("student").raw

        assert run.folds == ("fold-0", "fold-1")
        assert raw.shape == (60, 3)
        for fold, own in zip(run.folds, run.rounds(), strict=True):
            kept = load_file(made / "runs" / "joint" / "held_out" / f"{fold}.safetensors")[name]
            assert np.array_equal(raw[own.test], kept)
        assert run.evaluation.total.student.mae < run.evaluation.total.constant.mae
        assert run.manifest["joint"]["filters"] == list(NAMES)


@pytest.mark.usefixtures("made")
def test_the_same_command_finds_everything_done(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert trainer(arguments) == 0

    said = capsys.readouterr().err
    assert (
        said.count("hold_out: done before") == said.count("fit: done before") == 3
    )  # of the joint training and each run
    assert "..." not in said


def test_the_bundles_differ_in_their_heads_alone(made: Path) -> None:
    for variant in ("cpu-fp32", "cpu-int8"):
        one, two = (
            {path.name: path.read_bytes() for path in (made / "bundles" / name / "student").glob(f"{variant}*")}
            for name in NAMES
        )

        assert one.keys() == two.keys()
        assert [name for name in one if one[name] != two[name]] in ([f"{variant}-head.onnx"], [])


def test_a_panel_passes_an_article_once_and_gives_what_each_scorer_gives(made: Path, labels: Path) -> None:
    articles = [json.loads(line) for line in labels.read_text(encoding="utf-8").splitlines()]
    timings = Timings()

    together = load_panel([made / "bundles" / name for name in NAMES], threads=1).score_batch(articles, timings=timings)

    alone = [load(made / "bundles" / name, threads=1).score_batch(articles) for name in NAMES]
    asked = sum(any(score.stage == "student" for score in scores) for scores in together)
    assert timings.steps["student model"].articles == asked > 0
    for scores, expected in zip(together, zip(*alone, strict=True), strict=True):
        for found, own in zip(scores, expected, strict=True):
            assert (found.stage, found.tier, found.selected) == (own.stage, own.tier, own.selected)
            assert found.scores == pytest.approx(own.scores, abs=0.011)
