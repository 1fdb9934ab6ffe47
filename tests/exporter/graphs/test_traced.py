"""Traced architectures give what transformers gives, through the ports, pooling, head and tables of every graph."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from distillery_exporter.graphs.builder import OPSET, GraphBuilder, Port
from distillery_exporter.graphs.traced import (
    add_model,
    build_traced_decoder_regressor,
    build_traced_encoder,
    build_traced_encoder_regressor,
    is_hand_written,
)
from distillery_exporter.graphs.weights import Checkpoint, MergedCheckpoint
from distillery_runtime.errors import InputError, ProviderError
from distillery_runtime.models.session import Graph
from distillery_runtime.spec.calibration import ReadOut, identity
from distillery_runtime.tokens.window import TokenIds, pad

CLIPS = ReadOut(identity("abc"), identity("abc"))

# torch folds and orders sums in its own way.
PARITY = 2e-5
WINDOW = 8
# One token, within, at and beyond the local window, and a padded batch of them all.
LENGTHS = [[1], [WINDOW], [20], [20, 5, 13, 1], [60, 33]]
SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
ENCODERS: dict[str, dict[str, object]] = {
    "bert": {"hidden_act": "relu"},
    "modernbert": {**SPECIAL, "local_attention": WINDOW, "global_attn_every_n_layers": 2},
}
DECODERS: dict[str, dict[str, object]] = {
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 1, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BERT = {"model_type": "bert", "type_vocab_size": 2, "hidden_act": "gelu", **SIZES}
GEMMA = {"model_type": "gemma3_text", "num_key_value_heads": 1, **SIZES}
TOKENS = ["input_ids", "attention_mask"]
HEAD = np.random.default_rng(0).standard_normal((3, 32)) / 4, np.array([2.0, 4.0, 6.0])


def tiny(kind: str, folder: Path, **changes: object) -> Any:
    """A random model of this type, saved to a folder: an encoder, or a decoder with three scores."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    torch.manual_seed(7)
    if kind in ENCODERS:
        config = transformers.AutoConfig.for_model(kind, **(SIZES | ENCODERS[kind] | changes))
        model = transformers.AutoModel.from_config(config).eval()
    else:
        config = transformers.AutoConfig.for_model(kind, **(SIZES | DECODERS[kind] | changes), num_labels=3)
        model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
    model.save_pretrained(folder)
    return model


def batch(lengths: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(len(lengths))
    return pad([TokenIds(rng.integers(3, 99, length), False) for length in lengths])


def states(model: Any, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    import torch

    with torch.inference_mode():
        arrays = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        return model(**arrays).last_hidden_state.numpy()


def mean(values: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    return (values * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)


def run(path: Path, lengths: list[int], *outputs: str) -> dict[str, NDArray[np.float32]]:
    ids, mask = batch(lengths)
    return Graph(path, TOKENS, outputs, "cpu", 1).run({"input_ids": ids, "attention_mask": mask})


def check_decoder(path: Path, model: Any, layers: Any) -> None:
    """`model` has the head; `layers` are what gives its token states."""
    head = dict(model.named_parameters())
    weight = next(value for name, value in head.items() if "score" in name and "original" not in name)
    for lengths in LENGTHS:
        ids, mask = batch(lengths)
        last = states(layers, ids, mask)[np.arange(len(ids)), mask.sum(1) - 1]
        expected = last @ weight.detach().numpy().T

        found = run(path, lengths, "raw", "expected", "scores")

        np.testing.assert_allclose(found["raw"], expected, atol=PARITY)
        np.testing.assert_allclose(found["scores"], np.clip(expected, 0, 10), atol=PARITY)


@pytest.mark.slow  # torch takes seconds to trace anything
def test_a_llama_gives_what_transformers_gives(tmp_path: Path) -> None:
    model = tiny("llama", tmp_path, num_hidden_layers=1)

    files = build_traced_decoder_regressor(tmp_path / "t.onnx", Checkpoint(tmp_path), 3, CLIPS, 64)

    assert files == (tmp_path / "t.onnx",)
    assert list(tmp_path.glob(".trace-*")) == []
    check_decoder(tmp_path / "t.onnx", model, model.model)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(DECODERS))
def test_a_decoder_with_a_merged_adapter_gives_what_peft_gives(tmp_path: Path, kind: str) -> None:
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    settings = peft.LoraConfig(
        task_type="SEQ_CLS", r=4, lora_alpha=12, target_modules=LINEARS, modules_to_save=["score"]
    )
    model = peft.get_peft_model(tiny(kind, tmp_path / "base"), settings).eval()
    for parameter in (p for name, p in model.named_parameters() if "lora_" in name or "modules_to_save" in name):
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "adapter")
    merged = MergedCheckpoint(Checkpoint(tmp_path / "base"), tmp_path / "adapter")

    build_traced_decoder_regressor(tmp_path / "t.onnx", merged, 3, CLIPS, 64)

    check_decoder(tmp_path / "t.onnx", model, model.get_base_model().model)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(ENCODERS))
