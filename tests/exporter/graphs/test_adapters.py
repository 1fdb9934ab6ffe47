"""A LoRA adapter merged into a graph gives what peft gives unmerged, and an incomplete one never passes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from distillery_exporter.graphs.gemma import build_gemma_regressor
from distillery_exporter.graphs.weights import Checkpoint, MergedCheckpoint
from distillery_runtime.errors import InputError
from distillery_runtime.models.session import Graph
from distillery_runtime.spec.calibration import ReadOut, identity
from distillery_runtime.tokens.window import TokenIds, pad

CLIPS = ReadOut(identity("abc"), identity("abc"))

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

PARITY = 5e-5
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

Tensors = dict[str, NDArray]


def tiny_base(folder: Path) -> Any:
    config = transformers.Gemma3TextConfig(
        vocab_size=99,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention"],
        max_position_embeddings=64,
        num_labels=3,
        pad_token_id=0,
    )
    torch.manual_seed(1)
    model = transformers.Gemma3TextForSequenceClassification(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.model.save_pretrained(folder)  # without the head, as a base model comes
    return model


def adapted(root: Path, **changes: object) -> Any:
    """A random base in `base/`, a random adapter on it in `adapter/`, and the model of both."""
    settings = {"r": 4, "lora_alpha": 12, "target_modules": LINEARS, "modules_to_save": ["score"]} | changes
    model = peft.get_peft_model(tiny_base(root / "base"), peft.LoraConfig(task_type="SEQ_CLS", **settings)).eval()
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(root / "adapter")
    return model


def rewrite(root: Path, change: Callable[[Tensors], Tensors]) -> None:
    save_file(change(load_file(root / "adapter" / WEIGHTS)), root / "adapter" / WEIGHTS)


def built(root: Path) -> dict[str, NDArray[np.float32]]:
    checkpoint = MergedCheckpoint(Checkpoint(root / "base"), root / "adapter")
    build_gemma_regressor(root / "gemma.onnx", checkpoint, 3, CLIPS, max_tokens=64)
    ids, mask = batch()
    graph = Graph(root / "gemma.onnx", ["input_ids", "attention_mask"], ["raw", "expected", "scores"], "cpu", 1)
    return graph.run({"input_ids": ids, "attention_mask": mask})


def batch() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(2)
    return pad([TokenIds(rng.integers(1, 99, length), False) for length in (40, 9, 17)])


def expected(model: Any) -> NDArray[np.float32]:
    ids, mask = batch()
    with torch.inference_mode():
        return model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits.numpy()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.self_attn\.(q|v)_proj"},
        {"layers_to_transform": [1]},
    ],
    ids=["named", "all-linear", "pattern", "last-layer"],
)
def test_a_merged_adapter_gives_what_peft_gives_unmerged(tmp_path: Path, changes: dict[str, object]) -> None:
    model = adapted(tmp_path, **changes)

    found = built(tmp_path)

    np.testing.assert_allclose(found["raw"], expected(model), atol=PARITY)


def test_an_adapter_changes_the_answers(tmp_path: Path) -> None:
    model = adapted(tmp_path)
    with_adapter = expected(model)
    with model.disable_adapter():
        without = expected(model)

    assert np.abs(with_adapter - without).max() > 0.1


def older_names(tensors: Tensors) -> Tensors:
    named = {
        key.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default."): value
        for key, value in tensors.items()
    }
    head = named.pop("base_model.model.score.weight")
    named["base_model.model.score.modules_to_save.default.weight"] = head
    named["base_model.model.score.original_module.weight"] = head + 1
    return named


def bare_head(tensors: Tensors) -> Tensors:
    return {("score.weight" if "score" in key else key): value for key, value in tensors.items()}


@pytest.mark.parametrize("dialect", [older_names, bare_head])
def test_an_adapter_in_another_dialect_gives_the_same(tmp_path: Path, dialect: Callable[[Tensors], Tensors]) -> None:
    model = adapted(tmp_path)
    rewrite(tmp_path, dialect)

    np.testing.assert_allclose(built(tmp_path)["raw"], expected(model), atol=PARITY)


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: value for key, value in tensors.items() if part not in key}


def renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key.replace(old, new): value for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("layers.1.mlp.up_proj.lora_B"), r"model\.layers\.1\.mlp\.up_proj\.lora_B\.weight: missing"),
        (without("lora_A"), r"model\.layers\.0\.mlp\.down_proj\.lora_A\.weight: missing"),
        (renamed("layers.1.", "layers.7."), r"model\.layers\.7\.mlp\.down_proj\.lora_A\.weight: present"),
        (renamed("model.layers.", "layers."), r"model\.layers\.1\.self_attn\.v_proj\.lora_B\.weight: missing"),
        (renamed("lora_A", "lora_embedding_A"), r"lora_embedding_A\S*: present"),
        (without("score"), r"score\.weight: no such tensor"),
    ],
    ids=["half-a-pair", "no-a", "unknown-layer", "wrong-prefix", "unknown-kind", "no-head"],
)
def test_an_adapter_that_is_incomplete_or_not_used_whole_is_refused(
    tmp_path: Path, change: Callable[[Tensors], Tensors], message: str
) -> None:
    adapted(tmp_path)
    rewrite(tmp_path, change)

    with pytest.raises(InputError, match=message):
        built(tmp_path)


def test_a_head_in_the_base_never_stands_in_for_the_adapters(tmp_path: Path) -> None:
    adapted(tmp_path)
    rewrite(tmp_path, without("score"))
    save_file({"score.weight": np.ones((3, 32), np.float32)}, tmp_path / "base" / "head.safetensors")

    with pytest.raises(InputError, match=r"adapter: score\.weight: no such tensor"):
        built(tmp_path)


def test_a_lora_tensor_of_another_rank_is_refused(tmp_path: Path) -> None:
    adapted(tmp_path)
    settings = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    (tmp_path / "adapter" / CONFIG).write_text(json.dumps(settings | {"r": 5}))

    with pytest.raises(InputError, match=r"lora_A\.weight: float32 of shape \(4, 32\), expected .* \(5, 32\)"):
        built(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_rslora": True}, r"adapter_config\.json: use_rslora: True, expected False"),
        ({"use_dora": True}, "use_dora: True, expected False"),
        ({"bias": "all"}, "bias: 'all', expected 'none'"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern: {'q_proj': 8}"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: 'pissa'"),
        ({"peft_type": "LOHA"}, "peft_type: 'LOHA', expected 'LORA'"),
    ],
)
def test_a_variant_that_is_no_plain_lora_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    adapted(tmp_path)
    settings = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    (tmp_path / "adapter" / CONFIG).write_text(json.dumps(settings | changes))

    with pytest.raises(InputError, match=message):
        MergedCheckpoint(Checkpoint(tmp_path / "base"), tmp_path / "adapter")
