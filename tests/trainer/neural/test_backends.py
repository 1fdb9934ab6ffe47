"""The decoder and encoder backends on two-layer models: they learn, survive kills, and save what was trained."""

# ruff: noqa: E402  # torch is optional: what needs it is imported after the skip

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from distillery_runtime.errors import InputError, ModelError
from distillery_runtime.spec.model import DecoderSettings, EncoderSettings, Window
from distillery_trainer.models.protocol import FitData
from distillery_trainer.neural import decoder, encoder, fitting
from distillery_trainer.neural.running import TorchStudent

BACKENDS = {"decoder": decoder, "encoder": encoder}
WINDOW = Window(max_tokens=24, tail_share=0.5, separator=" a ")
TRAINING = {"epochs": 3, "patience": 3, "learning_rate": 0.01, "batch_tokens": 64}
BATCH_TOLERANCE = 1e-5  # sums over other padding, in another order


@pytest.fixture(scope="session")
def data(articles: SimpleNamespace) -> FitData:
    return FitData(articles.train_texts, articles.train_labels, articles.val_texts, articles.val_labels)


@pytest.fixture(scope="session")
def bases(decoder_base: Path, encoder_base: Path) -> dict[str, Path]:
    return {"decoder": decoder_base, "encoder": encoder_base}


