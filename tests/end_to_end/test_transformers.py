"""Fit, build, score with tiny transformers: decoder and encoder behind a frozen probe, a frozen one behind a static."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import distillery_runtime
from distillery_exporter.cli import main as exporter
from distillery_runtime.articles.text import compose
from distillery_runtime.bundles.golden import ids_digest
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.cli.main import main as trainer

pytest.importorskip("torch")

STAGES = ("split", "fit", "calibrate", "probe", "certify", "predict", "evaluate", "report")


@pytest.fixture(scope="module", params=["decoder", "encoder", "frozen"])
def arguments(
    request: pytest.FixtureRequest, labels: Path, filter_folder: Path, decoder_base: Path, encoder_base: Path
) -> list[str]:
    """The command that fits a tiny student of one kind."""
    if request.param == "frozen":
        return ["fit", "--filter", str(filter_folder), "--labels", str(labels), "--backend", "frozen",
                "--embedder", str(encoder_base), "--max-tokens", "40", "--epochs", "20",
                "--set", "student.frozen.layers=[1, 2]", "--set", "student.frozen.prefix=\"the \"",
                "--set", "cascade.probe.training.epochs=5", "--set", "cascade.target_miss_rate=0.8"]  # fmt: skip
    base = {"decoder": decoder_base, "encoder": encoder_base}[request.param]
    return ["fit", "--filter", str(filter_folder), "--labels", str(labels), "--backend", request.param,
            "--base-model", str(base), "--embedder", str(encoder_base), "--max-tokens", "40", "--epochs", "3",
            "--set", f"student.{request.param}.training.batch_tokens=256",
            "--set", f"student.{request.param}.training.learning_rate=0.003",
            "--set", "cascade.target_miss_rate=0.8"]  # fmt: skip


@pytest.fixture(scope="module")
def made(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run` and `bundle`."""
    folder = tmp_path_factory.mktemp("made")
    assert trainer([*arguments, "--run-dir", str(folder / "run")]) == 0
    assert exporter(["build", str(folder / "run"), "--out", str(folder / "bundle")]) == 0
    return folder


def test_the_exported_graphs_agree_with_the_trained_models(made: Path) -> None:
    quality = json.loads((made / "bundle" / "quality.json").read_text(encoding="utf-8"))

    stages = quality["variants"]["cpu-fp32"]["stages"]

    assert list(stages) == ["probe", "student"]
    for report in (stage["parity"] for stage in stages.values()):
        assert report["batch_1"] <= 5e-5
        assert report["batch_16_padded"] <= 5e-5
        assert report["calibration"] <= 1e-6


def test_merging_a_decoders_adapter_is_measured_and_harmless(made: Path) -> None:
    quality = json.loads((made / "bundle" / "quality.json").read_text(encoding="utf-8"))

    student = quality["variants"]["cpu-fp32"]["stages"]["student"]["parity"]

    decoder = quality["evaluation"]["backend"] == "decoder"
    assert ("merged_to_unmerged" in student) is decoder
    assert not decoder or 0 < student["merged_to_unmerged"] < 1e-4


def test_the_bundle_makes_the_ids_that_training_used(made: Path, labels: Path) -> None:
    scorer = distillery_runtime.load(made / "bundle")
    texts = [_text(json.loads(line), scorer.spec) for line in labels.read_text(encoding="utf-8").splitlines()]
    for stage in scorer.stages:
        recorded = (made / "run" / stage.name / "inputs.jsonl").read_text(encoding="utf-8").splitlines()

        served = [ids_digest(row.ids) for row in stage.window.encode(texts)]

        assert served == [json.loads(line)["ids_sha256"] for line in recorded]
        assert any(json.loads(line)["truncated"] for line in recorded)


def test_the_bundle_names_no_folder_of_this_machine(made: Path, decoder_base: Path, encoder_base: Path) -> None:
    for path in made.joinpath("bundle").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(decoder_base.parent).encode() not in content
            assert str(encoder_base.parent).encode() not in content


def test_the_bundle_scores_without_torch(made: Path) -> None:
    code = (
        "import sys, distillery_runtime\n"
        f"score = distillery_runtime.load({str(made / 'bundle')!r}).score({{'id': '1', 'text': 'river wind'}})\n"
        "assert score.status == 'scored', score\n"
        "assert not {'torch', 'transformers', 'sklearn', 'onnx'} & set(sys.modules)\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("arguments", ["decoder"], indirect=True, scope="module")
def test_an_adapter_with_a_missing_pair_is_refused_by_the_exporter(made: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    path = run / "student" / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors.pop(next(name for name in tensors if "lora_B" in name))
    save_file(tensors, path)

    assert exporter(["build", str(run), "--out", str(tmp_path / "bundle")]) == 2
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_a_kill_in_any_stage_changes_nothing_in_the_end(made: Path, arguments: list[str], tmp_path: Path) -> None:
    generator = random.Random(str(arguments))
    run = tmp_path / "run"
    command = [
        sys.executable,
        "-c",
        "import sys; from distillery_trainer.cli.main import main; sys.exit(main(sys.argv[1:]))",
    ]
    for stage in STAGES:
        process = subprocess.Popen([*command, *arguments, "--run-dir", str(run)], stderr=subprocess.DEVNULL)
        while process.poll() is None and not list(run.glob(f"work/{stage}-*")):
            time.sleep(0.002)
        time.sleep(generator.random() * (3 if stage in ("fit", "probe") else 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()

    subprocess.run([*command, *arguments, "--run-dir", str(run)], check=True)

    assert (run / "eval.json").read_bytes() == (made / "run" / "eval.json").read_bytes()
    for name in ("adapter_model.safetensors", "model.safetensors"):
        if (made / "run" / "student" / name).is_file():
            assert (run / "student" / name).read_bytes() == (made / "run" / "student" / name).read_bytes()


def test_the_student_learns(made: Path) -> None:
    total = json.loads((made / "run" / "eval.json").read_text(encoding="utf-8"))["parts"]["total"]

    assert total["student"]["mae"] < total["constant"]["mae"]
    assert np.isfinite(total["cascade"]["mae"])


def _text(record: dict[str, str], spec: FilterSpec) -> str:
    return compose(distillery_runtime.Article(record["id"], record["title"], record["text"]), spec.text).joined
