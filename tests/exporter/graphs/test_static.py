"""The static encoder's graph equals the same sums in numpy, and keeps its table in int8."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from distillery_exporter.graphs.token_table import build_static_encoder
from distillery_runtime.errors import InputError
from distillery_runtime.models.session import Graph

RNG = np.random.default_rng(3)
TABLE = RNG.integers(-127, 128, (50, 16)).astype(np.int8)
SCALE = RNG.uniform(0.001, 0.02, 50).astype(np.float32)
IDS = np.array([[4, 9, 9, 31, 2], [7, 49, 0, 0, 0], [0, 0, 0, 0, 0]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
# Unit vectors summed in another order: a few float32 roundings.
TOLERANCE = 1e-6


def expected_pooled(table: NDArray[np.int8]) -> NDArray[np.float64]:
    rows = (table.astype(np.float64) * SCALE[:, None])[IDS]
    count = MASK.sum(1, keepdims=True)
    mean = (rows * MASK[..., None]).sum(1) / count
    unit = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    top = np.where(MASK[..., None] == 1, rows, -np.inf).max(1)
    return np.concatenate([unit, mean, top, np.log1p(count)], axis=1)


def pooled(path: Path, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    graph = Graph(path, ["input_ids", "attention_mask"], ["pooled"], "cpu", 1)
    return graph.run({"input_ids": ids, "attention_mask": mask})["pooled"]


def test_a_pooled_state_is_mean_maximum_and_count_of_the_real_tokens_rows(tmp_path: Path) -> None:
    build_static_encoder(tmp_path / "static.onnx", TABLE, SCALE)

    found = pooled(tmp_path / "static.onnx", IDS, MASK)

    np.testing.assert_allclose(found, expected_pooled(TABLE), atol=TOLERANCE)


def test_padding_changes_nothing(tmp_path: Path) -> None:
    build_static_encoder(tmp_path / "static.onnx", TABLE, SCALE)

    together = pooled(tmp_path / "static.onnx", IDS, MASK)
    alone = pooled(tmp_path / "static.onnx", IDS[1:2, :3], MASK[1:2, :3])

    np.testing.assert_allclose(together[1:2], alone, atol=TOLERANCE)


def test_a_text_of_unknown_or_of_no_tokens_stays_zero(tmp_path: Path) -> None:
    scale = SCALE.copy()
    scale[4] = 0
    build_static_encoder(tmp_path / "static.onnx", TABLE, scale)

    found = pooled(tmp_path / "static.onnx", np.array([[4, 4], [7, 7]]), np.array([[1, 1], [0, 0]]))

    np.testing.assert_array_equal(found, 0)


def test_the_table_takes_one_byte_a_value(tmp_path: Path) -> None:
    table = np.tile(TABLE, (20, 4))

    files = build_static_encoder(tmp_path / "static.onnx", table, np.tile(SCALE, 20))

    assert files == (tmp_path / "static.onnx",)
    assert table.size < files[0].stat().st_size < 1.2 * table.size


def test_a_table_and_a_scale_of_different_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="static table"):
        build_static_encoder(tmp_path / "static.onnx", TABLE, SCALE[:-1])