def test_an_encoder_pools_what_transformers_pools(tmp_path: Path, kind: str) -> None:
    model, checkpoint = tiny(kind, tmp_path), Checkpoint(tmp_path)
    build_traced_encoder(tmp_path / "e.onnx", checkpoint, "mean", normalise=True)
    build_traced_encoder_regressor(tmp_path / "r.onnx", checkpoint, "cls", *HEAD, CLIPS)

    for lengths in LENGTHS:
        ids, mask = batch(lengths)
        values = states(model, ids, mask)
        pooled = mean(values, mask)
        raw = values[:, 0] @ HEAD[0].T + HEAD[1]

        found = run(tmp_path / "e.onnx", lengths, "pooled") | run(
            tmp_path / "r.onnx", lengths, "raw", "expected", "scores"
        )

        np.testing.assert_allclose(found["pooled"], pooled / np.linalg.norm(pooled, axis=1, keepdims=True), atol=PARITY)
        np.testing.assert_allclose(found["raw"], raw, atol=PARITY)
        np.testing.assert_allclose(found["scores"], np.clip(raw, 0, 10), atol=PARITY)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(ENCODERS))
def test_joined_layers_are_the_hidden_states_of_transformers(tmp_path: Path, kind: str) -> None:
    torch, model = pytest.importorskip("torch"), tiny(kind, tmp_path)
    build_traced_encoder(tmp_path / "e.onnx", Checkpoint(tmp_path), "mean_max", normalise=False, layers=(1, 2))
    ids, mask = batch([20, 5])

    found = run(tmp_path / "e.onnx", [20, 5], "pooled")["pooled"]

    with torch.inference_mode():
        arrays = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        hidden = model(**arrays, output_hidden_states=True).hidden_states
    maxima = [np.where(mask[..., None] == 1, hidden[n].numpy(), -np.inf).max(axis=1) for n in (1, 2)]
    means = [mean(hidden[n].numpy(), mask) for n in (1, 2)]
    expected = [means[0], maxima[0], means[1], maxima[1]]
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), atol=PARITY)


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    tiny("llama", tmp_path, num_hidden_layers=1)

    for name in ("a.onnx", "b.onnx"):
        build_traced_decoder_regressor(tmp_path / name, Checkpoint(tmp_path), 3, CLIPS, 64)

    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_model_whose_steps_depend_on_the_length_is_refused(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
    tiny("llama", tmp_path, num_hidden_layers=1, rope_parameters=rope)

    with pytest.raises(InputError, match=r"model_type llama cannot be traced .*expected a model whose steps"):
        build_traced_decoder_regressor(tmp_path / "t.onnx", Checkpoint(tmp_path), 3, CLIPS, 64)


def test_an_encoder_is_no_decoder_nor_the_other_way_round(tmp_path: Path) -> None:
    tiny("modernbert", tmp_path / "encoder")
    tiny("llama", tmp_path / "decoder")

    with pytest.raises(InputError, match="model_type modernbert, expected a text decoder"):
        build_traced_decoder_regressor(tmp_path / "t.onnx", Checkpoint(tmp_path / "encoder"), 3, CLIPS, 64)
    with pytest.raises(InputError, match="model_type llama, expected an encoder"):
        build_traced_encoder(tmp_path / "t.onnx", Checkpoint(tmp_path / "decoder"), "mean", normalise=True)


@pytest.mark.parametrize(("dimensions", "max_tokens"), [(2, 64), (3, 65), (3, 0)])
def test_arguments_that_do_not_fit_the_model_are_refused(tmp_path: Path, dimensions: int, max_tokens: int) -> None:
    tiny("llama", tmp_path)

    with pytest.raises(InputError):
        build_traced_decoder_regressor(tmp_path / "t.onnx", Checkpoint(tmp_path), dimensions, CLIPS, max_tokens)


@pytest.mark.parametrize("package", ["onnxscript", "torch", "transformers"])
def test_a_missing_package_is_named_with_what_installs_it(
    tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny("modernbert", tmp_path)
    monkeypatch.delitem(sys.modules, "distillery_trainer.neural.trace", raising=False)
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(ProviderError, match=rf"{package} is not installed.*pip install 'distillery-exporter\[torch\]'"):
        build_traced_encoder(tmp_path / "t.onnx", Checkpoint(tmp_path), "mean", normalise=True)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (BERT, True),
        (BERT | {"model_type": "xlm-roberta"}, True),
        (GEMMA, True),
        (BERT | {"hidden_act": "relu"}, False),
        (GEMMA | {"attn_logit_softcapping": 50.0}, False),
        (BERT | {"model_type": "modernbert"}, False),
        (GEMMA | {"model_type": "llama"}, False),
        ({}, False),
    ],
)
def test_what_has_no_graph_of_ours_is_traced(config: dict[str, object], expected: bool) -> None:
    assert is_hand_written(config) is expected


