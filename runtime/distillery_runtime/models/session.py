"""ONNX graphs, opened on the hardware that was asked for and never silently on another."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from distillery_runtime.errors import BundleError, ModelError
from distillery_runtime.format.variants import Device
from distillery_runtime.models.cpu import sums_bytes_exactly, usable_cores
from distillery_runtime.models.cuda import Arrays, BoundSession, open_on_cuda

Provider = Literal["auto", "cpu", "cuda"]


class Graph:
    """One ONNX graph, ready to run; safe to share between threads.

    Args:
        path: the file; weights may stand in a data file beside it.
        inputs: the names of its inputs, in any order.
        outputs: the names of its outputs, in any order.
        device: where to run it.
        threads: how many; None for the cores this process may use.
        model: the file's content; None reads it.

    Raises:
        BundleError: onnxruntime cannot load the file, or its inputs or outputs are not those expected.
        ProviderError: `device` is "cuda" and CUDA does not work here.
    """

    def __init__(
        self,
        path: Path,
        inputs: Sequence[str],
        outputs: Sequence[str],
        device: Device,
        threads: int | None,
        model: bytes | None = None,
    ) -> None:
        self._outputs = list(outputs)
        self._name = path.name
        self._bound: BoundSession | None = None
        self.provider: Device = device
        options = session_options(threads)
        options.add_session_config_entry("session.load_model_format", "ONNX")  # whatever the bytes look like
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
        content = path.read_bytes() if model is None else model
        if device == "cuda":
            self._session, capture = open_on_cuda(path, options, content)
            self._bound = BoundSession(self._session, outputs, "cuda", capture)
        else:
            self._session = _open_on_cpu(path, content, options)
        self._session._model_bytes = None  # kept for a fallback to other providers, which is never wanted
        _expect(path, "inputs", [i.name for i in self._session.get_inputs()], inputs)
        _expect(path, "outputs", [o.name for o in self._session.get_outputs()], outputs)

    def run(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        """Runs the graph and gives its outputs by name.

        Raises:
            ModelError: the graph cannot run on these inputs.
        """
        try:
            if self._bound is not None:
                return self._bound.run(inputs)
            values = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise ModelError(f"{self._name}: onnxruntime cannot run this graph ({error})") from error
        return dict(zip(self._outputs, values, strict=True))


def session_options(threads: int | None) -> ort.SessionOptions:
    """The options of every session: threads for one model at a time, none of which burns its core while it waits.

    A data file is mapped into memory. onnxruntime copies the matrices from it into the order its kernels want; that
    stays on, for it makes a run 1.2 times as fast for as much memory as the mapped pages would take.

    Where the CPU may sum products of bytes in 16 bits, which overflow, onnxruntime makes the weights unsigned: slower,
    and the same answers as elsewhere.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not sums_bytes_exactly():
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3
    return options


def _open_on_cpu(path: Path, model: bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base but Exception
        raise BundleError(f"{path}: onnxruntime cannot load this graph ({error})") from error


def _expect(path: Path, what: str, found: Sequence[str], expected: Sequence[str]) -> None:
    if sorted(found) != sorted(expected):
        raise BundleError(f"{path}: {what} {', '.join(found)}, expected {', '.join(expected)}")
