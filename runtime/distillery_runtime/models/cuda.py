"""Running graphs on CUDA: few shapes, buffers kept on the device for each, and a recorded CUDA graph to replay.

A small model's hundreds of kernels cost more to launch than to compute. CUDA can record one run and replay it with one
launch, but only with the same shapes and addresses. So batches are padded to one of few shapes, and each shape keeps
its buffers. `BoundSession` works on the CPU device too, which is how it is tested where there is no GPU.
"""

import logging
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from distillery_runtime.errors import ProviderError
from distillery_runtime.format.variants import Device
from distillery_runtime.tokens.window import Ids, TokenIds, pad

logger = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[Any]]  # Any: a graph's inputs are integers, its outputs floats
Outputs = dict[str, NDArray[np.float32]]

CUDA = "CUDAExecutionProvider"

# Lengths that batches are padded to: steps of a half and a third, so at most a third of a batch's tokens is padding and
# less than a sixth on average. Windows end the ladder, whatever their size.
LADDER = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
# A GPU wants many tokens at once. 16,384 are 32 rows of 512, whose attention scores in Gemma-3-270M (4 heads, 2 bytes)
# take 64 MiB.
CUDA_BATCH_TOKENS = 16_384
# Shapes that keep buffers and a recorded graph; the rest run without. onnxruntime has no way to release one recording
# on CUDA, so none is dropped for another. A window of 512 tokens has 10 lengths and at most 80 shapes.
MAX_RECORDED = 96
# A replay must give what a plain run gives. The kernels are the same; only the order of sums may differ.
REPLAY_TOLERANCE = 1e-3
# onnxruntime records after two plain runs of a shape, or within the first one, by version.
RUNS_TO_RECORD = 3
NOT_RECORDED = "-1"

_OPTIONS = {
    # Grow the arena by what is needed: the default doubles it, and a card is often shared between models.
    "arena_extend_strategy": "kSameAsRequested",
    # TF32 keeps 10 bits of a mantissa, which would take the fp32 reference out of its tolerance.
    "use_tf32": "0",
}

# One model at a time on the device: kernels of two would queue anyway, and memory that one thread asks for while
# another records a graph breaks the recording.
_device_lock = threading.Lock()


def bucket_tokens(length: int, max_tokens: int) -> int:
    """The length that a row of `length` tokens is padded to: the next of `LADDER`, at most the window's."""
    return min(next((step for step in LADDER if step >= length), max_tokens), max_tokens)


def bucket_rows(count: int) -> int:
    """The number of rows that a batch of `count` is filled up to: the next power of two."""
    return 1 << (count - 1).bit_length()