def save(path: Path, *nodes: onnx.NodeProto, opset: int = OPSET, weights: tuple[onnx.TensorProto, ...] = ()) -> Path:
    """A model from `input_ids` (B, T) int64 to `y`, float32 with a last axis of 3; its weights in a file beside it."""
    into = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ("b", "t"))
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ("b", "t", 3))
    graph = helper.make_graph(list(nodes), "other", [into], [out], list(weights))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
    return path


def test_a_model_taken_over_answers_as_before_under_our_names(tmp_path: Path) -> None:
    table = np.random.default_rng(1).standard_normal((400, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["weight_1"]),
        helper.make_node("LayerNormalization", ["weight_1", "gain"], ["n", "", "s"], axis=-1, epsilon=0.5),
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32(2))),
        helper.make_node("Mul", ["n", "c"], ["y"]),
    ]
    gain = numpy_helper.from_array(np.array([1, 2, 3], np.float32), "gain")
    weights = (numpy_helper.from_array(table, "table"), gain)
    path, ids = save(tmp_path / "other.onnx", *nodes, weights=weights), np.array([[5, 399], [0, 1]])

    g = GraphBuilder(tmp_path / "ours.onnx")
    (name,), width = add_model(g, path)
    port = Port("input_ids", np.int64, ("b", "t"))
    g.save([port], [(name, Port("states", np.float32, ("b", "t", width)))])

    assert width == 3
    before = Graph(path, ["input_ids"], ["y"], "cpu", 1).run({"input_ids": ids})["y"]
    after = Graph(tmp_path / "ours.onnx", ["input_ids"], ["states"], "cpu", 1).run({"input_ids": ids})["states"]
    np.testing.assert_array_equal(after, before)
    rows = table[ids] - table[ids].mean(-1, keepdims=True)
    expected = 2 * rows / np.sqrt(rows.var(-1, keepdims=True) + 0.5) * [1, 2, 3]
    np.testing.assert_allclose(after, expected, atol=1e-5)


IF = helper.make_node("If", ["input_ids"], ["y"], then_branch=helper.make_graph([], "g", [], []))


@pytest.mark.parametrize(
    ("node", "opset", "message"),
    [
        (helper.make_node("Cast", ["input_ids"], ["y"], to=1), 18, f"opset_import: 18, expected {OPSET}"),
        (
            helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft"),
            OPSET,
            r"node: com\.microsoft\.Gelu, expected",
        ),
        (IF, OPSET, "node: If, expected operators without a subgraph"),
    ],
)
def test_a_model_that_cannot_be_taken_over_is_refused(
    tmp_path: Path, node: onnx.NodeProto, opset: int, message: str
) -> None:
    path = save(tmp_path / "other.onnx", node, opset=opset)

    with pytest.raises(InputError, match=message):
        add_model(GraphBuilder(tmp_path / "ours.onnx"), path)
