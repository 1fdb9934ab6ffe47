"""Students of the loss hl_gauss, and layers computed again: what both backends fit, save and answer."""

# ruff: noqa: E402  # torch is optional: what needs it is imported after the skip

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import DecoderSettings, EncoderSettings, Window
from distillery_trainer.models import hl_gauss
from distillery_trainer.models.protocol import FitData
from distillery_trainer.neural import decoder, encoder

BACKENDS = {"decoder": decoder, "encoder": encoder}
WINDOW = Window(max_tokens=24, tail_share=0.5, separator=" a ")
# A step's learning rate for logits of bins may be larger than for scores.
TRAINING = {"epochs": 3, "patience": 3, "learning_rate": 0.02, "batch_tokens": 128, "accumulate": 2}
ROUNDING = 1e-5


@pytest.fixture(scope="module")
def data(articles: SimpleNamespace) -> FitData:
    return FitData(articles.train_texts, articles.train_labels, articles.val_texts, articles.val_labels)


@pytest.fixture(scope="module", params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def base(backend: str, decoder_base: Path, encoder_base: Path) -> Path:
    return {"decoder": decoder_base, "encoder": encoder_base}[backend]


@pytest.fixture(scope="module")
def fitted(backend: str, base: Path, data: FitData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(backend) / "student"
    BACKENDS[backend].fit(settings(backend, base), WINDOW, data, folder, 5, None)
    return folder


def settings(backend: str, base: Path, loss: str = "hl_gauss", **training: Any) -> Any:
    values = {"base_model": str(base), "loss": loss, "training": TRAINING | training}
    kind = {"decoder": DecoderSettings, "encoder": EncoderSettings}[backend]
    return kind.model_validate(values)


def history(folder: Path) -> list[dict[str, float]]:
    epochs: list[dict[str, float]] = json.loads((folder / "training_history.json").read_text())["epochs"]
    return epochs


def test_a_student_of_bins_learns_and_gives_one_score_for_each_dimension(
    backend: str, fitted: Path, data: FitData, articles: SimpleNamespace
) -> None:
    answers = BACKENDS[backend].load(fitted, WINDOW).predict(data.val_texts)

    assert answers.shape == data.val_labels.shape
    assert np.abs(answers - data.val_labels).mean() < 0.8 * articles.constant_mae


def test_a_students_distributions_expect_its_scores(backend: str, fitted: Path, data: FitData) -> None:
    student = BACKENDS[backend].load(fitted, WINDOW)

    found = student.distributions(data.val_texts)

    np.testing.assert_allclose(found.mean, student.predict(data.val_texts), atol=ROUNDING)
    np.testing.assert_array_equal(found.centres, hl_gauss.centres())
    assert (found.spread >= 0).all()
    assert found.spread.max() > 0.1
    assert ((found.at_least(2) >= found.at_least(7)) & (found.at_least(7) >= 0)).all()


def test_training_by_bins_starts_near_the_labels_mean(
    backend: str, base: Path, articles: SimpleNamespace, tmp_path: Path
) -> None:
    means = np.array([[8, 3]], dtype=np.float32)
    data = FitData(articles.train_texts, means.repeat(36, axis=0), articles.val_texts, means.repeat(12, axis=0))

    BACKENDS[backend].fit(settings(backend, base, epochs=1, learning_rate=1e-9), WINDOW, data, tmp_path, 5, None)

    assert history(tmp_path)[0]["val_mae"] < 0.25 * means.mean()


def test_another_loss_in_the_same_folder_leaves_no_bins(
    backend: str, base: Path, fitted: Path, data: FitData, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(fitted, tmp_path / "copy"))
    BACKENDS[backend].fit(settings(backend, base, "huber", epochs=1), WINDOW, data, folder, 5, None)

    student = BACKENDS[backend].load(folder, WINDOW)

    assert not (folder / "bins.json").exists()
    with pytest.raises(InputError, match="a student without bins"):
        student.distributions(data.val_texts)


def test_damaged_bins_are_refused(backend: str, fitted: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fitted, tmp_path / "copy"))
    (folder / "bins.json").write_text('{"schema_version": 1, "centres": [0.5]}')

    with pytest.raises(InputError, match="centres"):
        BACKENDS[backend].load(folder, WINDOW)


def test_layers_computed_again_give_the_same_bits(
    backend: str, base: Path, fitted: Path, data: FitData, tmp_path: Path
) -> None:
    runs: list[str] = []
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, _inputs: runs.append(type(module).__name__) if module.training else None
    )
    try:
        BACKENDS[backend].fit(settings(backend, base, recompute=True), WINDOW, data, tmp_path, 5, None)
    finally:
        hook.remove()

    found = {name: runs.count(name) for name in ("BertSelfAttention", "Gemma3Attention") if name in runs}
    steps = runs.count("BinsRegressor")
    assert found == dict.fromkeys(found, 2 * 2 * steps)  # two layers, each once forward and once for the gradient
    assert found
    for name in ("model.safetensors", "head.safetensors", "adapter_model.safetensors"):
        if (fitted / name).is_file():
            assert (tmp_path / name).read_bytes() == (fitted / name).read_bytes()
