"""The scan of graphs: what onnxruntime would run is seen before it runs, whatever the bytes."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distillery_runtime.format import onnx_scan
from distillery_runtime.format.onnx_scan import OPERATORS, scan_graph

onnx = pytest.importorskip("onnx")
helper = onnx.helper

FIXTURE = Path(__file__).parents[2] / "fixtures" / "bundle-v1" / "student" / "cpu-fp32.onnx"
Model = Any  # ModelProto: onnx has no types here


def port(name: str) -> Any:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"])


def model_of(*nodes: Any, weights: Any = (), functions: Any = (), opsets: Any = ()) -> Model:
    graph = helper.make_graph(list(nodes), "g", [port("x")], [port("y")], list(weights))
    imports = [helper.make_opsetid("", 21), *opsets]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=10)


def node(kind: str, domain: str = "", **attributes: Any) -> Any:
    return helper.make_node(kind, ["x"], ["y"], domain=domain, **attributes)


BODY = helper.make_graph([node("Identity")], "body", [port("x")], [port("y")])


def external(**place: str) -> Any:
    """A weight in a data file."""
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def with_sparse_weight(model: Model) -> Model:
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "s")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, onnx.numpy_helper.from_array(np.zeros(1, np.int64), "i"), [4])
    )
    return model


def with_training(model: Model) -> Model:
    model.training_info.add().algorithm.CopyFrom(BODY)
    return model


FUNCTION = helper.make_function("local", "f", ["x"], ["y"], [node("Identity")], [helper.make_opsetid("", 21)])

REFUSED = {
    "a loop": model_of(node("Loop", body=BODY)),
    "a scan": model_of(node("Scan", body=BODY, num_scan_inputs=1)),
    "a branch": model_of(node("If", then_branch=BODY, else_branch=BODY)),
    "a map of sequences": model_of(node("SequenceMap", body=BODY)),
    "a sequence": model_of(node("SequenceConstruct")),
    "chance": model_of(node("RandomNormalLike")),
    "strings": model_of(node("StringNormalizer")),
    "an unknown operator": model_of(node("Nonsense")),
    "an operator without a name": model_of(node("")),
    "python": model_of(node("PyOp", "com.microsoft.extensions"), opsets=[helper.make_opsetid("x", 1)]),
    "a search": model_of(node("BeamSearch", "com.microsoft", decoder=BODY)),
    "another domain": model_of(node("Add", "ai.onnx.ml")),
    "a subgraph of a plain operator": model_of(node("Identity", extra=BODY)),
    "subgraphs of a plain operator": model_of(node("Identity", extra=[BODY, BODY])),
    "a function of its own": model_of(
        node("f", "local"), functions=[FUNCTION], opsets=[helper.make_opsetid("local", 1)]
    ),
    "a function that nobody calls": model_of(node("Identity"), functions=[FUNCTION]),
    "an opset of another domain": model_of(node("Identity"), opsets=[helper.make_opsetid("local", 1)]),
    "sparse weights": with_sparse_weight(model_of(node("Identity"))),
    "training": with_training(model_of(node("Identity"))),
    "a nameless data file": model_of(node("Identity"), weights=[external(offset="0")]),
    "a negative offset": model_of(node("Identity"), weights=[external(location="w", offset="-1")]),
    "an offset that is no number": model_of(node("Identity"), weights=[external(location="w", offset="1e3")]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_plain_tensor_program_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        scan_graph(REFUSED[name].SerializeToString())


def test_operators_and_data_files_are_found_wherever_they_stand() -> None:
    inside = helper.make_node("Constant", [], ["c"], value=external(location="b.data", offset="8", length="4"))
    weights = [external(location="a.data", offset=str(4096 * i), length="16") for i in range(3)]

    scan = scan_graph(model_of(node("Gelu", "com.microsoft"), inside, weights=weights).SerializeToString())

    assert scan.operators == {"com.microsoft.Gelu", ".Constant"}
    assert scan.data_files == {"a.data": 8208, "b.data": 12}


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"ORTM", b"\x00\x00\x00\x00ORTM" + bytes(64), b"import os\n", b"\x7fELF" + bytes(64),
     b"\x80\x04K\x01.", b"PK\x03\x04", b"{}", b"\x08\x0a", b"\x3a\x00" * 2, b"\x0b",
     b"\xba\x80\x80\x80\x80\x00\x00", b"\x3a\xff\xff\xff\xff\x0f"],
)  # fmt: skip
def test_bytes_that_are_no_graph_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"expected|not an ONNX"):
        scan_graph(data)


def test_a_file_of_countless_fields_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_scan, "MAX_FIELDS", 1000)  # the reading of 300,000 takes a second or more

    with pytest.raises(ValueError, match="more than 1,000 fields"):
        scan_graph(b"\x08\x0a" * 1001)


def mutated(data: bytes, generator: random.Random) -> bytes:
    """The bytes with a few of them changed, left out, or there twice."""
    changed = bytearray(data)
    for _ in range(generator.randrange(1, 4)):
        place = generator.randrange(len(changed))
        match generator.randrange(4):
            case 0:
                changed[place] ^= 1 << generator.randrange(8)
            case 1:
                changed[place] = generator.randrange(256)
            case 2:
                del changed[place : place + generator.randrange(1, 9)]
            case _:
                changed[place:place] = changed[place : place + generator.randrange(1, 40)]
    return bytes(changed)


def read_by_protobuf(data: bytes) -> tuple[set[str], set[str]]:
    """Operators at any depth, and the names of data files."""
    operators: set[str] = set()
    files: set[str] = set()
    graphs = [onnx.ModelProto.FromString(data).graph]
    while graphs:
        graph = graphs.pop()
        tensors = list(graph.initializer)
        for item in graph.node:
            operators.add(f"{item.domain}.{item.op_type}")
            for attribute in item.attribute:
                graphs.extend([*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])])
                tensors.extend([*attribute.tensors, attribute.t])
        files.update(entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location")
    return operators, files


@pytest.mark.parametrize(
    "source",
    [
        FIXTURE.read_bytes(),
        model_of(node("Identity"), weights=[external(location="w.data", offset="4")]).SerializeToString(),
        model_of(node("Identity"), node("Loop", body=BODY)).SerializeToString(),
    ],
    ids=["fixture", "data file", "loop"],
)
def test_nothing_that_protobuf_reads_escapes_the_scan(source: bytes) -> None:
    from google.protobuf.message import DecodeError

    generator = random.Random(1)
    for _ in range(400):
        data = mutated(source, generator)
        try:
            scan = scan_graph(data)
            operators, files = read_by_protobuf(data)
        except (ValueError, DecodeError):
            continue
        assert operators <= scan.operators
        assert files <= set(scan.data_files)
        assert all(name in OPERATORS[domain] for domain, _, name in (o.rpartition(".") for o in scan.operators))
