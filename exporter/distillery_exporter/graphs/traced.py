"""Other architectures as ONNX graphs: torch traces the model's layers, and pooling, head and calibration are ours.

Such a graph is exact but slower than a hand-written one, and has no variant but cpu-fp32. Tracing takes minutes and
about 4.5 GB of memory for a billion weights, and needs torch and onnxscript.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper
from pydantic import ValidationError

from distillery_exporter.graphs.builder import OPSET, SMALL_BYTES, GraphBuilder
from distillery_exporter.graphs.head import DenseLayer, Floats, add_linear_head, check_outputs, finish_embedding
from distillery_exporter.graphs.ports import (
    TOKEN_INPUTS,
    last_state,
    pool_states,
    save_encoder,
    save_scorer,
)
from distillery_exporter.graphs.settings import BertSettings, GemmaSettings
from distillery_exporter.graphs.weights import HEAD, Checkpoint, WeightSource
from distillery_runtime.errors import InputError, Problem, ProviderError
from distillery_runtime.spec.calibration import ReadOut
from distillery_trainer.models.choose import import_torch_side
from distillery_trainer.models.sentence_models import Pooling

_SUBGRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def is_hand_written(config: Mapping[str, object]) -> bool:
    """Whether `bert` or `gemma` builds a model with this config.json; if not, it has to be traced."""
    for settings in (BertSettings, GemmaSettings):
        try:
            settings.model_validate(config)
        except ValidationError:
            continue
        return True
    return False


def build_traced_encoder(
    path: Path,
    checkpoint: Checkpoint,
    pooling: Pooling,
    normalise: bool,
    layers: Sequence[int] = (),
    dense: Sequence[DenseLayer] = (),
) -> tuple[Path, ...]:
    """Writes any encoder from token ids to a pooled state; ports and arguments as `build_bert_encoder`.

    Returns:
        The files written.

    Raises:
        InputError: the folder holds no encoder, or torch cannot trace it.
        ProviderError: torch, transformers or onnxscript is not installed.
    """
    g = GraphBuilder(path)
    pooled, width = _add_pooled(g, path, checkpoint, pooling, layers)
    return save_encoder(g, *finish_embedding(g, pooled, width, dense, normalise))


def build_traced_encoder_regressor(
    path: Path,
    checkpoint: Checkpoint,
    pooling: Pooling,
    head_weight: Floats,
    head_bias: Floats,
    read_out: ReadOut,
    centres: Floats | None = None,
) -> tuple[Path, ...]:
    """Writes any encoder with a linear head on its pooled state; ports and arguments as `build_bert_regressor`.

    Returns:
        The files written.

    Raises:
        InputError: as `build_traced_encoder`, or the shapes of head and calibration do not fit.
        ProviderError: torch, transformers or onnxscript is not installed.
    """
    check_outputs([(head_weight, head_bias)], read_out, centres)
    g = GraphBuilder(path)
    (pooled,), width = _add_pooled(g, path, checkpoint, pooling)
    if head_weight.shape != (len(head_bias), width):
        raise InputError("head", [Problem("weight", f"shape {head_weight.shape}", f"({len(head_bias)}, {width})")])
    raw = add_linear_head(g, pooled, head_weight, head_bias, centres)
    return save_scorer(g, TOKEN_INPUTS, raw, read_out)


def build_traced_decoder_regressor(
    path: Path,
    checkpoint: WeightSource,
    dimensions: int,
    read_out: ReadOut,
    max_tokens: int,
    centres: Floats | None = None,
) -> tuple[Path, ...]:
    """Writes any text decoder with a linear head on its last real token; ports and arguments as Gemma's.

    Returns:
        The files written.

    Raises:
        InputError: the model is no text decoder, lacks a tensor, or cannot be traced; the adapter is incomplete; the
            arguments do not fit one another or the model.
        ProviderError: torch, transformers or onnxscript is not installed.
    """
    if len(read_out.expected.maps) != dimensions:
        raise InputError("calibration", [Problem("maps", str(len(read_out.expected.maps)), str(dimensions))])
    g = GraphBuilder(path)
    pooled, width = _add_last(g, path, checkpoint, max_tokens)
    outputs = dimensions * (1 if centres is None else len(centres))
    head = checkpoint.get(HEAD, (outputs, width))
    checkpoint.check_complete()
    raw = add_linear_head(g, pooled, head, np.zeros(outputs, np.float32), centres)
    return save_scorer(g, TOKEN_INPUTS, raw, read_out)


def build_traced_decoder(path: Path, checkpoint: WeightSource, max_tokens: int) -> tuple[Path, ...]:
    """Writes any text decoder from token ids to the last real token's state, `pooled`: (B, H) float32.

    Arguments, files and errors as in `build_traced_decoder_regressor`; the checkpoint has no head.
    """
    g = GraphBuilder(path)
    pooled, width = _add_last(g, path, checkpoint, max_tokens)
    checkpoint.check_complete()
    return save_encoder(g, pooled, width)


def _add_pooled(
    g: GraphBuilder, path: Path, checkpoint: Checkpoint, pooling: Pooling, layers: Sequence[int] = ()
) -> tuple[list[str], int]:
    """An encoder's nodes: the names of the pooled states of each of its joined layers, (B, H) float32, and H."""
    states, width = _add_states(g, path, partial(_torch_side().trace_encoder, checkpoint.where, layers=layers))
    return [pooled for one in states for pooled in pool_states(g, one, pooling)], width


