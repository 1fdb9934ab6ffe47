"""Graphs are written the same way each time, in one file when small and with mappable weights when large."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from distillery_exporter.graphs import builder
from distillery_exporter.graphs.builder import ALIGNMENT_BYTES, GraphBuilder, Port
from distillery_runtime.models.session import Graph

WEIGHTS = [np.random.default_rng(seed).uniform(-0.1, 0.1, (40, 40)).astype(np.float32) for seed in range(3)]
VALUES = np.linspace(-1, 1, 80, dtype=np.float32).reshape(2, 40)


def write(path: Path) -> tuple[Path, ...]:
    g = GraphBuilder(path)
    result = "x"
    for weight in WEIGHTS:
        result = g.op("Add", [g.op("MatMul", [result, g.init(weight)]), g.floats(1)])
    return g.save([Port("x", np.float32, ("batch", 40))], [(result, Port("y", np.float32, ("batch", 40)))])


def expected() -> np.ndarray:
    result = VALUES
    for weight in WEIGHTS:
        result = result @ weight + 1
    return result


def test_a_small_model_is_a_single_file(tmp_path: Path) -> None:
    files = write(tmp_path / "model.onnx")

    assert files == (tmp_path / "model.onnx",)
    assert list(tmp_path.iterdir()) == [tmp_path / "model.onnx"]


def test_weights_beyond_the_limit_go_to_a_file_of_their_own_at_page_offsets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "INLINE_BYTES", 10_000)

    files = write(tmp_path / "model.onnx")

    assert files == (tmp_path / "model.onnx", tmp_path / "model.onnx.data")
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    outside = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    places = [{entry.key: entry.value for entry in t.external_data} for t in outside]
    assert len(places) == len(WEIGHTS)
    assert all(int(place["offset"]) % ALIGNMENT_BYTES == 0 for place in places)
    assert {place["location"] for place in places} == {"model.onnx.data"}


@pytest.mark.parametrize("limit", [10_000, 64 << 20])
def test_a_graph_computes_the_same_with_its_weights_inside_or_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(builder, "INLINE_BYTES", limit)
    write(tmp_path / "model.onnx")

    result = Graph(tmp_path / "model.onnx", ["x"], ["y"], "cpu", 1).run({"x": VALUES})["y"]

    np.testing.assert_allclose(result, expected(), atol=1e-6)


@pytest.mark.parametrize("limit", [10_000, 64 << 20])
def test_the_same_calls_write_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(builder, "INLINE_BYTES", limit)
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        contents.append([path.read_bytes() for path in write(tmp_path / name / "model.onnx")])

    assert contents[0] == contents[1]


def test_equal_constants_are_stored_once(tmp_path: Path) -> None:
    g = GraphBuilder(tmp_path / "model.onnx")

    assert g.ints(1, 2) == g.ints(1, 2)
    assert g.ints(1) != g.floats(1)
    assert g.ints(1, 2) != g.const(np.array([[1, 2]]))


def test_a_weight_may_change_after_it_was_added(tmp_path: Path) -> None:
    g = GraphBuilder(tmp_path / "model.onnx")
    weight = np.ones((1, 1024), dtype=np.float32)

    result = g.op("Add", ["x", g.init(weight)])
    weight[:] = 5
    g.save([Port("x", np.float32, (1, 1))], [(result, Port("y", np.float32, (1, 1024)))])

    y = Graph(tmp_path / "model.onnx", ["x"], ["y"], "cpu", 1).run({"x": np.zeros((1, 1), np.float32)})["y"]
    np.testing.assert_array_equal(y, 1)
