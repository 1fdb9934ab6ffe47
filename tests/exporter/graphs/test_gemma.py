"""Gemma as a graph gives what transformers gives: any grouping of heads, within and beyond the sliding window."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from distillery_exporter.graphs.builder import GraphBuilder, Port
from distillery_exporter.graphs.gemma import GemmaDecoder, build_gemma_regressor
from distillery_exporter.graphs.ports import TOKEN_INPUTS
from distillery_exporter.graphs.precision import Int4, Plain, Precision, RowInt8
from distillery_exporter.graphs.settings import GemmaSettings
from distillery_exporter.graphs.smoothing import SmoothedGemma
from distillery_exporter.graphs.watching import RESIDUAL, Grams, Maxima, Watcher, measure, residual_scale
from distillery_exporter.graphs.weights import Checkpoint
from distillery_runtime.errors import InputError
from distillery_runtime.models.session import Graph
from distillery_runtime.spec.calibration import ReadOut, identity
from distillery_runtime.tokens.window import TokenIds, pad

CLIPS = ReadOut(identity("abc"), identity("abc"))

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

# Fused operators and folded scales round elsewhere than PyTorch.
PARITY = 5e-5
WINDOW = 16
# Below, at, just beyond and far beyond the sliding window; several lengths are one batch, padded on the right.
LENGTHS = [[1], [WINDOW], [WINDOW + 1], [60], [60, 13, 33, 1]]
MIXED = ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"]
LINEAR = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e3},
}


def tiny(folder: Path, **changes: object) -> Any:
    """A random Gemma with three scores, saved to a folder."""
    settings = {
        "vocab_size": 99,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "sliding_window": WINDOW,
        "layer_types": MIXED,
        "query_pre_attn_scalar": 24,
        "max_position_embeddings": 128,
        "num_labels": 3,
        "pad_token_id": 0,
    }
    config = transformers.Gemma3TextConfig(**(settings | changes))
    torch.manual_seed(11)
    model = transformers.Gemma3TextForSequenceClassification(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return model


def batch(lengths: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(len(lengths))
    return pad([TokenIds(rng.integers(1, 99, length), False) for length in lengths])


def reference(model: Any, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return model(torch.from_numpy(ids), torch.from_numpy(mask)).logits.numpy()


def run(
    path: Path, ids: NDArray[np.int64], mask: NDArray[np.int64], outputs: Sequence[str] = ("raw", "expected", "scores")
) -> dict[str, NDArray[np.float32]]:
    graph = Graph(path, ["input_ids", "attention_mask"], outputs, "cpu", 1)
    return graph.run({"input_ids": ids, "attention_mask": mask})


@pytest.mark.parametrize(
    "changes",
    [
        {"num_key_value_heads": 1},
        {"num_key_value_heads": 2},
        pytest.param({"num_key_value_heads": 4}, marks=pytest.mark.slow),
        {"layer_types": [*reversed(MIXED[:3]), "full_attention"]},
        pytest.param({"layer_types": ["sliding_attention"] * 4}, marks=pytest.mark.slow),
        pytest.param({"layer_types": ["full_attention"], "num_hidden_layers": 1}, marks=pytest.mark.slow),
        {"rope_parameters": LINEAR},
    ],
    ids=["one-kv", "two-kv", "all-kv", "full-last", "all-sliding", "one-layer", "linear-rope"],
)
def test_a_regressor_gives_what_transformers_gives(tmp_path: Path, changes: dict[str, object]) -> None:
    model = tiny(tmp_path, **changes)
    build_gemma_regressor(tmp_path / "gemma.onnx", Checkpoint(tmp_path), 3, CLIPS, max_tokens=100)

    for lengths in LENGTHS:
        ids, mask = batch(lengths)
        found = run(tmp_path / "gemma.onnx", ids, mask)
        expected = reference(model, ids, mask)
        np.testing.assert_allclose(found["raw"], expected, atol=PARITY)
        np.testing.assert_allclose(found["scores"], np.clip(expected, 0, 10), atol=PARITY)


def test_a_graph_for_texts_within_the_window_is_as_exact(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    build_gemma_regressor(tmp_path / "gemma.onnx", Checkpoint(tmp_path), 3, CLIPS, max_tokens=WINDOW)
    ids, mask = batch([WINDOW, 5, 9])

    found = run(tmp_path / "gemma.onnx", ids, mask)

    np.testing.assert_allclose(found["raw"], reference(model, ids, mask), atol=PARITY)


def test_texts_answer_the_same_alone_and_in_a_padded_batch(tmp_path: Path) -> None:
    tiny(tmp_path)
    build_gemma_regressor(tmp_path / "gemma.onnx", Checkpoint(tmp_path), 3, CLIPS, max_tokens=100)
    ids, mask = batch([40, 27])

    together = run(tmp_path / "gemma.onnx", ids, mask)["raw"]
    alone = run(tmp_path / "gemma.onnx", ids[1:, :27], mask[1:, :27])["raw"]

    np.testing.assert_allclose(together[1:], alone, atol=1e-5)


def test_a_real_token_with_the_padding_id_is_read(tmp_path: Path) -> None:
    tiny(tmp_path)
    build_gemma_regressor(tmp_path / "gemma.onnx", Checkpoint(tmp_path), 3, CLIPS, max_tokens=100)
    ids = np.array([[5, 7, 0, 0]])

    whole = run(tmp_path / "gemma.onnx", ids, np.array([[1, 1, 1, 0]]))["raw"]
    shorter = run(tmp_path / "gemma.onnx", ids, np.array([[1, 1, 0, 0]]))["raw"]

    assert np.abs(whole - shorter).max() > 0.01


def test_a_config_in_the_older_form_means_the_same(tmp_path: Path) -> None:
    older = {
        "rope_theta": 5e5,
        "rope_local_base_freq": 1e3,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "sliding_window_pattern": 3,
    }
    tiny(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for key in ("rope_parameters", "layer_types", "_sliding_window_pattern"):
        config.pop(key, None)
    (tmp_path / "config.json").write_text(json.dumps(config | older))
    model = transformers.Gemma3TextForSequenceClassification.from_pretrained(tmp_path).eval()
    build_gemma_regressor(tmp_path / "gemma.onnx", Checkpoint(tmp_path), 3, CLIPS, max_tokens=100)
    ids, mask = batch([60, 13])

    found = run(tmp_path / "gemma.onnx", ids, mask)

    assert model.config.layer_types[2] == "full_attention"
    assert model.config.rope_parameters == LINEAR
    np.testing.assert_allclose(found["raw"], reference(model, ids, mask), atol=PARITY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gemma2"}, "model_type: 'gemma2', expected 'gemma3_text'"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping: 50.0, expected None"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping: 30.0, expected None"),
        ({"hidden_activation": "silu"}, "hidden_activation: 'silu', expected 'gelu_pytorch_tanh'"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention: True"),
        ({"num_key_value_heads": 3}, "num_key_value_heads: 3, expected a divisor of num_attention_heads, which is 4"),
        ({"layer_types": MIXED[:3]}, "layer_types: .* expected 4 of them"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_type: 'yarn', expected 'default' or"),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear"}}}, "factor: nothing, expected a number"),
        ({"vocab_size": 100}, r"embed_tokens\.weight: float32 of shape \(99, 32\)"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    tiny(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))

    with pytest.raises(InputError, match=message):
        build_gemma_regressor(tmp_path / "gemma.onnx", Checkpoint(tmp_path), 3, CLIPS, max_tokens=100)


@pytest.mark.parametrize(("dimensions", "max_tokens"), [(2, 100), (3, 129), (3, 0)])
def test_arguments_that_do_not_fit_the_model_are_refused(tmp_path: Path, dimensions: int, max_tokens: int) -> None:
    tiny(tmp_path)

    with pytest.raises(InputError):
        build_gemma_regressor(tmp_path / "gemma.onnx", Checkpoint(tmp_path), dimensions, CLIPS, max_tokens)


# float32 sums in another order.
EXACT = 1e-4
ROWS = [TokenIds(np.random.default_rng(i).integers(1, 99, 20 + i), False) for i in range(4)]


def build(folder: Path, name: str, source: object = None, precision: Precision | None = None, scale: float = 1) -> Path:
    path = folder / f"{name}.onnx"
    checkpoint = source or Checkpoint(folder)
    build_gemma_regressor(path, checkpoint, 3, CLIPS, 100, precision, scale)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("precision", [RowInt8, Int4])
def test_rounded_weights_stay_near_fp32_and_a_text_does_not_depend_on_its_batch(
    tmp_path: Path, precision: Callable[[], Precision]
) -> None:
    tiny(tmp_path)
    ids, mask = batch([60, 13, 33, 1])

    exact = run(build(tmp_path, "fp32"), ids, mask)["raw"]
    near = run(path := build(tmp_path, "near", precision=precision()), ids, mask)["raw"]

    assert 0 < np.abs(near - exact).mean() < 0.35 * exact.std()
    for row, length in enumerate([60, 13, 33, 1]):
        alone = run(path, ids[row : row + 1, :length], mask[row : row + 1, :length])["raw"]
        np.testing.assert_allclose(alone[0], near[row], atol=EXACT)


def watched(folder: Path, watcher: Callable[[], Watcher], rows: Sequence[TokenIds]) -> dict[str, NDArray[np.float32]]:
    """What a watcher saw in a checkpoint's products, in all layers."""
    layers = measure(lambda g, p: GemmaDecoder(g, Checkpoint(folder), 100, p), watcher, rows, folder)
    return {site: values for layer in layers for site, values in layer.items()}


