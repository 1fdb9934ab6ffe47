"""Heads: a pooled state, standardised, through a small MLP to scores; and what a student's linear head may end in."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillery_exporter.graphs.builder import GraphBuilder
from distillery_exporter.graphs.ports import POOLED, l2_normalise, pooled_port, save_scorer
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.calibration import ReadOut
from distillery_trainer.models.sentence_models import Activation

Floats = NDArray[np.floating[Any]]  # Any: of whatever precision it was trained in
Layer = tuple[Floats, Floats]

_OPERATORS: Mapping[Activation, str] = {"ReLU": "Relu", "Sigmoid": "Sigmoid", "Tanh": "Tanh"}


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """A Dense of sentence-transformers: weight (out, in), bias (out,) or None, and what is applied to the sums."""

    weight: Floats
    bias: Floats | None
    activation: Activation


def finish_embedding(
    g: GraphBuilder, pooled: Sequence[str], width: int, dense: Sequence[DenseLayer], normalise: bool
) -> tuple[str, int]:
    """Adds what makes one embedding of pooled states: Dense layers, division by the length, and joining.

    Args:
        g: the graph.
        pooled: the names of the states, (B, H) float32.
        width: H.
        dense: layers that each state goes through.
        normalise: whether what comes of it is divided by its length.

    Returns:
        The embedding's name, (B, W) float32, and W.

    Raises:
        InputError: a layer does not fit.
    """
    vectors = list(pooled)
    for place, layer in enumerate(dense):
        outputs = len(layer.weight)
        if layer.weight.shape != (outputs, width) or (layer.bias is not None and layer.bias.shape != (outputs,)):
            raise InputError(
                "dense", [Problem(str(place), f"weights of shape {layer.weight.shape}", f"(out, {width})")]
            )
        bias = np.zeros(outputs, np.float32) if layer.bias is None else layer.bias
        vectors = [add_linear(g, vector, layer.weight, bias) for vector in vectors]
        if layer.activation in _OPERATORS:
            vectors = [g.op(_OPERATORS[layer.activation], [vector]) for vector in vectors]
        width = outputs
    if normalise:
        vectors = [l2_normalise(g, vector) for vector in vectors]
    whole = vectors[0] if len(vectors) == 1 else g.op("Concat", vectors, axis=1)
    return whole, width * len(vectors)


def build_head(
    path: Path,
    mean: Floats,
    scale: Floats,
    layers: Sequence[Layer],
    read_out: ReadOut,
    centres: Floats | None = None,
    find: Layer | None = None,
) -> tuple[Path, ...]:
    """Writes the head as a graph of its own.

    Input: `pooled` (B, H) float32. Outputs as in `ports.save_scorer`.

    Args:
        path: the model's file.
        mean: (H,) subtracted from the pooled state.
        scale: (H,) positive; what is left is divided by it.
        layers: each layer's weights (out, in) and bias (out,), with a ReLU between layers.
        read_out: D maps of either kind, as many as the last layer has outputs, or sets of bins. Of one output more the
            last is a find logit.
        centres: (K,) the middles of the bins whose logits the last layer gives, or None where it gives scores.
        find: weight (1, H) and bias (1,) of a find head on the standardised state, or None.

    Returns:
        The files written.

    Raises:
        InputError: the shapes do not fit one another, or a scale is not positive.
    """
    count = check_outputs(layers, read_out, centres, find)
    g = GraphBuilder(path)
    if centres is not None:
        raw = add_expectation(g, add_head(g, POOLED, mean, scale, layers), len(read_out.expected.maps), centres)
    else:
        raw = add_head(g, POOLED, mean, scale, layers, find)
    return save_scorer(g, (pooled_port(len(mean)),), raw, read_out, count)


def add_head(
    g: GraphBuilder,
    pooled_name: str,
    mean: Floats,
    scale: Floats,
    layers: Sequence[Layer],
    find: Layer | None = None,
) -> str:
    """Adds the head's nodes; arguments and errors as in `build_head`.

    Returns:
        The name of the raw outputs: (B, D) float32, or (B, D + 1) with a find head.
    """
    problems = list(_problems(mean, scale, layers))
    if problems:
        raise InputError("head", problems)
    centred = g.op("Sub", [pooled_name, g.init(_float32(mean))])
    hidden = standard = g.op("Div", [centred, g.init(_float32(scale))])
    for index, (weights, bias) in enumerate(layers):
        inputs = g.op("Relu", [hidden]) if index else hidden
        hidden = add_linear(g, inputs, weights, bias)
    return hidden if find is None else g.op("Concat", [hidden, add_linear(g, standard, *find)], axis=1)


def add_linear(g: GraphBuilder, inputs: str, weights: Floats, bias: Floats) -> str:
    """Adds `inputs @ weights.T + bias`: (B, out) float32 from (B, in) float32."""
    return g.op("Gemm", [inputs, g.init(_float32(weights)), g.init(_float32(bias))], transB=1)


def add_expectation(g: GraphBuilder, logits: str, dimensions: int, centres: Floats) -> str:
    """Adds what bins expect: (B, D) float32 from logits (B, D * K) float32 and the bins' middles, (K,)."""
    bins = g.op("Reshape", [logits, g.ints(0, dimensions, len(centres))])
    shares = g.op("Softmax", [bins], axis=-1)
    return g.op("MatMul", [shares, g.init(_float32(centres))])


