"""Bundles that somebody sealed again with intent, and folders that change while they are loaded."""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from distillery_runtime import BundleError, HybridScorer, load
from distillery_runtime.bundles.load import open_bundle, open_stages
from distillery_runtime.format import integrity
from distillery_runtime.format.manifest import MAX_FILES, MIB, Manifest, seal

GRAPH = "student/cpu-fp32.onnx"
TOKENIZER = "student/tokenizer.json"
ARTICLE = {"id": "1", "title": "Wind", "text": "the wind and the sun"}

Content = dict[str, Any]


def reseal(bundle: Path, change: Callable[[Content], object] = lambda content: None) -> None:
    """Lists the files as they are now, changes the manifest as told, and seals it."""
    content = json.loads((bundle / "bundle.json").read_bytes())
    change(content)
    for entry in content["files"]:
        if (bundle / entry["path"]).is_file():
            data = (bundle / entry["path"]).read_bytes()
            entry.update(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    try:
        data = seal(Manifest.model_validate_json(json.dumps(content)))
    except ValueError:  # not a valid manifest: as it is
        data = json.dumps(content).encode()
    (bundle / "bundle.json").write_bytes(data)


def add_file(bundle: Path, name: str, data: bytes, role: str) -> None:
    (bundle / name).write_bytes(data)
    reseal(bundle, lambda content: content["files"].append(
        {"path": name, "role": role, "size_bytes": 0, "sha256": "0" * 64}))  # fmt: skip


@pytest.mark.parametrize("role", ["graph", "weights", "tokenizer"])
@pytest.mark.parametrize("name", ["x.ort", "x.py", "x.pkl", "x.so", "x.pt", "x.bin", "x.onnx.exe", "x"])
def test_a_file_of_no_known_kind_is_refused_in_every_role(bundle: Path, name: str, role: str) -> None:
    add_file(bundle, name, (bundle / GRAPH).read_bytes(), role)

    with pytest.raises(BundleError, match="whose name ends with"):
        load(bundle)


@pytest.mark.parametrize(("name", "role"), [("x.onnx", "graph"), ("x.onnx.data", "weights"), ("x.json", "tokenizer")])
@pytest.mark.parametrize(
    "data",
    [b"import os\n", b"\x7fELF" + bytes(60), b"\x80\x04K\x01.", b"PK\x03\x04", b"\x18\0\0\0ORTM" + bytes(60), b""],
)
def test_a_file_of_another_kind_under_a_known_name_is_refused(bundle: Path, name: str, role: str, data: bytes) -> None:
    add_file(bundle, name, data, role)

    with pytest.raises(BundleError, match=name):
        load(bundle)


@pytest.mark.parametrize("name", ["README.md", "quality.json", "reference.json", "golden.jsonl", "filter.json"])
@pytest.mark.parametrize("data", [b"\x7fELF\0\0", b"\xff\xfe\0", b"\x80\x04K\x01."])
def test_binary_data_in_place_of_text_is_refused(bundle: Path, name: str, data: bytes) -> None:
    (bundle / name).write_bytes(data)
    reseal(bundle)

    with pytest.raises(BundleError, match=name):
        open_bundle(bundle)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("quality.json", b'"' + b"a" * 4 * MIB + b'"'),
        ("golden.jsonl", b"\n" * (4 * MIB + 1)),
        ("README.md", b"a" * (4 * MIB + 1)),
        (TOKENIZER, b"{" + b" " * 64 * MIB + b"}"),
    ],
)
def test_a_file_beyond_its_roles_largest_size_is_refused(bundle: Path, name: str, data: bytes) -> None:
    (bundle / name).write_bytes(data)
    reseal(bundle)

    with pytest.raises(BundleError, match="at most"):
        load(bundle)


def test_more_files_than_a_bundle_has_are_refused(bundle: Path) -> None:
    def change(content: Content) -> None:
        card = next(entry for entry in content["files"] if entry["role"] == "card")
        content["files"] += [{**card, "role": "tokenizer", "path": f"{i}.json"} for i in range(MAX_FILES)]

    reseal(bundle, change)

    with pytest.raises(BundleError, match="files"):
        load(bundle)


def test_two_names_that_some_systems_take_for_one_are_refused(bundle: Path) -> None:
    add_file(bundle, "student/CPU-fp32.onnx", (bundle / GRAPH).read_bytes(), "graph")

    with pytest.raises(BundleError, match="each file listed once"):
        load(bundle)