def test_int8_is_nearer_than_int4(tmp_path: Path) -> None:
    tiny(tmp_path)
    ids, mask = batch([60, 13, 33, 1])
    exact = run(build(tmp_path, "fp32"), ids, mask)["raw"]

    int8, int4 = (run(build(tmp_path, "q", precision=p), ids, mask)["raw"] for p in (RowInt8(), Int4()))

    assert np.abs(int8 - exact).mean() < np.abs(int4 - exact).mean()


@pytest.mark.parametrize("shared", [2, *(pytest.param(shared, marks=pytest.mark.slow) for shared in (1, 4))])
def test_smoothing_changes_weights_and_no_answer(tmp_path: Path, shared: int) -> None:
    tiny(tmp_path, num_key_value_heads=shared)
    checkpoint = Checkpoint(tmp_path)
    maxima = watched(tmp_path, Maxima, ROWS)
    smoothed = SmoothedGemma(checkpoint, GemmaSettings.model_validate(checkpoint.config), maxima)
    ids, mask = batch([60, 13, 33, 1])

    expected, found = run(build(tmp_path, "a"), ids, mask)["raw"], run(build(tmp_path, "b", smoothed), ids, mask)["raw"]

    np.testing.assert_allclose(found, expected, atol=EXACT)
    name, shape = "model.layers.1.mlp.up_proj.weight", (48, 32)
    assert np.abs(smoothed.get(name, shape) - checkpoint.get(name, shape)).max() > 0.01


