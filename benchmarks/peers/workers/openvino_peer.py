"""OpenVINO, from a model traced by its own converter.

Options: `hint`, the precision of what is not int8: "f32", or "bf16", its own choice on processors that have it; `form`,
as in `openvino_convert`. With int8 weights OpenVINO quantises activations while it runs, in groups of 32: larger groups
were not faster (Gemma-3-270M, AMX, 2026.4), and further from fp32.
"""

from collections.abc import Sequence

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from benchmarks.peers.workers.conversion import converted
from benchmarks.peers.workers.protocol import Opening, Vector, serve

PACKAGES = ("openvino", "nncf", "torch", "transformers")

Floats = NDArray[np.float32]


class OpenVinoPeer:
    """A `Peer`."""

    def __init__(self, opening: Opening) -> None:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": opening.threads,
            "INFERENCE_PRECISION_HINT": opening.options["hint"],
        }
        path = converted(opening, "openvino_convert", PACKAGES) / "model.xml"
        self._request = ov.Core().compile_model(str(path), "CPU", settings).create_infer_request()
        self._head = np.load(opening.head) if opening.head else None

    def prepare(self, ids: Sequence[int]) -> ov.Tensor:
        """As in `Peer`."""
        return ov.Tensor(np.array([ids], dtype=np.int64))

    def forward(self, inputs: ov.Tensor) -> Floats:
        """As in `Peer`."""
        self._request.set_input_tensor(inputs)
        self._request.infer()
        state: Floats = self._request.get_output_tensor().data[0]
        return state.copy() if self._head is None else self._head @ state

    def output(self, result: Floats) -> Vector:
        """As in `Peer`."""
        values: list[float] = result.tolist()
        return values


if __name__ == "__main__":
    serve(OpenVinoPeer, PACKAGES)