def bucket_batches(lengths: Sequence[int], max_tokens: int, budget: int = CUDA_BATCH_TOKENS) -> list[list[int]]:
    """Groups rows that are padded to the same length, as many as fill a power of two within `budget` tokens.

    Returns:
        Lists of row indices, shortest rows first; together they hold every index once.
    """
    buckets: dict[int, list[int]] = {}
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        buckets.setdefault(bucket_tokens(lengths[index], max_tokens), []).append(index)
    batches: list[list[int]] = []
    for tokens, indices in buckets.items():
        rows = 1 << max(0, (budget // tokens).bit_length() - 1)
        batches.extend(indices[i : i + rows] for i in range(0, len(indices), rows))
    return batches


def pad_to_bucket(rows: Sequence[TokenIds], max_tokens: int) -> tuple[Ids, Ids]:
    """Pads rows on the right and fills the batch up with rows of one token, to be dropped from what the model gives.

    Returns:
        input_ids and attention_mask, both (`bucket_rows`, `bucket_tokens`) int64. No row's mask is empty.
    """
    input_ids, mask = pad(rows)
    more = ((0, bucket_rows(len(rows)) - len(rows)), (0, bucket_tokens(mask.shape[1], max_tokens) - mask.shape[1]))
    input_ids, mask = np.pad(input_ids, more), np.pad(mask, more)
    mask[len(rows) :, 0] = 1
    return input_ids, mask


@cache
def cuda_is_installed() -> bool:
    """Whether onnxruntime has CUDA at all; whether it works here only a session can tell."""
    # CUDA's libraries often come as pip packages, where a loader does not look. onnxruntime prints those that it
    # misses, and standard output is for results. Its builds without CUDA do nothing here.
    with redirect_stdout(sys.stderr):
        ort.preload_dlls()
    return CUDA in ort.get_available_providers()


def open_on_cuda(
    path: Path, options: ort.SessionOptions, model: bytes | None = None
) -> tuple[ort.InferenceSession, bool]:
    """Opens a graph on CUDA.

    Args:
        path: the graph's file.
        options: of the session.
        model: the file's content; None lets onnxruntime read it.

    Returns:
        The session, and whether it can record CUDA graphs. One with nodes that only the CPU can run cannot.

    Raises:
        ProviderError: CUDA is not installed, does not start, or cannot open this graph.
    """
    found = "onnxruntime was built without it"
    for record in ("1", "0") if cuda_is_installed() else ():
        providers = [(CUDA, {**_OPTIONS, "enable_cuda_graph": record}), "CPUExecutionProvider"]
        try:
            # Its own fallback would print, and open the graph on the CPU.
            session = ort.InferenceSession(model or str(path), options, providers=providers, enable_fallback=0)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises no one base
            found = str(error)
            continue
        if session.get_providers()[0] == CUDA:
            if record == "0":
                logger.warning("runs without CUDA graphs", extra={"graph": path.name})
            return session, record == "1"
        found = "it did not start"
    raise ProviderError(
        f"{path}: onnxruntime cannot use CUDA here ({found}), expected a CUDA 13 driver, cuDNN 9 and the package "
        "distillery-runtime-gpu in place of distillery-runtime (or use provider 'cpu')"
    )


@dataclass(frozen=True, slots=True)
class _Recording:
    """One shape's buffers on the device, bound to the session, and the name of its recorded graph."""

    binding: ort.IOBinding
    inputs: Mapping[str, ort.OrtValue]
    outputs: Mapping[str, ort.OrtValue]
    options: ort.RunOptions


class BoundSession:
    """Runs a session on a device's own buffers, replaying recorded CUDA graphs where the session can record.

    Args:
        session: an open session on `device`.
        outputs: the outputs to give.
        device: where its inputs and outputs live.
        record: whether to record a CUDA graph for each shape. On the CPU device nothing is recorded, but the buffers
            are kept all the same.
    """

    def __init__(self, session: ort.InferenceSession, outputs: Sequence[str], device: Device, record: bool) -> None:
        self._session = session
        self._outputs = tuple(outputs)
        self._device = device
        self._record = record
        self._recordings: dict[tuple[tuple[int, ...], ...], _Recording] = {}

    def run(self, inputs: Arrays) -> Outputs:
        """Runs the graph; the arrays given are new ones. Raises what onnxruntime raises."""
        shape = tuple(array.shape for array in inputs.values())
        with _device_lock:
            if shape in self._recordings:
                return self._replay(self._recordings[shape], inputs)
            outputs = self._run_plain(inputs)
            if self._record and len(self._recordings) < MAX_RECORDED:
                self._try_to_record(shape, inputs, outputs)
            return outputs

    def _run_plain(self, inputs: Arrays) -> Outputs:
        binding = self._session.io_binding()
        for name, array in inputs.items():
            value = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self._device)
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding, _run_options(NOT_RECORDED))
        return dict(zip(self._outputs, (np.array(value) for value in binding.copy_outputs_to_cpu()), strict=True))

    def _try_to_record(self, shape: tuple[tuple[int, ...], ...], inputs: Arrays, expected: Outputs) -> None:
        """Records this shape on other inputs, replays it on these, and keeps it if that gives what a plain run gave."""
        try:
            recording = self._new_recording(inputs, expected)
            others = {name: np.ones_like(array) for name, array in inputs.items()}
            for _ in range(RUNS_TO_RECORD):
                self._replay(recording, others)
            replayed = self._replay(recording, inputs)
            agrees = all(_agree(replayed[name], expected[name]) for name in self._outputs)
        except Exception as error:  # noqa: BLE001 - onnxruntime raises no one base
            self._stop_recording(str(error))
            return
        if agrees:
            self._recordings[shape] = recording
        else:
            self._stop_recording("a replay gave other numbers than a plain run")

    def _stop_recording(self, reason: str) -> None:
        """Goes back to plain runs for good: what one shape cannot do, no shape is trusted with."""
        logger.warning("runs without CUDA graphs", extra={"error": reason})
        self._record = False
        self._recordings.clear()

    def _new_recording(self, inputs: Arrays, outputs: Outputs) -> _Recording:
        binding = self._session.io_binding()
        held = {name: self._buffer(array) for name, array in inputs.items()}
        given = {name: self._buffer(array) for name, array in outputs.items()}
        for name, value in held.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in given.items():
            binding.bind_ortvalue_output(name, value)
        # Recordings are only ever added while `_record` holds, so their count names each once.
        return _Recording(binding, held, given, _run_options(str(len(self._recordings) + 1)))

    def _buffer(self, like: NDArray[Any]) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_shape_and_type(like.shape, like.dtype.type, self._device)

    def _replay(self, recording: _Recording, inputs: Arrays) -> Outputs:
        for name, value in recording.inputs.items():
            value.update_inplace(np.ascontiguousarray(inputs[name]))
        recording.binding.synchronize_inputs()
        self._session.run_with_iobinding(recording.binding, recording.options)
        recording.binding.synchronize_outputs()
        return {name: np.array(value.numpy()) for name, value in recording.outputs.items()}


def _run_options(graph_id: str) -> ort.RunOptions:
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", graph_id)
    return options


def _agree(found: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    scale = max(1.0, float(np.max(np.abs(expected))))
    return bool(np.allclose(found, expected, rtol=0, atol=REPLAY_TOLERANCE * scale, equal_nan=True))