def test_a_scaled_residual_stream_changes_no_answer_and_comes_within_the_limit(tmp_path: Path) -> None:
    tiny(tmp_path)
    maxima = watched(tmp_path, Maxima, ROWS)
    largest = max(values.max() for site, values in maxima.items() if site.endswith(RESIDUAL))
    scale = residual_scale(maxima, largest / 5)
    ids, mask = batch([60, 13, 33, 1])

    found = run(build(tmp_path, "b", scale=scale), ids, mask)["raw"]

    assert scale == 8
    assert residual_scale(maxima, largest * 2) == 1
    np.testing.assert_allclose(found, run(build(tmp_path, "a"), ids, mask)["raw"], atol=EXACT)


def test_half_precision_stays_near_fp32(tmp_path: Path) -> None:
    tiny(tmp_path)
    ids, mask = batch([60, 13])

    exact, half = (run(build(tmp_path, "g", precision=p), ids, mask)["raw"] for p in (Plain(), Plain(np.float16)))

    assert 0 < np.abs(half - exact).max() < 0.05


def test_maxima_are_those_of_all_texts_and_tokens(tmp_path: Path) -> None:
    tiny(tmp_path)
    each = [watched(tmp_path, Maxima, [row]) for row in ROWS]

    together = watched(tmp_path, Maxima, ROWS)

    for site, values in together.items():
        np.testing.assert_array_equal(values, np.maximum.reduce([one[site] for one in each]))
    assert together["model.layers.0.self_attn.qkv"].shape == (32,)
    assert together["model.layers.3.mlp.down_proj"].shape == (48,)


def test_layer_by_layer_the_sites_see_what_they_see_in_the_whole_model(tmp_path: Path) -> None:
    tiny(tmp_path)
    watcher, g = Maxima(), GraphBuilder(tmp_path / "whole.onnx")
    GemmaDecoder(g, Checkpoint(tmp_path), 100, watcher).add(3)
    g.save(TOKEN_INPUTS, [(name, Port(site, np.float32, ("channels",))) for site, name in watcher.sites.items()])
    ids, mask = pad([ROWS[0]])

    whole = run(tmp_path / "whole.onnx", ids, mask, list(watcher.sites))

    layers = watched(tmp_path, Maxima, [ROWS[0]])
    assert list(layers) == list(whole)
    for site, values in layers.items():
        np.testing.assert_allclose(values, whole[site], rtol=1e-5)


def test_grams_are_the_products_of_every_tokens_inputs(tmp_path: Path) -> None:
    tiny(tmp_path)
    each = [watched(tmp_path, Grams, [row]) for row in ROWS]

    together = watched(tmp_path, Grams, ROWS)

    largest = watched(tmp_path, Maxima, ROWS)
    for site, gram in together.items():
        np.testing.assert_allclose(gram, sum(one[site] for one in each), rtol=1e-4, atol=1e-3)
        np.testing.assert_array_equal(np.diagonal(gram, axis1=1, axis2=2).ravel() > 0, largest[site] > 0)
    assert together["model.layers.3.mlp.down_proj"].shape == (1, 48, 48)
