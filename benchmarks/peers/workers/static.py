"""What a static embedding such as model2vec's computes after its tokenizer: the mean of 256-wide rows of a table.

The rows are the first columns of the model's own embedding table, for only the time is of interest.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from benchmarks.peers.workers.protocol import Opening, Vector, serve

WIDTH = 256

Floats = NDArray[np.float32]


class StaticPeer:
    """A `Peer`."""

    def __init__(self, opening: Opening) -> None:
        with safe_open(opening.model / "model.safetensors", framework="np") as weights:
            name = next(name for name in weights.keys() if name.endswith("word_embeddings.weight"))  # noqa: SIM118
            self._table: Floats = np.ascontiguousarray(weights.get_tensor(name)[:, :WIDTH], dtype=np.float32)

    def prepare(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """As in `Peer`."""
        return np.array(ids, dtype=np.int64)

    def forward(self, inputs: NDArray[np.int64]) -> Floats:
        """As in `Peer`."""
        mean = self._table[inputs].mean(0)
        return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)

    def output(self, result: Floats) -> Vector:
        """As in `Peer`."""
        values: list[float] = result.tolist()
        return values


if __name__ == "__main__":
    serve(StaticPeer, ("numpy",))
