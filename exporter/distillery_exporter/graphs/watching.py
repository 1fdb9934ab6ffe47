"""What goes through a model's products, measured on texts by onnxruntime: the other precisions need to know it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from distillery_exporter.graphs.builder import GraphBuilder, Port
from distillery_exporter.graphs.gptq import Weights
from distillery_exporter.graphs.ports import TOKEN_INPUTS
from distillery_exporter.graphs.precision import Plain, Precision, Rows
from distillery_runtime.session import Graph
from distillery_runtime.stage import INPUTS
from distillery_runtime.window import TokenIds, pad

RESIDUAL = ".residual"
# A wider input's products of channels are kept in equal blocks no wider than this: they grow with its square.
MOST_CHANNELS = 2048

AddModel = Callable[[GraphBuilder, Precision], object]


class Watcher(Precision, Protocol):
    """fp32 that also gives an array for each site of the model: `sites` has its name in the graph, `shape` its axes."""

    sites: dict[str, str]
    shape: tuple[str, ...]

    def combine(self, one: Weights, other: Weights) -> Weights:
        """The array of two texts from those of each."""


class Maxima(Plain):
    """Each site's largest magnitude by channel: (K,) float32, over batch and tokens.

    A layer's residual stream has a site of its own, whose name ends in ".residual".
    """

    shape: tuple[str, ...] = ("channels",)

    def __init__(self) -> None:
        super().__init__(fused=False)
        self.sites: dict[str, str] = {}

    def rows(self, g: GraphBuilder, site: str, states: str, width: int) -> Rows:
        """As in `Precision`."""
        self.watch(g, site, states)
        return super().rows(g, site, states, width)

    def watch(self, g: GraphBuilder, site: str, states: str) -> None:
        """As in `Precision`."""
        if site not in self.sites:
            self.sites[site] = g.op("ReduceMax", [g.op("Abs", [states]), g.ints(0, 1)], keepdims=0)

    def combine(self, one: Weights, other: Weights) -> Weights:
        """As in `Watcher`."""
        return np.maximum(one, other)


class Grams(Plain):
    """Each product's sum of x xᵀ over the rows x of its input: (blocks, K / blocks, K / blocks) float32.

    There is one block unless the input is wide.
    """

    shape: tuple[str, ...] = ("blocks", "channels", "others")

    def __init__(self) -> None:
        super().__init__(fused=False)
        self.sites: dict[str, str] = {}

    def rows(self, g: GraphBuilder, site: str, states: str, width: int) -> Rows:
        """As in `Precision`."""
        if site not in self.sites:
            blocks = next(n for n in range(-(-width // MOST_CHANNELS), width + 1) if width % n == 0)
            parts = g.op("Reshape", [states, g.ints(-1, blocks, width // blocks)])
            left, right = (g.op("Transpose", [parts], perm=order) for order in ([1, 2, 0], [1, 0, 2]))
            self.sites[site] = g.op("MatMul", [left, right])
        return super().rows(g, site, states, width)

    def combine(self, one: Weights, other: Weights) -> Weights:
        """As in `Watcher`; the first is overwritten, for these are large."""
        one += other
        return one


def measure(add: AddModel, watcher: Watcher, rows: Sequence[TokenIds], work: Path) -> dict[str, Weights]:
    """Runs texts through a model, one at a time.

    Args:
        add: adds the model's nodes to a graph, at a precision.
        watcher: what to look at.
        rows: the texts' token ids, at least one text.
        work: where a temporary graph of the model's size may be written.

    Returns:
        The watcher's array for each site, over all texts.
    """
    with TemporaryDirectory(dir=work) as folder:
        path = Path(folder) / "watched.onnx"
        g = GraphBuilder(path)
        add(g, watcher)
        outputs = [(name, Port(site, np.float32, watcher.shape)) for site, name in watcher.sites.items()]
        g.save(TOKEN_INPUTS, outputs)
        graph = Graph(path, INPUTS, list(watcher.sites), "cpu", None)
        found: dict[str, Weights] = {}
        for row in rows:
            for site, values in graph.run(dict(zip(INPUTS, pad([row]), strict=True))).items():
                found[site] = watcher.combine(found[site], values) if site in found else values
    return found


def residual_scale(maxima: Mapping[str, NDArray[np.float32]], limit: float) -> float:
    """The smallest power of two, 1 at least, by which the residual stream's largest magnitude comes to at most `limit`.

    A fourth of float16's range leaves room for texts that were not measured.
    """
    largest = max(float(values.max()) for site, values in maxima.items() if site.endswith(RESIDUAL))
    return float(2.0 ** max(0, np.ceil(np.log2(largest / limit))))
