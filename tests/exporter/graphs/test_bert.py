"""BERT-like encoders as graphs give what transformers gives, alone, padded and pooled either way."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from distillery_exporter.graphs.bert import build_bert_encoder, build_bert_regressor
from distillery_exporter.graphs.weights import Checkpoint
from distillery_runtime.errors import InputError
from distillery_runtime.models.session import Graph
from distillery_runtime.spec.calibration import ReadOut, identity
from distillery_runtime.tokens.window import TokenIds, pad
from distillery_trainer.models.sentence_models import Pooling, parts_of

CLIPS = ReadOut(identity("abc"), identity("abc"))

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from distillery_trainer.neural.running import pool  # noqa: E402  # needs torch

# Fused operators add up in another order than PyTorch.
PARITY = 5e-5
LENGTHS = [[1], [50], [60, 13, 33, 1]]
SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


@pytest.fixture(scope="module", params=["bert", "xlm-roberta", "roberta"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A tiny random encoder and the folder that it is saved in."""
    special = {} if request.param == "bert" else {"pad_token_id": 1, "type_vocab_size": 1}
    config = transformers.AutoConfig.for_model(request.param, **SIZES, **special)
    torch.manual_seed(5)
    model = transformers.AutoModel.from_config(config, add_pooling_layer=False).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.4)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return model, folder


