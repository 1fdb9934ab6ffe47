"""A static student's graph: word weights, and of a tuned one the mean of a token table's rows with a head on it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from distillery_exporter.graphs.builder import GraphBuilder
from distillery_exporter.graphs.head import add_head
from distillery_exporter.graphs.ports import IDS, MASK, TOKEN_INPUTS, l2_normalise, save_scorer, weighted_sum
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.calibration import ReadOut
from distillery_trainer.models.heads import Head
from distillery_trainer.models.word_weights import WordWeights

Table = tuple[NDArray[np.int8], NDArray[np.float32]]  # rows (V, H) and what each is multiplied by, (V,)


def build_static_regressor(
    path: Path, words: WordWeights, read_out: ReadOut, tuned: tuple[Table, Head] | None = None
) -> tuple[Path, ...]:
    """Writes a static student from token ids to its outputs, which are those of `ports.save_scorer`.

    Args:
        path: the model's file.
        words: K weights for each token, D of scores and the find column's, if there is one.
        read_out: D maps of either kind.
        tuned: a table of the same V tokens, of which one whose scale is 0 is not known, and a head on the mean of the
            known tokens' rows at unit length; its K outputs are added.

    Returns:
        The files written.

    Raises:
        InputError: rows and scales do not fit one another, or the head does not fit table and words.
    """
    g = GraphBuilder(path)
    raw = add_word_weights(g, words)
    if tuned is not None:
        table, head = tuned
        _check_fit(words, table[0], head)
        raw = g.op("Add", [raw, add_head(g, add_mean_direction(g, *table), head.mean, head.scale, head.layers)])
    return save_scorer(g, TOKEN_INPUTS, raw, read_out, len(words.bias))


def add_word_weights(g: GraphBuilder, words: WordWeights) -> str:
    """Adds the sum of each real token's weights over the square root of how many there are: (B, K) float32."""
    rows, scales = _rows(g, words.table, words.scale)
    real = g.op("Cast", [MASK], to=TensorProto.FLOAT)
    length = g.op("Sqrt", [g.op("Max", [g.op("ReduceSum", [real, g.ints(1)], keepdims=1), g.floats(1)])])
    weights = g.op("Mul", [g.op("Div", [real, length]), scales])
    return g.op("Add", [weighted_sum(g, weights, rows), g.init(words.bias)])


def add_mean_direction(g: GraphBuilder, table: NDArray[np.int8], scale: NDArray[np.float32]) -> str:
    """Adds the mean of the real tokens' rows at unit length: (B, H) float32, zeros without a known token."""
    rows, scales = _rows(g, table, scale)
    weights = g.op("Mul", [g.op("Cast", [MASK], to=TensorProto.FLOAT), scales])
    return l2_normalise(g, weighted_sum(g, weights, rows))


def _check_fit(words: WordWeights, table: NDArray[np.int8], head: Head) -> None:
    expected = [*table.shape, *words.table.shape]
    found = [len(words.table), len(head.mean), len(table), len(head.layers[-1][1])]
    if found != expected:
        shapes = f"table {table.shape}, words {words.table.shape}, head {found[1]} to {found[3]}"
        raise InputError("static table", [Problem("head", shapes, "table (V, H), words (V, K), head H to K")])


def _rows(g: GraphBuilder, table: NDArray[np.int8], scale: NDArray[np.float32]) -> Sequence[str]:
    """Each token's row, (B, T, K) float32 of whole numbers, and its scale, (B, T): one product a token, later."""
    if table.ndim != 2 or table.dtype != np.int8 or scale.shape != table.shape[:1]:
        found = f"{table.dtype} {table.shape} and scale {scale.shape}"
        raise InputError("static table", [Problem("table", found, "int8 (V, K) and scale (V,)")])
    rows = g.op("Cast", [g.op("Gather", [g.init(table), IDS], axis=0)], to=TensorProto.FLOAT)
    return rows, g.op("Gather", [g.init(scale.astype(np.float32)), IDS], axis=0)
