"""`exporter build --variants`: what keeps the scores is shipped, what does not is left out with the reason."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto
from safetensors.numpy import load_file, save_file

from distillery_exporter.cli import main as exporter
from distillery_exporter.graphs.builder import GraphBuilder
from distillery_exporter.graphs.precision import Plain, Rows, Weights, quantise_rows
from distillery_exporter.variants import models
from distillery_exporter.variants.acceptance import Comparison, objections
from distillery_runtime import load
from distillery_runtime.cli.main import main as distillery
from distillery_runtime.format.manifest import parse_manifest
from distillery_trainer.cli.main import main as trainer

pytest.importorskip("torch")

Fit = Callable[[Path], Path]


class StockInt8(Plain):
    """What the usual tools write: one scale for all rows of a batch, one for all columns of a weight."""

    def products(self, g: GraphBuilder, site: str, rows: Rows, weights: Sequence[Weights]) -> list[str]:
        values, scale, zero = g.multi("DynamicQuantizeLinear", [rows.tensor], ["values", "scale", "zero"])
        return [self._product(g, values, scale, zero, weight) for weight in weights]

    def _product(self, g: GraphBuilder, values: str, scale: str, zero: str, weight: Weights) -> str:
        integers, step = quantise_rows(weight.reshape(1, -1), 127)
        flat = g.init(integers.reshape(weight.shape).T)
        product = g.op("MatMulInteger", [values, flat, zero, g.init(np.array(0, dtype=np.int8))])
        whole = g.op("Mul", [g.op("Cast", [product], to=TensorProto.FLOAT), scale])
        return g.op("Mul", [whole, g.floats(float(step[0, 0]))])


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory, labels: Path, filter_folder: Path, encoder_base: Path) -> Fit:
    """Fits a tiny encoder student, given its base, behind a frozen encoder."""

    def fitted(base: Path) -> Path:
        folder = tmp_path_factory.mktemp("fitted") / "run"
        code = trainer(
            ["fit", "--filter", str(filter_folder), "--labels", str(labels), "--backend", "encoder",
             "--base-model", str(base), "--embedder", str(encoder_base), "--max-tokens", "40", "--epochs", "3",
             "--set", "student.encoder.training.batch_tokens=256",
             "--set", "student.encoder.training.learning_rate=0.003",
             "--set", "cascade.target_miss_rate=0.8", "--run-dir", str(folder)]
        )  # fmt: skip
        assert code == 0
        return folder

    return fitted


@pytest.fixture(scope="module")
def run(fit: Fit, encoder_base: Path) -> Path:
    return fit(encoder_base)


@pytest.fixture(scope="module")
def run_with_outliers(fit: Fit, encoder_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student whose layers matter, with much larger values in two channels, as real models have them."""
    folder = Path(shutil.copytree(encoder_base, tmp_path_factory.mktemp("outliers") / "encoder"))
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if "encoder.layer" in name and name.endswith(("query.weight", "key.weight", "value.weight", "dense.weight")):
            tensor *= 10
        if "attention.self.value" in name:
            tensor[:2] *= 1000
        elif "attention.output.dense.weight" in name:
            tensor[:, :2] /= 1000
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return fit(folder)


def build(run: Path, out: Path, variants: str) -> Any:  # Any: nested JSON of known shape
    """Builds a bundle and gives its quality.json."""
    assert exporter(["build", str(run), "--out", str(out), "--variants", variants]) == 0
    return json.loads((out / "quality.json").read_text(encoding="utf-8"))


def variants_of(bundle: Path) -> list[list[str]]:
    manifest = parse_manifest((bundle / "bundle.json").read_bytes(), str(bundle))
    return [[variant.name for variant in stage.variants] for stage in manifest.stages]


def test_int8_is_shipped_beside_fp32_with_what_the_gate_found(run: Path, tmp_path: Path) -> None:
    quality = build(run, tmp_path / "bundle", "cpu-fp32,cpu-int8")

    stages = quality["variants"]["cpu-int8"]["stages"]
    assert list(stages) == ["probe", "student"]
    assert all(objections(Comparison(**stage["gate"])) == [] for stage in stages.values())
    assert all(stage["gate"]["articles"] > stage["gate_test"]["articles"] > 0 for stage in stages.values())
    assert variants_of(tmp_path / "bundle") == [["cpu-fp32", "cpu-int8"]] * 2


