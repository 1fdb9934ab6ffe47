"""Our own graphs, in the runtime's own session. Option: `graph`, the file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.workers.protocol import Opening, Vector, serve
from distillery_runtime.models.session import Graph
from distillery_runtime.models.stage import INPUTS

Inputs = Mapping[str, NDArray[np.int64]]
OUTPUTS = {"decoder": ["raw", "scores"], "encoder": ["pooled"]}


class OurPeer:
    """A `Peer`."""

    def __init__(self, opening: Opening) -> None:
        outputs = OUTPUTS[opening.kind]
        self._first = outputs[0]
        self._graph = Graph(Path(opening.options["graph"]), INPUTS, outputs, "cpu", opening.threads)

    def prepare(self, ids: Sequence[int]) -> Inputs:
        """As in `Peer`."""
        row = np.array([ids], dtype=np.int64)
        return dict(zip(INPUTS, (row, np.ones_like(row)), strict=True))

    def forward(self, inputs: Inputs) -> NDArray[np.float32]:
        """As in `Peer`; a decoder's scores are computed too."""
        return self._graph.run(inputs)[self._first]

    def output(self, result: NDArray[np.float32]) -> Vector:
        """As in `Peer`."""
        values: list[float] = result[0].tolist()
        return values


if __name__ == "__main__":
    serve(OurPeer, ("onnxruntime", "distillery-runtime"))
