"""Two frozen students on one encoder: their bundles hold the same graph, and a panel runs it once for an article."""

import json
from pathlib import Path

import numpy as np
import pytest

import distillery_runtime
from distillery_exporter.cli import main as exporter
from distillery_trainer.cli.main import main as trainer

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def bundles(
    labels: Path, filter_folder: Path, encoder_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """The bundles of two runs, the second on half of the labels."""
    folder = tmp_path_factory.mktemp("frozen")
    for name, limit in (("all", []), ("half", ["--limit", "40"])):
        arguments = ["fit", "--filter", str(filter_folder), "--labels", str(labels), *limit, "--backend", "frozen"]
        arguments += ["--embedder", str(encoder_base), "--max-tokens", "40", "--epochs", "2"]
        arguments += ["--set", "student.frozen.layers=[1, 2]", "--set", "cascade.probe.training.epochs=2"]
        assert trainer([*arguments, "--run-dir", str(folder / name)]) == 0
        bundle = folder / f"{name}-bundle"
        assert exporter(["build", str(folder / name), "--out", str(bundle), "--variants", "cpu-fp32"]) == 0
    return [folder / "all-bundle", folder / "half-bundle"]


@pytest.mark.slow  # two fits and two builds
def test_the_encoders_are_the_same_file_and_the_heads_are_not(bundles: list[Path]) -> None:
    for part, are_equal in (("encoder", True), ("head", False)):
        first, second = ((bundle / "student" / f"cpu-fp32-{part}.onnx").read_bytes() for bundle in bundles)

        assert (first == second) is are_equal


@pytest.mark.slow
def test_a_panel_on_one_encoder_gives_what_each_bundle_gives(bundles: list[Path], labels: Path) -> None:
    articles = [json.loads(line) for line in labels.read_text(encoding="utf-8").splitlines()[:12]]
    panel = distillery_runtime.load_panel(bundles)

    rows = panel.score_batch(articles)

    for place, bundle in enumerate(bundles):
        alone = distillery_runtime.load(bundle).score_batch(articles)
        expected = [list((score.scores or {}).values()) for score in alone]
        found = [list((row[place].scores or {}).values()) for row in rows]
        np.testing.assert_allclose(found, expected, atol=1e-4)