@pytest.mark.parametrize("count", [201, 2000])
def test_countless_rules_are_refused_at_once(bundle: Path, count: int) -> None:
    spec = json.loads((bundle / "filter.json").read_bytes())
    spec["prefilter"] = [{"name": f"r{i}", "words": [f"word{i}"]} for i in range(count)]
    (bundle / "filter.json").write_text(json.dumps(spec), encoding="utf-8")
    reseal(bundle)

    with pytest.raises(BundleError, match="prefilter"):
        load(bundle)


def test_countless_phrases_are_refused_at_once(bundle: Path) -> None:
    spec = json.loads((bundle / "filter.json").read_bytes())
    words = [f"word{i}*" for i in range(500)]
    spec["prefilter"] = [{"name": f"r{i}", "words": words} for i in range(11)]
    (bundle / "filter.json").write_text(json.dumps(spec), encoding="utf-8")
    reseal(bundle)

    with pytest.raises(BundleError, match="phrases"):
        load(bundle)


def test_countless_goldens_are_refused(bundle: Path) -> None:
    golden = json.loads((bundle / "golden.jsonl").read_bytes().splitlines()[0])
    lines = [json.dumps({**golden, "id": str(i)}) for i in range(1001)]
    (bundle / "golden.jsonl").write_text("\n".join(lines), encoding="utf-8")
    reseal(bundle)

    with pytest.raises(BundleError, match="golden articles"):
        load(bundle)


def with_model(bundle: Path, change: Callable[[Any], object]) -> None:
    """Changes the student's graph (an onnx.ModelProto) and seals the bundle."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bundle / GRAPH, load_external_data=False)
    change(model)
    (bundle / GRAPH).write_bytes(model.SerializeToString())
    reseal(bundle)


def test_a_graph_with_an_endless_loop_is_refused_before_it_is_opened(bundle: Path) -> None:
    def loop(model: Any) -> None:
        from onnx import TensorProto, helper

        def port(name: str, kind: int) -> Any:
            return helper.make_tensor_value_info(name, kind, [])

        true = helper.make_tensor("v", TensorProto.BOOL, [], [True])
        go_on = helper.make_node("Constant", [], ["go_on"], value=true)
        ports = [port("i", TensorProto.INT64), port("c", TensorProto.BOOL)], [port("go_on", TensorProto.BOOL)]
        body = helper.make_graph([go_on], "body", *ports)
        model.graph.node.append(helper.make_node("Loop", ["", ""], [], body=body))

    with_model(bundle, loop)

    with pytest.raises(BundleError, match=r"student/cpu-fp32\.onnx: operator Loop"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../README.md", "../../outside", "tokenizer.json", "cpu-fp32.onnx", "nothing.data",
                 "*/_ORT_MEM_ADDR_/*", "./cpu-fp32.onnx.data/../../README.md", ""]
)  # fmt: skip
def test_weights_outside_of_the_listed_data_files_are_refused(bundle: Path, location: str) -> None:
    def move_out(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        for key, value in {"location": location, "offset": "0", "length": "8"}.items():
            tensor.external_data.add(key=key, value=value)

    with_model(bundle, move_out)

    with pytest.raises(BundleError, match="a graph reads weights from"):
        load(bundle)


def move_weights_out(bundle: Path) -> Path:
    """Gives the student's graph a data file, as large models have."""
    onnx = pytest.importorskip("onnx")
    data = bundle / f"{GRAPH}.data"
    model = onnx.load(bundle / GRAPH)
    onnx.external_data_helper.convert_model_to_external_data(model, location=data.name, size_threshold=100)
    onnx.save(model, bundle / GRAPH)
    entry = {"path": f"{GRAPH}.data", "role": "weights", "size_bytes": 0, "sha256": "0" * 64}
    reseal(bundle, lambda content: content["files"].append(entry))
    return data


def test_a_bundle_with_a_data_file_scores_as_before(bundle: Path) -> None:
    expected = load(bundle).score(ARTICLE).scores

    move_weights_out(bundle)

    assert load(bundle).score(ARTICLE).scores == expected


def test_a_data_file_shorter_than_its_graph_needs_is_refused(bundle: Path) -> None:
    data = move_weights_out(bundle)
    data.write_bytes(data.read_bytes()[:-8])
    reseal(bundle)

    with pytest.raises(BundleError, match=r"a graph reads [0-9]+ bytes"):
        load(bundle)


