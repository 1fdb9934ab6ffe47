"""Every graph that a test of the exporter builds is one that the runtime lets through to onnxruntime."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def every_graph_is_allowed() -> Iterator[None]:
    pytest.importorskip("onnx")
    from distillery_exporter.graphs.builder import GraphBuilder
    from distillery_runtime.format.onnx_scan import scan_graph

    save = GraphBuilder.save

    def checked(self: GraphBuilder, *ports: Any) -> tuple[Path, ...]:
        files = save(self, *ports)
        assert {*scan_graph(files[0].read_bytes()).data_files} == {path.name for path in files[1:]}
        return files

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GraphBuilder, "save", checked)
        yield
