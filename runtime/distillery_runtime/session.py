"""ONNX graphs, opened on the hardware that was asked for and never silently on another."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from distillery_runtime.cpu import usable_cores
from distillery_runtime.errors import BundleError, ModelError, ProviderError

logger = logging.getLogger(__name__)

Provider = Literal["auto", "cpu", "cuda"]
Arrays = Mapping[str, NDArray[Any]]  # Any: a graph's inputs are integers, its outputs floats

_EXECUTION_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Graph:
    """One ONNX graph, ready to run.

    Raises:
        BundleError: onnxruntime cannot load the file, or its inputs or outputs are not those expected.
        ProviderError: `provider` is "cuda" and CUDA does not work here.
    """

    def __init__(
        self, path: Path, inputs: Sequence[str], outputs: Sequence[str], provider: Provider, threads: int | None
    ) -> None:
        self._session = _open(path, provider, threads)
        self._outputs = list(outputs)
        self._name = path.name
        self.provider = "cuda" if self._session.get_providers()[0] == _EXECUTION_PROVIDERS["cuda"] else "cpu"
        _expect(path, "inputs", [i.name for i in self._session.get_inputs()], inputs)
        _expect(path, "outputs", [o.name for o in self._session.get_outputs()], outputs)

    def run(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        """Runs the graph and gives its outputs by name.

        Raises:
            ModelError: the graph cannot run on these inputs.
        """
        try:
            values = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise ModelError(f"{self._name}: onnxruntime cannot run this graph ({error})") from error
        return dict(zip(self._outputs, values, strict=True))


def _open(path: Path, provider: Provider, threads: int | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    wanted = "cpu" if provider == "cpu" else "cuda"
    if wanted == "cuda" and _EXECUTION_PROVIDERS["cuda"] in ort.get_available_providers():
        session = _create(path, options, [_EXECUTION_PROVIDERS["cuda"], _EXECUTION_PROVIDERS["cpu"]])
        # The list of available providers names CUDA even where it cannot start; only the session knows.
        if session.get_providers()[0] == _EXECUTION_PROVIDERS["cuda"]:
            return session
        logger.warning("CUDA is installed but did not start")
        if provider == "auto":
            return session
    if provider == "cuda":
        raise ProviderError(
            "provider 'cuda': onnxruntime cannot use CUDA here, expected a CUDA 13 driver, cuDNN 9 and the package "
            "distillery-runtime-gpu in place of distillery-runtime (or use provider 'cpu')"
        )
    return _create(path, options, [_EXECUTION_PROVIDERS["cpu"]])


def _create(path: Path, options: ort.SessionOptions, providers: list[str]) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions share no base but Exception
        raise BundleError(f"{path}: onnxruntime cannot load this graph ({error})") from error


def _expect(path: Path, what: str, found: Sequence[str], expected: Sequence[str]) -> None:
    if sorted(found) != sorted(expected):
        raise BundleError(f"{path}: {what} {', '.join(found)}, expected {', '.join(expected)}")