def test_a_data_file_that_no_graph_reads_is_refused(bundle: Path) -> None:
    add_file(bundle, "student/more.data", b"anything", "weights")

    with pytest.raises(BundleError, match="no graph reads it"):
        load(bundle)


@contextmanager
def swapping(path: Path, other: bytes, outside: Path) -> Iterator[None]:
    """Moves another file into a file's place and the first one back, over and over; copies wait outside the bundle."""
    contents, over = (other, path.read_bytes()), threading.Event()

    def swap() -> None:
        while not over.is_set():
            for content in contents:
                outside.write_bytes(content)
                outside.replace(path)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def changed_tokenizer(bundle: Path) -> bytes:
    content = json.loads((bundle / TOKENIZER).read_bytes())
    content["model"]["vocab"]["nonsense"] = len(content["model"]["vocab"])
    return json.dumps(content).encode()


def changed_graph(bundle: Path) -> bytes:
    return (bundle / GRAPH).read_bytes() + b"\x1a\x00\x12\x05other"  # another producer


def changed_spec(bundle: Path) -> bytes:
    content = json.loads((bundle / "filter.json").read_bytes())
    return json.dumps(content | {"summary": "Another summary."}).encode()


def what_was_opened(scorer: HybridScorer) -> tuple[object, ...]:
    """What tells the changed files from those that were sealed."""
    student = scorer.stages[1]
    producer = student.graphs[0]._session.get_modelmeta().producer_name
    return student.window.vocabulary_size, producer, scorer.spec.summary


@pytest.mark.parametrize(
    ("name", "changed"), [(TOKENIZER, changed_tokenizer), (GRAPH, changed_graph), ("filter.json", changed_spec)]
)
def test_nothing_is_opened_that_was_not_checked(
    bundle: Path, tmp_path: Path, name: str, changed: Callable[[Path], bytes]
) -> None:
    expected, other = what_was_opened(load(bundle)), changed(bundle)
    loaded = 0

    with swapping(bundle / name, other, tmp_path / "beside"):
        for _ in range(25):
            try:
                scorer = load(bundle, threads=1)
            except BundleError:
                continue
            loaded += 1
            assert what_was_opened(scorer) == expected

    assert loaded


def test_a_data_file_that_is_swapped_while_it_is_opened_is_refused(bundle: Path, tmp_path: Path) -> None:
    data = move_weights_out(bundle)
    checked = open_bundle(bundle)
    content = data.read_bytes()
    (tmp_path / "other").write_bytes(bytes(len(content)))
    (tmp_path / "other").replace(data)

    with pytest.raises(BundleError, match="changed while the bundle was loaded"):
        open_stages(checked, "cpu", 1)


def test_a_data_file_that_is_written_to_is_refused(bundle: Path) -> None:
    """Not even with its old times: those of its inode nobody can set."""
    data = move_weights_out(bundle)
    checked, before = open_bundle(bundle), data.stat()
    data.write_bytes(bytes(before.st_size))
    os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(BundleError, match="changed while the bundle was loaded"):
        open_stages(checked, "cpu", 1)


def test_a_data_file_with_new_times_and_its_old_bytes_is_opened(bundle: Path, tmp_path: Path) -> None:
    data = move_weights_out(bundle)
    checked = open_bundle(bundle)
    os.utime(data)
    os.link(data, tmp_path / "backup")

    assert open_stages(checked, "cpu", 1)


def test_a_hard_link_that_is_made_while_a_file_is_checked_does_not_matter(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, read, copies = move_weights_out(bundle), integrity._digest_of, tmp_path / "copies"
    copies.mkdir()

    def read_and_link(stream: BinaryIO) -> tuple[int, str]:
        if len(list(copies.iterdir())) < 2:
            os.link(data, copies / str(len(list(copies.iterdir()))))
        return read(stream)

    monkeypatch.setattr(integrity, "_digest_of", read_and_link)

    assert load(bundle).bundle.startswith("fixture-1@")
    assert len(list(copies.iterdir())) == 2


def test_a_link_that_moves_on_to_another_bundle_still_gives_one_bundle(bundle: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    (other / "filter.json").write_bytes(changed_spec(other))
    reseal(other)
    link = tmp_path / "current"
    link.symlink_to(bundle)
    checked = open_bundle(link)
    link.unlink()
    link.symlink_to(other)

    scorer = HybridScorer(checked.spec, open_stages(checked, "cpu", 1), checked.name)

    assert what_was_opened(scorer) == what_was_opened(load(bundle))