def add_linear_head(g: GraphBuilder, pooled: str, weights: Floats, bias: Floats, centres: Floats | None) -> str:
    """Adds a student's head: raw outputs (B, D) float32 from pooled states (B, H) float32.

    Args:
        g: the graph.
        pooled: the name of the states.
        weights: (D, H), or (D * K, H) where the head gives the logits of K bins.
        bias: as many as rows of the weights.
        centres: (K,) the bins' middles, or None.
    """
    outputs = add_linear(g, pooled, weights, bias)
    return outputs if centres is None else add_expectation(g, outputs, len(bias) // len(centres), centres)


def _float32(array: Floats) -> NDArray[np.float32]:
    return np.asarray(array, dtype=np.float32)


def check_outputs(
    layers: Sequence[Layer], read_out: ReadOut, centres: Floats | None = None, find: Layer | None = None
) -> int:
    """Sees that there is a calibration map for each output, or for each set of bins, but for a find logit.

    The find logit is a find head's, or the last output of a layer of scores.

    Returns:
        How many raw outputs there are: one for each map, and one for a find logit.

    Raises:
        InputError: there is not.
    """
    maps = len(read_out.expected.maps)
    outputs, each = len(layers[-1][1]) if layers else 0, 1 if centres is None else len(centres)
    if outputs == maps + 1 and centres is None and find is None:
        return outputs
    if outputs != maps * each:
        expected = f"{maps * each}, {each if each > 1 else 'one'} for each calibration map"
        raise InputError("head", [Problem("layers[-1]", f"{outputs} outputs", expected)])
    return maps + (find is not None)


def _problems(mean: Floats, scale: Floats, layers: Sequence[Layer]) -> Iterator[Problem]:
    if mean.ndim != 1 or scale.shape != mean.shape:
        yield Problem("mean, scale", f"shapes {mean.shape}, {scale.shape}", "the same (H,)")
    elif not np.all(_float32(scale) > 0):
        yield Problem("scale", f"a smallest value of {scale.min()}", "only positive values")
    if not layers:
        yield Problem("layers", "none", "at least one")
    width = mean.shape[-1]
    for index, (weights, bias) in enumerate(layers):
        expected = (len(bias), width)
        if bias.ndim != 1 or weights.shape != expected:
            yield Problem(
                f"layers[{index}]", f"shapes {weights.shape}, {bias.shape}", f"({len(bias)}, {width}) and (out,)"
            )
        width = len(bias)
