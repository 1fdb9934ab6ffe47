"""The static encoder: a table of token vectors, int8 in the file, averaged over a text's tokens."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from distillery_exporter.graphs.builder import GraphBuilder
from distillery_exporter.graphs.ports import (
    IDS,
    MASK,
    l2_normalise,
    mean_weights,
    save_encoder,
    weighted_sum,
)
from distillery_runtime.errors import InputError, Problem


def build_static_encoder(path: Path, table_q8: NDArray[np.int8], scale: NDArray[np.float32]) -> tuple[Path, ...]:
    """Writes the encoder from token ids to a pooled state.

    Inputs: `input_ids` and `attention_mask`, (B, T) int64. Output: `pooled` (B, H) float32, the mean of the real
    tokens' rows, of length 1 (or 0 for a text whose mean is zero, or which has no tokens).

    Args:
        path: the model's file.
        table_q8: (V, H) int8, a row for each token id.
        scale: (V,) float32, what each row is multiplied by.

    Returns:
        The files written.

    Raises:
        InputError: table and scale do not fit one another.
    """
    g = GraphBuilder(path)
    return save_encoder(g, add_static_encoder(g, table_q8, scale), table_q8.shape[1])


def add_static_encoder(g: GraphBuilder, table_q8: NDArray[np.int8], scale: NDArray[np.float32]) -> str:
    """Adds the nodes from token ids to the pooled state: (B, H) float32; arguments and errors as above."""
    if table_q8.ndim != 2 or table_q8.dtype != np.int8 or scale.shape != table_q8.shape[:1]:
        found = f"{table_q8.dtype} {table_q8.shape} and scale {scale.shape}"
        raise InputError("static table", [Problem("table", found, "int8 (V, H) and scale (V,)")])
    rows = g.op("Gather", [g.init(table_q8), IDS], axis=0)
    scales = g.op("Gather", [g.init(scale.astype(np.float32)), IDS], axis=0)
    # A row's scale goes into its share of the mean: one product a token instead of one a value.
    weights = g.op("Mul", [mean_weights(g, MASK), scales])
    pooled = weighted_sum(g, weights, g.op("Cast", [rows], to=TensorProto.FLOAT))
    return l2_normalise(g, pooled)
