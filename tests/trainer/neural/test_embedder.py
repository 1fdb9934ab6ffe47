"""Embeddings for the probe."""

# ruff: noqa: E402  # torch is optional: what needs it is imported after the skip

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from transformers import AutoModel

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import EncoderSettings, Window
from distillery_trainer.models.protocol import FitData
from distillery_trainer.neural import encoder
from distillery_trainer.neural.embedder import TorchEmbedder

WINDOW = Window(max_tokens=24)
TOLERANCE = 1e-6


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_an_embedding_is_the_pooled_state_at_length_one(encoder_base: Path, pooling: str) -> None:
    embedder = TorchEmbedder(str(encoder_base), "main", WINDOW, "a ", pooling)
    model = AutoModel.from_pretrained(encoder_base, dtype=torch.float32).eval()
    ids = embedder.window.encode(["clean river"])[0].ids

    with torch.no_grad():
        states = model(torch.from_numpy(ids[None])).last_hidden_state[0].numpy()

    pooled = states[0] if pooling == "cls" else states.mean(axis=0)
    assert embedder.folder == encoder_base
    np.testing.assert_allclose(embedder.embed(["clean river"])[0], pooled / np.linalg.norm(pooled), atol=TOLERANCE)


def test_joined_layers_are_embeddings_of_length_one_beside_each_other(encoder_base: Path) -> None:
    texts = ["clean river", "old city sun wind"]
    parts = [TorchEmbedder(str(encoder_base), "main", WINDOW, layers=[n]).embed(texts) for n in (1, 2)]

    joined = TorchEmbedder(str(encoder_base), "main", WINDOW, layers=[1, 2]).embed(texts)

    np.testing.assert_allclose(joined, np.concatenate(parts, axis=1), atol=TOLERANCE)
    np.testing.assert_allclose(np.linalg.norm(parts[0], axis=1), 1, atol=TOLERANCE)
    assert np.array_equal(parts[1], TorchEmbedder(str(encoder_base), "main", WINDOW).embed(texts))


def test_mean_and_maximum_of_each_layer_stand_beside_each_other(pooled_by_cls: Path, encoder_base: Path) -> None:
    texts = ["clean river", "old city sun wind"]
    parts = [
        TorchEmbedder(str(encoder_base), "main", WINDOW, pooling=pooling, layers=[n]).embed(texts)
        for n in (1, 2)
        for pooling in ("mean", "max")
    ]

    for folder in (encoder_base, pooled_by_cls):  # whatever a folder says of its own embedding
        joined = TorchEmbedder(str(folder), "main", WINDOW, pooling="mean_max", layers=[1, 2]).embed(texts)

        np.testing.assert_allclose(joined, np.concatenate(parts, axis=1), atol=TOLERANCE)


def test_a_layer_that_a_model_does_not_have_is_refused(encoder_base: Path) -> None:
    with pytest.raises(InputError, match="layers: 3, expected 1 to 2"):
        TorchEmbedder(str(encoder_base), "main", WINDOW, layers=[3])


def test_embeddings_do_not_depend_on_the_batch_or_the_order(
    offset_encoder_base: Path, articles: SimpleNamespace
) -> None:
    embedder = TorchEmbedder(str(offset_encoder_base), "main", WINDOW)

    together = embedder.embed(articles.val_texts)

    alone = np.concatenate([embedder.embed([text]) for text in articles.val_texts])
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=TOLERANCE)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=TOLERANCE)


def test_progress_hears_of_every_text(encoder_base: Path, articles: SimpleNamespace) -> None:
    heard: list[int] = []

    TorchEmbedder(str(encoder_base), "main", WINDOW).embed(articles.train_texts, heard.append)

    assert sum(heard) == len(articles.train_texts)


def test_no_texts_give_no_embeddings(encoder_base: Path) -> None:
    assert TorchEmbedder(str(encoder_base), "main", WINDOW).embed([]).shape == (0, 32)


def test_positions_that_a_model_never_uses_do_not_count_for_the_window(offset_encoder_base: Path) -> None:
    longest = TorchEmbedder(str(offset_encoder_base), "main", Window(max_tokens=64)).embed(["sun " * 100])

    assert np.all(np.isfinite(longest))
    with pytest.raises(InputError, match="65, expected at most 64"):
        TorchEmbedder(str(offset_encoder_base), "main", Window(max_tokens=65))


@pytest.fixture
def pooled_by_cls(encoder_base: Path, tmp_path: Path) -> Path:
    """A sentence-transformers folder, as it saves one."""
    base = Path(shutil.copytree(encoder_base, tmp_path / "st"))
    package = "sentence_transformers.models."
    kinds = [{"type": f"{package}Transformer", "path": ""}, {"type": f"{package}Pooling", "path": "1_Pooling"}]
    (base / "modules.json").write_text(json.dumps(kinds), encoding="utf-8")
    (base / "1_Pooling").mkdir()
    (base / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}', encoding="utf-8")
    return base


def test_a_model_that_pools_otherwise_than_the_config_is_no_embedder_and_no_base(
    pooled_by_cls: Path, tmp_path: Path, articles: SimpleNamespace
) -> None:
    data = FitData(articles.train_texts, articles.train_labels, articles.val_texts, articles.val_labels)
    settings = EncoderSettings(base_model=str(pooled_by_cls))

    with pytest.raises(InputError, match="pooling by cls, expected mean"):
        TorchEmbedder(str(pooled_by_cls), "main", WINDOW, pooling="mean")
    with pytest.raises(InputError, match="pooling by cls, expected mean"):
        encoder.fit(settings, WINDOW, data, tmp_path / "student", 0)


def test_a_model_of_which_the_config_says_nothing_is_pooled_as_it_says(pooled_by_cls: Path, encoder_base: Path) -> None:
    plain = TorchEmbedder(str(encoder_base), "main", WINDOW, pooling="cls").embed(["sun", "clean river"])

    found = TorchEmbedder(str(pooled_by_cls), "main", WINDOW).embed(["sun", "clean river"])

    assert not np.allclose(np.linalg.norm(found, axis=1), 1, atol=0.01)  # this folder has no Normalize
    np.testing.assert_allclose(found / np.linalg.norm(found, axis=1, keepdims=True), plain, atol=TOLERANCE)


def test_joined_layers_of_a_sentence_model_are_pooled_as_it_says(pooled_by_cls: Path, encoder_base: Path) -> None:
    plain = TorchEmbedder(str(encoder_base), "main", WINDOW, pooling="cls", layers=[1, 2]).embed(["clean river"])

    found = TorchEmbedder(str(pooled_by_cls), "main", WINDOW, layers=[1, 2]).embed(["clean river"])

    np.testing.assert_allclose(found, plain, atol=TOLERANCE)
