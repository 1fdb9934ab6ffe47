"""What goes through a model's products, measured on texts by onnxruntime: the other precisions need to know it.

A model is run layer by layer: the states that a layer gives are kept for all texts, and go into the next. So one
layer's weights, and what is measured of it, are all that need be in memory, however large the model.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from distillery_exporter.graphs.builder import GraphBuilder, Port
from distillery_exporter.graphs.gptq import Weights
from distillery_exporter.graphs.ports import TOKEN_INPUTS
from distillery_exporter.graphs.precision import Plain, Precision, Rows
from distillery_runtime.models.cuda import Arrays
from distillery_runtime.models.session import Graph
from distillery_runtime.models.stage import INPUTS
from distillery_runtime.tokens.window import TokenIds, pad

RESIDUAL = ".residual"
# A wider input's products of channels are kept in equal blocks no wider than this: they grow with its square.
MOST_CHANNELS = 2048


class Layered(Protocol):
    """A model that can be added to a graph layer by layer: a layer takes the states that the one before it gave."""

    @property
    def layers(self) -> int:
        """How many there are, 1 at least."""

    def embed(self) -> list[str]:
        """Adds the embedding of the graph's token ids, and gives the first layer's states: (B, T, H) each."""

    def layer(self, index: int, states: Sequence[str]) -> list[str]:
        """Adds a layer, and gives the next one's states, of which the last layer may keep one token."""


States = list[NDArray[np.float32]]
AddModel = Callable[[GraphBuilder, Precision], Layered]


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

    def rows(self, g: GraphBuilder, site: str, states: str, width: int, after_gelu: bool = False) -> Rows:
        """As in `Precision`."""
        self.watch(g, site, states)
        return super().rows(g, site, states, width, after_gelu)

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

    def rows(self, g: GraphBuilder, site: str, states: str, width: int, after_gelu: bool = False) -> Rows:
        """As in `Precision`."""
        if site not in self.sites:
            blocks = next(n for n in range(-(-width // MOST_CHANNELS), width + 1) if width % n == 0)
            parts = g.op("Reshape", [states, g.ints(-1, blocks, width // blocks)])
            left, right = (g.op("Transpose", [parts], perm=order) for order in ([1, 2, 0], [1, 0, 2]))
            self.sites[site] = g.op("MatMul", [left, right])
        return super().rows(g, site, states, width, after_gelu)

    def combine(self, one: Weights, other: Weights) -> Weights:
        """As in `Watcher`; the first is overwritten, for these are large."""
        one += other
        return one


def measure(
    add: AddModel, watcher: Callable[[], Watcher], rows: Sequence[TokenIds], work: Path
) -> Iterator[dict[str, Weights]]:
    """Runs texts through a model, one at a time.

    Args:
        add: puts the model over a graph, at a precision.
        watcher: what to look at.
        rows: the texts' token ids, at least one text.
        work: where a temporary graph of a layer's size may be written.

    Yields:
        For each layer the watcher's array for each of its sites, over all texts.
    """
    texts = [dict(zip(INPUTS, pad([row]), strict=True)) for row in rows]
    states: list[States] = [[] for _ in texts]
    for index in range(add(GraphBuilder(work / "unwritten"), Plain()).layers):
        with TemporaryDirectory(dir=work) as folder:
            layer = _Layer(Path(folder) / "layer.onnx", add, watcher(), index, len(states[0]))
            for place, text in enumerate(texts):
                states[place] = layer.run(text, states[place])
        yield layer.found


class _Layer:
    """One layer's graph, and what its watcher has seen of the texts that went through it, by site."""

    def __init__(self, path: Path, add: AddModel, watcher: Watcher, index: int, given: int) -> None:
        g = GraphBuilder(path)
        model = add(g, watcher)
        self._before = [Port(f"before.{i}", np.float32, ("batch", "rows", "width")) for i in range(given)]
        after = model.layer(index, [port.name for port in self._before] if index else model.embed())
        self._after = [Port(f"after.{i}", np.float32, ("batch", "next", "width")) for i in range(len(after))]
        seen = [(name, Port(site, np.float32, watcher.shape)) for site, name in watcher.sites.items()]
        inputs, outputs = [*TOKEN_INPUTS, *self._before], [*zip(after, self._after, strict=True), *seen]
        g.save(inputs, outputs)
        self._graph = Graph(path, [port.name for port in inputs], [port.name for _, port in outputs], "cpu", None)
        self._watcher = watcher
        self.found: dict[str, Weights] = {}

    def run(self, text: Arrays, states: States) -> States:
        """Takes a text's states through the layer, from its token ids before the first one."""
        given = {port.name: value for port, value in zip(self._before, states, strict=True)}
        values = self._graph.run({**text, **given})
        following = [values.pop(port.name) for port in self._after]
        for site, array in values.items():
            self.found[site] = self._watcher.combine(self.found[site], array) if site in self.found else array
        return following


class InTurn:
    """What was measured of a model's sites, layer by layer as they are asked for: in the model's order."""

    def __init__(self, layers: Iterator[dict[str, Weights]]) -> None:
        self._layers = layers
        self._here: dict[str, Weights] = {}

    def __call__(self, site: str) -> Weights:
        """The array of a site of this layer, or of one to come.

        Raises:
            KeyError: no layer to come has this site.
        """
        while site not in self._here:
            layer = next(self._layers, None)
            if layer is None:
                raise KeyError(site)
            self._here = layer
        return self._here[site]


def residual_scale(maxima: Mapping[str, NDArray[np.float32]], limit: float) -> float:
    """The smallest power of two, 1 at least, by which the residual stream's largest magnitude comes to at most `limit`.

    A fourth of float16's range leaves room for texts that were not measured.
    """
    largest = max(float(values.max()) for site, values in maxima.items() if site.endswith(RESIDUAL))
    return float(2.0 ** max(0, np.ceil(np.log2(largest / limit))))
