"""The largest magnitudes of a model's activations, by site and channel, measured on texts by onnxruntime."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from distillery_exporter.graphs.builder import GraphBuilder, Port
from distillery_exporter.graphs.checkpoint import Weights, WeightSource
from distillery_exporter.graphs.gemma import GemmaDecoder
from distillery_exporter.graphs.ports import TOKEN_INPUTS
from distillery_exporter.graphs.precision import Watched
from distillery_runtime.session import Graph
from distillery_runtime.stage import INPUTS
from distillery_runtime.window import TokenIds, pad

RESIDUAL = ".residual"


def gemma_maxima(
    checkpoint: WeightSource, dimensions: int, max_tokens: int, rows: Sequence[TokenIds], work: Path
) -> dict[str, Weights]:
    """Runs texts through the fp32 model, one at a time.

    Args:
        checkpoint: the model, as for `build_gemma_regressor`.
        dimensions: the head's outputs.
        max_tokens: the longest row.
        rows: the texts' token ids.
        work: where a temporary graph of the model's size may be written.

    Returns:
        For each site of a product its input's largest magnitude by channel, (K,) float32; for each layer's residual
        stream, under a name that ends in ".residual", (H,).
    """
    with TemporaryDirectory(dir=work) as folder:
        path = Path(folder) / "watched.onnx"
        watched, g = Watched(), GraphBuilder(path)
        GemmaDecoder(g, checkpoint, max_tokens, watched).add(dimensions)
        g.save(TOKEN_INPUTS, [(name, Port(site, np.float32, ("channels",))) for site, name in watched.sites.items()])
        graph = Graph(path, INPUTS, list(watched.sites), "cpu", None)
        found: dict[str, Weights] = {}
        for row in rows:
            for site, values in graph.run(dict(zip(INPUTS, pad([row]), strict=True))).items():
                found[site] = np.maximum(found.get(site, values), values)
    return found


def residual_scale(maxima: dict[str, Weights], limit: float) -> float:
    """The smallest power of two, 1 at least, by which the residual stream's largest magnitude comes to at most `limit`.

    A fourth of float16's range leaves room for texts that were not measured.
    """
    largest = max(float(values.max()) for site, values in maxima.items() if site.endswith(RESIDUAL))
    return float(2.0 ** max(0, np.ceil(np.log2(largest / limit))))
