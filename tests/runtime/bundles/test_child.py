"""Bundles that never answer: the test of one ends by a deadline, by Ctrl-C, and with its parent."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from distillery_runtime import BundleError
from distillery_runtime.bundles.child import default_timeout_s, run_in_child
from distillery_runtime.cli.main import main
from distillery_runtime.format.manifest import Manifest, seal

GRAPH = "student/cpu-fp32.onnx"
COMMAND = [sys.executable, "-m", "distillery_runtime", "verify"]


@pytest.fixture
def endless(bundle: Path) -> Path:
    """A bundle of allowed operators alone, whose student multiplies large matrices for an hour or so."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bundle / GRAPH)
    nodes = [
        onnx.helper.make_node("Constant", [], ["size"], value_ints=[4000, 4000]),
        onnx.helper.make_node("ConstantOfShape", ["size"], ["product_0"]),
        *(onnx.helper.make_node("MatMul", [f"product_{i}", "product_0"], [f"product_{i + 1}"]) for i in range(500)),
        onnx.helper.make_node("ReduceMax", ["product_500"], ["most"], keepdims=0),
        onnx.helper.make_node("Add", ["raw", "most"], ["more"]),
    ]
    for index, node in enumerate(nodes):
        model.graph.node.insert(index if "raw" not in node.input else len(model.graph.node), node)
    for node in model.graph.node:
        if node.output[0] == "scores":
            node.input[0] = "more" if node.input[0] == "raw" else node.input[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, None))
    data = model.SerializeToString()
    (bundle / GRAPH).write_bytes(data)
    content = json.loads((bundle / "bundle.json").read_bytes())
    entry = next(entry for entry in content["files"] if entry["path"] == GRAPH)
    entry.update(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    (bundle / "bundle.json").write_bytes(seal(Manifest.model_validate_json(json.dumps(content))))
    return bundle


def test_a_test_that_does_not_end_is_ended_and_its_bundle_named(
    endless: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(endless), "--timeout-s", "2"]) == 2

    assert f"{endless}: the test of the bundle did not end within 2 s" in capsys.readouterr().err


def children_of(process: int) -> list[int]:
    return [int(name) for name in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are listed in /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_child_ends_with_its_parent_however_that_ends(endless: Path, end: int) -> None:
    with subprocess.Popen([*COMMAND, str(endless)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        assert b"sizes and digests match" in parent.stdout.readline()  # next it opens the graph
        (child,) = children_of(parent.pid)
        parent.send_signal(end)
        parent.wait()

    wait_until(lambda: not is_running(child))


def test_a_crash_is_the_bundles_and_not_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As when a library aborts, or the system ends a process that takes too much memory."""
    package = tmp_path / "distillery_runtime"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import os; os.abort()", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    lines: list[str] = []

    with pytest.raises(BundleError, match="ended the process"):
        run_in_child([], "b", 60, lines.append, lines.append, lines.append)


def test_modules_in_the_current_folder_are_not_taken_for_ours(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit(3)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])

    assert main(["verify", str(bundle)]) == 0


def test_the_deadline_grows_with_the_bundle() -> None:
    assert 60 <= default_timeout_s(0) < default_timeout_s(10_000_000) < default_timeout_s(2_000_000_000)