@pytest.mark.usefixtures("no_child")
def test_fp32_stays_behind_where_it_was_not_asked_for_and_int8_passed(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"

    assert exporter(["build", str(run), "--out", str(out), "--variants", "cpu-int8"]) == 0

    quality = json.loads((out / "quality.json").read_text(encoding="utf-8"))["variants"]
    assert variants_of(out) == [["cpu-int8"]] * 2
    assert not list(out.glob("*/cpu-fp32*"))
    assert {name: entry["stages"]["student"]["shipped"] for name, entry in quality.items()} == {
        "cpu-fp32": False, "cpu-int8": True
    }  # fmt: skip
    assert distillery(["verify", str(out)]) == 0
    assert "| cpu-fp32 |" not in (out / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_child")
def test_each_variant_scores_with_the_calibration_that_was_refitted_for_it(run: Path, tmp_path: Path) -> None:
    build(run, tmp_path / "bundle", "cpu-fp32,cpu-int8")
    maps = json.loads((tmp_path / "bundle" / "calibration.json").read_text(encoding="utf-8"))["stages"]["student"]
    article = {"id": "1", "text": "river wind tree city"}

    scores = {name: load(tmp_path / "bundle", variant=name).score(article) for name in maps}

    assert maps["cpu-fp32"] != maps["cpu-int8"]
    assert all(score.status == "scored" for score in scores.values())
    assert distillery(["verify", str(tmp_path / "bundle")]) == 0


@pytest.mark.usefixtures("no_child")
def test_stock_per_tensor_int8_is_refused_and_the_bundle_is_complete_without_it(
    run_with_outliers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(models.ROUNDED, "cpu-int8", lambda grams: StockInt8(fused=False))  # type: ignore[arg-type]  # a dict, shown read-only

    quality = build(run_with_outliers, tmp_path / "bundle", "cpu-int8")

    refused = [entry for entry in quality["refused"] if entry["stage"] == "student"]
    assert [entry["variant"] for entry in refused] == ["cpu-int8"]
    assert refused[0]["reasons"] == objections(Comparison(**refused[0]["gate"])) != []
    assert "student cpu-int8: left out: " + "; ".join(refused[0]["reasons"]) in capsys.readouterr().err
    assert variants_of(tmp_path / "bundle")[1] == ["cpu-fp32"]
    assert not list((tmp_path / "bundle" / "student").glob("cpu-int8*"))
    assert distillery(["verify", str(tmp_path / "bundle")]) == 0


def test_a_variant_for_hardware_that_is_not_here_is_left_out_and_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")

    quality = build(run, tmp_path / "bundle", "cuda-fp16,cuda-bf16")

    assert len(quality["refused"]) == 4
    assert all("cannot be tried here" in entry["reasons"][0] for entry in quality["refused"])
    assert "student cuda-fp16: left out: cannot be tried here" in capsys.readouterr().err


def test_without_the_labels_nothing_is_tried_and_the_bundle_is_fp32(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    gone = [entry | {"path": str(tmp_path / "gone.jsonl")} for entry in manifest["labels"]]
    (copy / "manifest.json").write_text(json.dumps(manifest | {"labels": gone}), encoding="utf-8")

    quality = build(copy, tmp_path / "bundle", "cpu-int8")

    assert ["labels files are gone" in entry["reasons"][0] for entry in quality["refused"]] == [True, True]
    assert variants_of(tmp_path / "bundle") == [["cpu-fp32"]] * 2


def test_an_unknown_variant_is_refused_before_anything_is_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = exporter(["build", str(run), "--out", str(tmp_path / "bundle"), "--variants", "cpu-fp32,int8"])

    assert code == 2
    assert "int8" in (message := capsys.readouterr().err)
    assert "cpu-int8" in message
    assert not (tmp_path / "bundle").exists()
