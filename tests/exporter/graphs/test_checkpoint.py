"""Weights are found by name in every form of a checkpoint, and what is missing or misshapen is said."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from distillery_exporter.graphs.weights import Checkpoint
from distillery_runtime.errors import InputError

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def folder_with(folder: Path, files: dict[str, dict[str, NDArray]]) -> Path:
    (folder / "config.json").write_text('{"model_type": "bert"}')
    for name, tensors in files.items():
        save_file(tensors, folder / name)
    return folder


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_every_stored_precision_is_read_as_float32(tmp_path: Path, dtype: type) -> None:
    checkpoint = Checkpoint(folder_with(tmp_path, {"model.safetensors": {"a.weight": VALUES.astype(dtype)}}))

    found = checkpoint.get("a.weight", (2, 3))

    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, VALUES)


@pytest.mark.parametrize("stored", ["a.weight", "model.a.weight", "bert.a.weight", "roberta.a.weight"])
@pytest.mark.parametrize("asked", ["a.weight", "model.a.weight"])
def test_the_name_of_the_model_around_a_tensor_does_not_matter(tmp_path: Path, stored: str, asked: str) -> None:
    checkpoint = Checkpoint(folder_with(tmp_path, {"model.safetensors": {stored: VALUES}}))

    np.testing.assert_array_equal(checkpoint.get(asked, (2, 3)), VALUES)


def test_a_sharded_checkpoint_is_read_whole(tmp_path: Path) -> None:
    shards = {"model-00001-of-00002.safetensors": {"a": VALUES}, "model-00002-of-00002.safetensors": {"b": VALUES + 1}}
    checkpoint = Checkpoint(folder_with(tmp_path, shards))

    np.testing.assert_array_equal(checkpoint.get("a", (2, 3)), VALUES)
    np.testing.assert_array_equal(checkpoint.get("b", (2, 3)), VALUES + 1)


def test_a_tensor_that_was_read_may_be_changed(tmp_path: Path) -> None:
    checkpoint = Checkpoint(folder_with(tmp_path, {"model.safetensors": {"a": VALUES}}))

    first = checkpoint.get("a", (2, 3))
    first += 1

    np.testing.assert_array_equal(checkpoint.get("a", (2, 3)), VALUES)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"b": VALUES}, r"a\.weight: no such tensor, expected one of shape \(2, 3\)"),
        ({"a.weight": VALUES.T.copy()}, r"a\.weight: float32 of shape \(3, 2\), expected .* of shape \(2, 3\)"),
        ({"a.weight": VALUES.astype(np.int64)}, r"a\.weight: int64 of shape \(2, 3\), expected float32"),
    ],
)
def test_a_missing_or_wrong_tensor_is_named_with_what_was_expected(
    tmp_path: Path, tensors: dict[str, NDArray], message: str
) -> None:
    checkpoint = Checkpoint(folder_with(tmp_path, {"model.safetensors": tensors}))

    with pytest.raises(InputError, match=message):
        checkpoint.get("a.weight", (2, 3))


def test_a_tensor_stored_twice_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"one.safetensors": {"a": VALUES}, "two.safetensors": {"a": VALUES}})

    with pytest.raises(InputError, match=r"a: also in two\.safetensors, expected every tensor once"):
        Checkpoint(folder)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\*\.safetensors: no such file"):
        Checkpoint(folder_with(tmp_path, {}))


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    folder_with(tmp_path, {})
    (tmp_path / "model.safetensors").write_bytes(b"not weights at all")

    with pytest.raises(InputError, match=r"model\.safetensors: .* expected a readable safetensors file"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("content", [None, "{", json.dumps([1])])
def test_a_missing_or_broken_config_is_refused(tmp_path: Path, content: str | None) -> None:
    save_file({"a": VALUES}, tmp_path / "model.safetensors")
    if content is not None:
        (tmp_path / "config.json").write_text(content)

    with pytest.raises(InputError, match=r"config\.json"):
        Checkpoint(tmp_path)
