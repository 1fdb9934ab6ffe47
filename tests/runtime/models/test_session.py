"""Sessions and what bundles share: opened once, with the right options, from files that are really equal."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from distillery_runtime import BundleError
from distillery_runtime.models.cpu import usable_cores
from distillery_runtime.models.session import Graph, session_options
from distillery_runtime.models.shared import Shared
from distillery_runtime.spec.model import Window

TOKENS = ("input_ids", "attention_mask")


def test_a_session_uses_the_cores_there_are_and_does_not_spin() -> None:
    options = session_options(None)

    assert options.intra_op_num_threads == usable_cores()
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert session_options(3).intra_op_num_threads == 3


def test_outputs_that_are_not_those_expected_are_refused(bundle: Path) -> None:
    with pytest.raises(BundleError, match="outputs pooled, expected raw, scores"):
        Graph(bundle / "probe" / "encoder.onnx", TOKENS, ("raw", "scores"), "cpu", 1)


def test_equal_graphs_are_opened_once(bundle: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    shared = Shared()

    graphs = [shared.graph(path / "probe" / "encoder.onnx", TOKENS, ("pooled",), "cpu", 1) for path in (bundle, other)]

    assert graphs[0] is graphs[1]
    assert shared.graph(bundle / "probe" / "encoder.onnx", TOKENS, ("pooled",), "cpu", 2) is not graphs[0]


def test_graphs_that_differ_only_in_their_data_file_are_not_taken_for_equal(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    paths = [scaling_graph(onnx, tmp_path / str(factor), factor) for factor in (2.0, 3.0)]
    shared = Shared()

    answers = [
        shared.graph(path, ("x",), ("y",), "cpu", 1).run({"x": np.ones((1, 1), np.float32)})["y"].item()
        for path in paths
    ]

    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert answers == [2.0, 3.0]


def scaling_graph(onnx: object, folder: Path, factor: float) -> Path:
    """A graph that multiplies by a number that stands in its data file."""
    from onnx import TensorProto, external_data_helper, helper, numpy_helper, save

    folder.mkdir()
    weight = numpy_helper.from_array(np.full((1, 1), factor, np.float32), "w")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    external_data_helper.convert_model_to_external_data(model, location="model.onnx.data", size_threshold=0)
    save(model, folder / "model.onnx")
    return folder / "model.onnx"


def test_equal_tokenizers_are_opened_once_for_one_window(bundle: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    shared, window = Shared(), Window(max_tokens=16)

    first = shared.window(bundle / "probe" / "tokenizer.json", window, "")

    assert shared.window(other / "student" / "tokenizer.json", window, "") is first
    assert shared.window(other / "probe" / "tokenizer.json", Window(max_tokens=17), "") is not first
    assert shared.window(other / "probe" / "tokenizer.json", window, "query: ") is not first


def test_a_bundle_replaced_at_the_same_place_is_opened_again(bundle: Path) -> None:
    shared, path = Shared(), bundle / "probe" / "head.onnx"

    graphs = []
    for _ in range(2):
        graphs.append(shared.graph(path, ("pooled",), ("raw", "scores"), "cpu", 1))
        path.write_bytes(path.read_bytes() + b"\x32\x01x")  # another doc_string

    assert graphs[0] is not graphs[1]
