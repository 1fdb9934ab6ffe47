"""The keys of LoRA adapters, in the dialects that tools write (no torch needed)."""

import pytest

from distillery_runtime.errors import InputError
from distillery_trainer.models.adapters import check_pairs, normalise_keys

SHORT = "model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("key", "short"),
    [
        (f"base_model.model.{SHORT}", SHORT),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", SHORT),
        (
            "base_model.model.model.layers.3.mlp.up_proj.lora_B.default.weight",
            "model.layers.3.mlp.up_proj.lora_B.weight",
        ),
        ("base_model.model.score.weight", "score.weight"),
        ("base_model.model.score.modules_to_save.weight", "score.weight"),
        ("base_model.model.score.modules_to_save.default.weight", "score.weight"),
        ("score.modules_to_save.default.weight", "score.weight"),
        ("score.weight", "score.weight"),
    ],
)
def test_every_dialect_has_the_same_short_key(key: str, short: str) -> None:
    assert normalise_keys([key]) == {key: short}


def test_the_head_from_before_training_is_left_out() -> None:
    keys = ["base_model.model.score.original_module.weight", "score.original_module.weight"]

    assert normalise_keys(keys) == {}


def test_two_keys_for_one_tensor_are_refused_by_name() -> None:
    keys = ["score.weight", "base_model.model.score.weight", "base_model.model.score.modules_to_save.weight"]

    with pytest.raises(InputError) as caught:
        normalise_keys(keys)

    assert [problem.path for problem in caught.value.problems] == keys[1:]


def test_an_adapter_with_every_expected_key_passes() -> None:
    check_pairs({"a", "b"}, {"a", "b"}, "adapter")


def test_all_missing_and_all_unexpected_keys_are_listed() -> None:
    with pytest.raises(InputError) as caught:
        check_pairs({"a", "x", "y"}, {"a", "b", "c"}, "adapter.safetensors")

    assert [(problem.path, problem.found) for problem in caught.value.problems] == [
        ("b", "missing"),
        ("c", "missing"),
        ("x", "present"),
        ("y", "present"),
    ]
    assert str(caught.value).startswith("adapter.safetensors: b: missing")
