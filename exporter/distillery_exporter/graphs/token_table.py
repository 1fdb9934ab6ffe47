"""The static encoder: a table of token vectors, int8 in the file, pooled over a text's tokens in three ways."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from distillery_exporter.graphs.builder import GraphBuilder
from distillery_exporter.graphs.ports import (
    IDS,
    MASK,
    l2_normalise,
    save_encoder,
    weighted_sum,
)
from distillery_runtime.errors import InputError, Problem

LOWEST = float(np.finfo(np.float32).min)  # in place of a token that is not known


def build_static_encoder(path: Path, table_q8: NDArray[np.int8], scale: NDArray[np.float32]) -> tuple[Path, ...]:
    """Writes the encoder from token ids to a pooled state.

    Inputs: `input_ids` and `attention_mask`, (B, T) int64. Output: `pooled` (B, 3 H + 1) float32: of the known
    tokens' rows the mean at unit length, the mean and the maximum, and log(1 + how many there are); zeros without a
    known token. A token with a scale of 0 is not known.

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
    return save_encoder(g, add_static_encoder(g, table_q8, scale), 3 * table_q8.shape[1] + 1)


def add_static_encoder(g: GraphBuilder, table_q8: NDArray[np.int8], scale: NDArray[np.float32]) -> str:
    """Adds the nodes from token ids to the pooled state: (B, H) float32; arguments and errors as above."""
    if table_q8.ndim != 2 or table_q8.dtype != np.int8 or scale.shape != table_q8.shape[:1]:
        found = f"{table_q8.dtype} {table_q8.shape} and scale {scale.shape}"
        raise InputError("static table", [Problem("table", found, "int8 (V, H) and scale (V,)")])
    rows = g.op("Cast", [g.op("Gather", [g.init(table_q8), IDS], axis=0)], to=TensorProto.FLOAT)
    scales = g.op("Gather", [g.init(scale.astype(np.float32)), IDS], axis=0)
    is_known = g.op("And", [g.op("Greater", [scales, g.floats(0)]), g.op("Cast", [MASK], to=TensorProto.BOOL)])
    known = g.op("Cast", [is_known], to=TensorProto.FLOAT)
    count = g.op("ReduceSum", [known, g.ints(1)], keepdims=1)
    # A row's scale goes into its share of the mean: one product a token instead of one a value.
    weights = g.op("Mul", [g.op("Div", [known, g.op("Max", [count, g.floats(1)])]), scales])
    mean = weighted_sum(g, weights, rows)
    values = g.op("Mul", [rows, g.op("Unsqueeze", [scales, g.ints(2)])])
    seen = g.op("Where", [g.op("Unsqueeze", [is_known, g.ints(2)]), values, g.floats(LOWEST)])
    top = g.op("ReduceMax", [seen, g.ints(1)], keepdims=0)
    top = g.op("Where", [g.op("Greater", [count, g.floats(0)]), top, g.floats(0)])
    length = g.op("Log", [g.op("Add", [count, g.floats(1)])])
    return g.op("Concat", [l2_normalise(g, mean), mean, top, length], axis=1)