def batch(lengths: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(len(lengths))
    return pad([TokenIds(rng.integers(2, 99, length), False) for length in lengths])


def reference(model: Any, pooling: Pooling, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    padded = np.where(mask == 1, ids, model.config.pad_token_id)
    with torch.inference_mode():
        states = model(torch.from_numpy(padded), torch.from_numpy(mask)).last_hidden_state.numpy()
    if pooling == "cls":
        return states[:, 0]
    return (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)


def run(path: Path, ids: NDArray[np.int64], mask: NDArray[np.int64], *outputs: str) -> dict[str, NDArray[np.float32]]:
    graph = Graph(path, ["input_ids", "attention_mask"], outputs, "cpu", 1)
    return graph.run({"input_ids": ids, "attention_mask": mask})


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_an_encoder_pools_what_transformers_pools(
    tmp_path: Path, encoder: tuple[Any, Path], pooling: Pooling, lengths: list[int]
) -> None:
    model, folder = encoder
    build_bert_encoder(tmp_path / "encoder.onnx", Checkpoint(folder), pooling, normalise=False)
    ids, mask = batch(lengths)

    found = run(tmp_path / "encoder.onnx", ids, mask, "pooled")["pooled"]

    np.testing.assert_allclose(found, reference(model, pooling, ids, mask), atol=PARITY)


@pytest.mark.parametrize("pooling", ["mean", "cls", "mean_max"])
def test_joined_layers_are_the_pooled_hidden_states_of_transformers(
    tmp_path: Path, encoder: tuple[Any, Path], pooling: Pooling
) -> None:
    model, folder = encoder
    build_bert_encoder(tmp_path / "encoder.onnx", Checkpoint(folder), pooling, normalise=True, layers=(1, 3))
    ids, mask = batch([50, 7])

    found = run(tmp_path / "encoder.onnx", ids, mask, "pooled")["pooled"]

    padded = torch.from_numpy(np.where(mask == 1, ids, model.config.pad_token_id))
    with torch.inference_mode():
        hidden = model(padded, torch.from_numpy(mask), output_hidden_states=True).hidden_states
    parts = [(n, part) for n in (1, 3) for part in parts_of(pooling)]
    pooled = [pool(hidden[n], torch.from_numpy(mask), part).numpy() for n, part in parts]
    expected = np.concatenate([one / np.linalg.norm(one, axis=1, keepdims=True) for one in pooled], axis=1)
    np.testing.assert_allclose(found, expected, atol=PARITY)


def test_the_last_layer_named_is_the_embedding_without_layers(tmp_path: Path, encoder: tuple[Any, Path]) -> None:
    ids, mask = batch([9, 30])
    for name, layers in (("plain", ()), ("named", (3,))):
        build_bert_encoder(tmp_path / f"{name}.onnx", Checkpoint(encoder[1]), "mean", normalise=True, layers=layers)

    plain, named = (run(tmp_path / f"{name}.onnx", ids, mask, "pooled")["pooled"] for name in ("plain", "named"))

    assert np.array_equal(plain, named)


def test_no_layer_above_the_highest_joined_one_is_computed(tmp_path: Path, encoder: tuple[Any, Path]) -> None:
    sizes = []
    for layers in ((1,), ()):
        path = tmp_path / f"encoder{len(layers)}.onnx"
        files = build_bert_encoder(path, Checkpoint(encoder[1]), "mean", normalise=True, layers=layers)
        sizes.append(sum(file.stat().st_size for file in files))

    assert sizes[0] < sizes[1]


def test_a_layer_that_a_model_does_not_have_is_refused(tmp_path: Path, encoder: tuple[Any, Path]) -> None:
    with pytest.raises(InputError, match="layers: 4, expected 1 to 3"):
        build_bert_encoder(tmp_path / "e.onnx", Checkpoint(encoder[1]), "mean", normalise=True, layers=(2, 4))


def test_texts_answer_the_same_alone_and_in_a_padded_batch(tmp_path: Path, encoder: tuple[Any, Path]) -> None:
    build_bert_encoder(tmp_path / "encoder.onnx", Checkpoint(encoder[1]), "mean", normalise=False)
    ids, mask = batch([40, 7])

    together = run(tmp_path / "encoder.onnx", ids, mask, "pooled")["pooled"]
    alone = run(tmp_path / "encoder.onnx", ids[1:, :7], mask[1:, :7], "pooled")["pooled"]

    np.testing.assert_allclose(together[1:], alone, atol=1e-5)


def test_a_normalised_encoder_gives_unit_vectors(tmp_path: Path, encoder: tuple[Any, Path]) -> None:
    model, folder = encoder
    build_bert_encoder(tmp_path / "encoder.onnx", Checkpoint(folder), "mean", normalise=True)
    ids, mask = batch([9, 30])

    found = run(tmp_path / "encoder.onnx", ids, mask, "pooled")["pooled"]

    expected = reference(model, "mean", ids, mask)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=PARITY)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_regressor_is_a_linear_head_on_the_pooled_state(
    tmp_path: Path, encoder: tuple[Any, Path], pooling: Pooling
) -> None:
    model, folder = encoder
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((3, 32)) / 4, np.array([2.0, 4.0, 6.0])
    path = tmp_path / "regressor.onnx"
    build_bert_regressor(path, Checkpoint(folder), pooling, weight, bias, CLIPS)
    ids, mask = batch([21, 60])

    found = run(path, ids, mask, "raw", "expected", "scores")

    expected = reference(model, pooling, ids, mask) @ weight.T + bias
    np.testing.assert_allclose(found["raw"], expected, atol=PARITY)
    np.testing.assert_allclose(found["scores"], np.clip(expected, 0, 10), atol=PARITY)


def changed(folder: Path, target: Path, **changes: object) -> Checkpoint:
    """The same weights under a changed config."""
    target.mkdir()
    (target / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | changes))
    return Checkpoint(target)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "relu"}, r"config\.json: hidden_act: 'relu', expected 'gelu'"),
        ({"model_type": "modernbert"}, "model_type: 'modernbert', expected 'bert', 'roberta' or 'xlm-roberta'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type: 'relative_key', expected 'absolute'"),
        ({"num_attention_heads": 5}, "num_attention_heads: 5, expected a divisor of hidden_size, which is 32"),
        ({"num_hidden_layers": 4}, r"encoder\.layer\.3\.\S+: no such tensor"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    tmp_path: Path, encoder: tuple[Any, Path], changes: dict[str, object], message: str
) -> None:
    checkpoint = changed(encoder[1], tmp_path / "changed", **changes)

    with pytest.raises(InputError, match=message):
        build_bert_encoder(tmp_path / "encoder.onnx", checkpoint, "mean", normalise=False)


def test_a_head_of_another_width_is_refused(tmp_path: Path, encoder: tuple[Any, Path]) -> None:
    with pytest.raises(InputError, match=r"head: weight: shape \(3, 31\), expected \(3, 32\)"):
        build_bert_regressor(tmp_path / "r.onnx", Checkpoint(encoder[1]), "mean", np.zeros((3, 31)), np.zeros(3), CLIPS)