@pytest.fixture(scope="session")
def fitted(bases: dict[str, Path], data: FitData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One fitted student of each backend."""
    folders = {}
    for name, backend in BACKENDS.items():
        folders[name] = tmp_path_factory.mktemp(name) / "student"
        backend.fit(settings(name, bases[name]), WINDOW, data, folders[name], 5, None)
    return folders


@pytest.fixture(params=["decoder", "encoder"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def student(fitted: dict[str, Path], backend: str, tmp_path: Path) -> Path:
    """A copy of a fitted student that a test may spoil."""
    return Path(shutil.copytree(fitted[backend], tmp_path / "copy"))


def settings(backend: str, base: Path, **changes: Any) -> Any:
    values: dict[str, Any] = {"base_model": str(base), "loss": "huber", "training": {**TRAINING}} | changes
    if backend == "decoder":
        return DecoderSettings.model_validate({"lora": {"rank": 4, "alpha": 8, "dropout": 0.1}} | values)
    return EncoderSettings.model_validate({"prefix": "the "} | values)


def test_a_student_learns_more_than_the_labels_mean(
    fitted: dict[str, Path], backend: str, articles: SimpleNamespace
) -> None:
    history = json.loads((fitted[backend] / "training_history.json").read_text())["epochs"]

    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    assert min(epoch["val_mae"] for epoch in history) < 0.8 * articles.constant_mae


def test_training_starts_near_the_labels_mean(
    bases: dict[str, Path], backend: str, articles: SimpleNamespace, tmp_path: Path
) -> None:
    means = np.array([[8, 3]], dtype=np.float32)
    train_labels, val_labels = means.repeat(36, axis=0), means.repeat(12, axis=0)
    data = FitData(articles.train_texts, train_labels, articles.val_texts, val_labels)
    still = settings(backend, bases[backend], training={**TRAINING, "epochs": 1, "learning_rate": 1e-9})

    BACKENDS[backend].fit(still, WINDOW, data, tmp_path, 5, None)

    epoch = json.loads((tmp_path / "training_history.json").read_text())["epochs"][0]
    assert epoch["val_mae"] < 0.25 * means.mean()


def test_answers_do_not_depend_on_the_batch_or_the_order(fitted: dict[str, Path], backend: str, data: FitData) -> None:
    student = BACKENDS[backend].load(fitted[backend], WINDOW)

    together = student.predict(data.val_texts)
    alone = np.concatenate([student.predict([text]) for text in data.val_texts])
    turned = student.predict(data.val_texts[::-1])[::-1]

    assert together.shape == (len(data.val_texts), 2)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=BATCH_TOLERANCE)
    np.testing.assert_allclose(together, turned, atol=BATCH_TOLERANCE)


def test_no_texts_give_no_answers(fitted: dict[str, Path], backend: str) -> None:
    assert BACKENDS[backend].load(fitted[backend], WINDOW).predict([]).shape == (0, 2)


def test_the_same_seed_writes_the_same_bytes(
    bases: dict[str, Path], backend: str, fitted: dict[str, Path], data: FitData, tmp_path: Path
) -> None:
    BACKENDS[backend].fit(settings(backend, bases[backend]), WINDOW, data, tmp_path, 5, None)

    assert contents(tmp_path) == contents(fitted[backend])


@pytest.fixture
def killed(bases: dict[str, Path], backend: str, articles: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """A student whose fit was killed at several moments, with the lines that its processes wrote."""
    job = {
        "backend": backend,
        "settings": settings(backend, bases[backend]).model_dump(mode="json"),
        "folder": str(tmp_path / "killed"),
        "window": WINDOW.model_dump(mode="json"),
        "checkpoint_steps": 2,
        "kills": [("step", 1), ("step", 4), ("write", 1), ("write", 3), ("epoch", 1), ("write", 7)],
        **{key: getattr(articles, key) for key in ("train_texts", "val_texts")},
        **{key: getattr(articles, key).tolist() for key in ("train_labels", "val_labels")},
    }
    (tmp_path / "jobs.json").write_text(json.dumps([job]))
    worker = Path(__file__).with_name("kill_worker.py")
    done = subprocess.run([sys.executable, str(worker), str(tmp_path / "jobs.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(folder=tmp_path / "killed", lines=done.stdout.splitlines())


@pytest.mark.slow  # test_training stops the same loop in this process
@pytest.mark.parametrize("backend", ["decoder", "encoder"])
def test_a_fit_killed_many_times_writes_the_same_bytes(
    killed: SimpleNamespace, backend: str, fitted: dict[str, Path]
) -> None:
    began_at = [int(line.split()[5]) for line in killed.lines if f"{backend} goes on from step " in line]

    assert began_at == sorted(began_at)  # no kill, not even one in the middle of a write, costs an earlier checkpoint
    assert began_at[:4] == [0, 0, 2, 2]
    assert began_at[-1] > 10
    assert contents(killed.folder) == contents(fitted[backend])


def test_nothing_saved_names_a_folder_of_this_machine_but_the_record_of_the_base(
    fitted: dict[str, Path], backend: str, bases: dict[str, Path]
) -> None:
    parts = contents(fitted[backend])

    record = json.loads(parts.pop("base.json"))
    assert record["folder"] == str(bases[backend])
    assert record["identity"]["name"] == bases[backend].name
    assert not [name for name, content in parts.items() if str(bases[backend].parent).encode() in content]
    assert not [name for name in parts if name.startswith((".", "checkpoint"))]


def test_the_saved_tokenizer_neither_truncates_nor_pads(fitted: dict[str, Path], backend: str) -> None:
    tokenizer = Tokenizer.from_file(str(fitted[backend] / "tokenizer.json"))

    assert tokenizer.truncation is None
    assert tokenizer.padding is None


def test_a_reload_that_answers_differently_is_an_error(
    bases: dict[str, Path], backend: str, data: FitData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = TorchStudent.predict
    calls: list[int] = []

    def drifting(self: TorchStudent, texts: list[str]) -> Any:
        calls.append(1)
        return predict(self, texts) + np.float32(2 * fitting.RELOAD_TOLERANCE * len(calls))

    monkeypatch.setattr(TorchStudent, "predict", drifting)
    quick = settings(backend, bases[backend], training={**TRAINING, "epochs": 1})

    with pytest.raises(ModelError, match="answers differently"):
        BACKENDS[backend].fit(quick, WINDOW, data, tmp_path, 5, None)


def test_a_window_larger_than_the_model_is_refused(
    bases: dict[str, Path], backend: str, data: FitData, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"max_tokens: 65, expected at most 64"):
        BACKENDS[backend].fit(settings(backend, bases[backend]), Window(max_tokens=65), data, tmp_path, 5, None)


def test_a_weight_that_is_not_finite_never_becomes_a_score(student: Path, backend: str, data: FitData) -> None:
    name = {"decoder": "adapter_model.safetensors", "encoder": "head.safetensors"}[backend]
    tensors = load_file(student / name)
    next(tensor for key, tensor in tensors.items() if key.endswith("weight"))[0, 0] = float("nan")
    save_file(tensors, student / name)

    with pytest.raises(ModelError, match="not finite"):
        BACKENDS[backend].load(student, WINDOW).predict(data.val_texts)


@pytest.mark.parametrize("name", ["base.json", "adapter_model.safetensors", "adapter_config.json"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_missing_or_damaged_file_of_a_decoder_is_named(
    fitted: dict[str, Path], tmp_path: Path, name: str, damage: str
) -> None:
    student = Path(shutil.copytree(fitted["decoder"], tmp_path / "copy"))
    spoil(student / name, damage)

    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        decoder.load(student, WINDOW)


@pytest.mark.parametrize("name", ["encoder.json", "head.safetensors", "model.safetensors", "config.json"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_missing_or_damaged_file_of_an_encoder_is_refused(
    fitted: dict[str, Path], tmp_path: Path, name: str, damage: str
) -> None:
    student = Path(shutil.copytree(fitted["encoder"], tmp_path / "copy"))
    spoil(student / name, damage)

    with pytest.raises(InputError):
        encoder.load(student, WINDOW)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its name in it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def spoil(path: Path, damage: str) -> None:
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:40])