def _add_last(g: GraphBuilder, path: Path, checkpoint: WeightSource, max_tokens: int) -> tuple[str, int]:
    """A decoder's nodes: the name of its last real token's state, (B, H) float32, and H."""
    limit = checkpoint.config.get("max_position_embeddings")
    if max_tokens < 1 or (isinstance(limit, int) and max_tokens > limit):
        raise InputError(str(checkpoint.where), [Problem("max_tokens", str(max_tokens), f"1 to {limit}")])
    trace = _torch_side().trace_decoder
    (states,), width = _add_states(g, path, partial(trace, checkpoint.where, checkpoint.get))
    return last_state(g, states), width


def _add_states(g: GraphBuilder, path: Path, trace: Callable[[Path, int], None]) -> tuple[list[str], int]:
    """A traced model's nodes: the names of its token states, (B, T, H) float32 each, and H."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".trace-") as beside:
        traced = Path(beside) / "model.onnx"
        trace(traced, OPSET)
        return add_model(g, traced)


def _torch_side() -> ModuleType:
    try:
        return import_torch_side("distillery_trainer.neural.trace")
    except ProviderError as error:
        missing = cast(ModuleNotFoundError, error.__cause__).name  # cast: that is what import_torch_side turns around
        raise ProviderError(
            f"{missing} is not installed, expected to export a model that has no hand-written graph: "
            "pip install 'distillery-exporter[torch]'"
        ) from error


def add_model(g: GraphBuilder, path: Path) -> tuple[list[str], int]:
    """Adds the nodes of an ONNX file whose inputs must be tensors of the same names in `g`.

    The file's own names are not kept, so that the bytes of `g` depend on its nodes and weights alone. One weight at a
    time is in memory.

    Args:
        g: the graph.
        path: the file, its larger weights beside it.

    Returns:
        The outputs' names in `g`, and the size of their last axis.

    Raises:
        InputError: the file is of another opset, or uses operators other than ONNX's own, functions or subgraphs.
    """
    model = onnx.load(path, load_external_data=False)
    problems = list(_problems(model))
    if problems:
        raise InputError(str(path), problems)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    names = {"": "", **{port.name: port.name for port in model.graph.input}}
    for node in model.graph.node:
        for name in node.input:
            if name not in names:
                names[name] = _add_weight(g, weights[name], path.parent)
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        hints = [node.op_type.lower() if name else "" for name in node.output]
        inputs = [names[name] for name in node.input]
        while inputs and not inputs[-1]:  # onnxruntime 1.31 crashes on a LayerNormalization whose last input is empty
            inputs.pop()
        added = g.multi(node.op_type, inputs, hints, **attributes)
        names.update(zip(node.output, added, strict=True))
    outputs = model.graph.output
    return [names[output.name] for output in outputs], outputs[0].type.tensor_type.shape.dim[-1].dim_value


def _add_weight(g: GraphBuilder, tensor: TensorProto, folder: Path) -> str:
    array = numpy_helper.to_array(tensor, str(folder))
    return g.const(array) if array.nbytes < SMALL_BYTES else g.init(array)


def _problems(model: ModelProto) -> Iterator[Problem]:
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("") != OPSET:
        yield Problem("opset_import", str(opsets.get("")), str(OPSET))
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain})
    if foreign:
        yield Problem("node", ", ".join(foreign), "ONNX's own operators")
    nested = sorted({n.op_type for n in model.graph.node if any(a.type in _SUBGRAPHS for a in n.attribute)})
    if nested:
        yield Problem("node", ", ".join(nested), "operators without a subgraph")
