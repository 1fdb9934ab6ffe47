"""What only the encoder backend does: pooling, prefix, architectures, and a student that needs its base no more."""

# ruff: noqa: E402  # torch is optional: what needs it is imported after the skip

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from safetensors.torch import load_file, save_file
from transformers import AutoModel

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import EncoderSettings, Window
from distillery_runtime.tokens.window import TokenWindow
from distillery_trainer.models import hl_gauss
from distillery_trainer.models.heads import HeadData, fit_linear
from distillery_trainer.models.protocol import FitData
from distillery_trainer.neural import encoder
from distillery_trainer.neural.batches import TrainingRows
from distillery_trainer.neural.running import pool
from distillery_trainer.neural.starting_head import softmax_regression

WINDOW = Window(max_tokens=24)
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def data(articles: SimpleNamespace) -> FitData:
    return FitData(articles.train_texts, articles.train_labels, articles.val_texts, articles.val_labels)


@pytest.fixture(scope="module", params=["encoder_base", "offset_encoder_base"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a base model that a test may take away."""
    found: Path = request.getfixturevalue(request.param)
    return Path(shutil.copytree(found, tmp_path_factory.mktemp("base") / found.name))


def settings(base: Path, **changes: Any) -> EncoderSettings:
    training = {"epochs": 1, "patience": 1, "learning_rate": 1e-3, "batch_tokens": 256}
    return EncoderSettings.model_validate({"base_model": str(base), "training": training} | changes)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_student_answers_as_its_saved_files_say(base: Path, data: FitData, tmp_path: Path, pooling: str) -> None:
    encoder.fit(settings(base, pooling=pooling, prefix="the river ", loss="huber"), WINDOW, data, tmp_path, 5, None)

    student = encoder.load(tmp_path, WINDOW)
    model = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False, dtype=torch.float32).eval()
    head = load_file(tmp_path / "head.safetensors")
    ids = student.window.encode(["old tree"])[0].ids
    with torch.no_grad():
        states = model(torch.from_numpy(ids[None])).last_hidden_state[0]
    pooled = states[0] if pooling == "cls" else states.mean(0)
    expected = pooled @ head["weight"].T + head["bias"]
    assert len(ids) == 2 + 4  # the special tokens, prefix and text
    np.testing.assert_allclose(student.predict(["old tree"])[0], expected.numpy(), atol=TOLERANCE)


def test_the_base_model_is_not_needed_any_more(base: Path, data: FitData, tmp_path: Path) -> None:
    taken = Path(shutil.copytree(base, tmp_path / "taken"))
    encoder.fit(settings(taken), WINDOW, data, tmp_path / "student", 5, None)
    shutil.rmtree(taken)

    assert encoder.load(tmp_path / "student", WINDOW).predict(["wind"]).shape == (1, 2)


def test_a_pooling_layer_is_neither_trained_nor_saved(base: Path, data: FitData, tmp_path: Path) -> None:
    encoder.fit(settings(base), WINDOW, data, tmp_path, 5, None)

    assert any(key.startswith("pooler") for key in load_file(base / "model.safetensors"))
    assert not [key for key in load_file(tmp_path / "model.safetensors") if "pooler" in key]
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_a_student_without_one_of_its_weights_is_refused(base: Path, data: FitData, tmp_path: Path) -> None:
    encoder.fit(settings(base), WINDOW, data, tmp_path, 5, None)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(InputError, match=r"encoder\.layer\.1\.output\.dense\.weight: missing"):
        encoder.load(tmp_path, WINDOW)


def test_a_head_of_another_width_is_refused(base: Path, data: FitData, tmp_path: Path) -> None:
    encoder.fit(settings(base), WINDOW, data, tmp_path, 5, None)
    save_file({"weight": torch.zeros(2, 31), "bias": torch.zeros(2)}, tmp_path / "head.safetensors")

    with pytest.raises(InputError, match=r"weight \[2, 31\], bias \[2\], expected weight \[D, 32\]"):
        encoder.load(tmp_path, WINDOW)


def test_an_unknown_key_in_its_record_is_refused(base: Path, data: FitData, tmp_path: Path) -> None:
    encoder.fit(settings(base), WINDOW, data, tmp_path, 5, None)
    record = json.loads((tmp_path / "encoder.json").read_text())
    (tmp_path / "encoder.json").write_text(json.dumps(record | {"normalise": True}))

    with pytest.raises(InputError, match="normalise: an unknown key"):
        encoder.load(tmp_path, WINDOW)


def hardly_trained(base: Path, **changes: Any) -> EncoderSettings:
    """Settings by which the weights stay as they begin."""
    training = {"epochs": 1, "patience": 1, "learning_rate": 1e-12, "weight_decay": 0.0, "batch_tokens": 256}
    return settings(base, training=training, **changes)


def frozen_states(base: Path, texts: Sequence[str]) -> np.ndarray:
    """The mean states of an encoder that was not trained."""
    model = AutoModel.from_pretrained(base, add_pooling_layer=False, dtype=torch.float32).eval()
    rows = [torch.from_numpy(row.ids[None]) for row in TokenWindow(base / "tokenizer.json", WINDOW).encode(texts)]
    with torch.no_grad():
        return np.stack([model(row).last_hidden_state[0].mean(0).numpy() for row in rows])


def test_a_fit_begins_where_a_ridge_regression_on_the_frozen_encoder_ends(
    base: Path, data: FitData, tmp_path: Path
) -> None:
    encoder.fit(hardly_trained(base, loss="huber"), WINDOW, data, tmp_path, 5, None)

    train, val = (frozen_states(base, texts) for texts in (data.train_texts, data.val_texts))
    weight, bias = fit_linear(HeadData(train, data.train_labels, val, data.val_labels))
    student = encoder.load(tmp_path, WINDOW)
    np.testing.assert_allclose(student.predict(data.val_texts), val @ weight.T + bias, atol=1e-3)


def test_a_head_of_bins_begins_where_a_softmax_regression_ends(base: Path, data: FitData, tmp_path: Path) -> None:
    encoder.fit(hardly_trained(base, loss="hl_gauss"), WINDOW, data, tmp_path, 5, None)

    train, val = (frozen_states(base, texts) for texts in (data.train_texts, data.val_texts))
    ids = TokenWindow(base / "tokenizer.json", WINDOW).encode(data.train_texts)
    rows = TrainingRows(ids, data.train_labels, ids[: len(val)], data.val_labels)
    weight, bias = softmax_regression(train, val, rows)
    shares = hl_gauss.softmax((val @ weight.T + bias).reshape(*data.val_labels.shape, -1))
    student = encoder.load(tmp_path, WINDOW)
    np.testing.assert_allclose(student.predict(data.val_texts), shares @ hl_gauss.centres(), atol=0.01)


def test_the_head_that_a_training_began_with_is_not_kept(base: Path, data: FitData, tmp_path: Path) -> None:
    encoder.fit(settings(base), WINDOW, data, tmp_path, 5, None)

    assert not [path.name for path in tmp_path.iterdir() if "start" in path.name]


def test_pooling_ignores_padding() -> None:
    states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [99.0, 99.0]]])
    mask = torch.tensor([[1, 1, 0]])

    assert pool(states, mask, "mean").tolist() == [[2.0, 3.0]]
    assert pool(states, mask, "cls").tolist() == [[1.0, 2.0]]


def test_a_causal_model_is_refused(decoder_base: Path, data: FitData, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gemma3_text, expected an encoder"):
        encoder.fit(settings(decoder_base), WINDOW, data, tmp_path, 5, None)
