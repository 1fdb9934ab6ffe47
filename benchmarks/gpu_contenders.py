"""What is measured: our graphs with and without recorded CUDA graphs, and PyTorch, from host arrays to host arrays."""

import gc
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.gpu_models import MAX_TOKENS, Subject
from benchmarks.parity_graphs import OUTPUTS
from benchmarks.parity_torch import TorchModel
from benchmarks.peers.models import Kind
from distillery_runtime.format.variants import Device
from distillery_runtime.models.cuda import BoundSession, open_on_cuda, pad_to_bucket
from distillery_runtime.models.session import session_options
from distillery_runtime.models.stage import INPUTS
from distillery_runtime.tokens.window import Ids, TokenIds

Floats = NDArray[np.float32]
Batch = tuple[Ids, Ids]

RECORDED, PLAIN = "CUDA graphs", "plain runs"
# Kernels by Inductor, launched by CUDA graphs; the max-autotune modes compile for minutes.
COMPILE_MODE = "reduce-overhead"


class Contender(Protocol):
    """One way to run a model."""

    @property
    def name(self) -> str:
        """What it is, for people."""

    def run(self, batch: Batch) -> Floats:
        """Raw outputs or pooled states (B, K) of input_ids and attention_mask, (B, T) int64, when they are here."""


class OurSession:
    """A graph of ours, open on a device. `can_record`: whether it can record CUDA graphs."""

    def __init__(self, path: Path, kind: Kind, device: Device, threads: int) -> None:
        self.kind: Kind = kind
        self.device: Device = device
        options = session_options(threads)
        if device == "cuda":
            self.session, self.can_record = open_on_cuda(path, options)
        else:
            self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            self.can_record = True  # nothing is recorded there, but the buffers are kept


class OurGraph:
    """A `Contender`: a form of ours, as the runtime runs it."""

    def __init__(self, form: str, opened: OurSession, record: bool = True) -> None:
        record = record and opened.can_record
        self.name = f"{form}, {RECORDED if record else PLAIN}"
        self._output = OUTPUTS[opened.kind][0]
        self._bound = BoundSession(opened.session, [self._output], opened.device, record)

    def run(self, batch: Batch) -> Floats:
        """As in `Contender`."""
        return self._bound.run(dict(zip(INPUTS, batch, strict=True)))[self._output]


class TorchGraph:
    """A `Contender`: PyTorch through transformers, sdpa attention, eager or compiled."""

    def __init__(self, subject: Subject, dtype: torch.dtype, device: Device, compiled: bool = False) -> None:
        how = f"compiled, {COMPILE_MODE}" if compiled else "eager"
        self.name = f"pytorch {str(dtype).removeprefix('torch.')}, {how}"
        self._device = device
        self._model = TorchModel(subject.folder, subject.kind, dtype, device)
        self._head = None if subject.head is None else torch.from_numpy(subject.head).to(device).T
        self._forward = torch.compile(self._answer, mode=COMPILE_MODE, dynamic=False) if compiled else self._answer

    @torch.inference_mode()
    def run(self, batch: Batch) -> Floats:
        """As in `Contender`."""
        ids, mask = (torch.from_numpy(array).to(self._device) for array in batch)
        found: Floats = self._forward(ids, mask).cpu().numpy()
        return found

    def _answer(self, ids: Tensor, mask: Tensor) -> Tensor:
        pooled = self._model.forward(ids, mask)
        return pooled if self._head is None else pooled @ self._head


def answers(contender: Contender, batches: Sequence[Sequence[TokenIds]]) -> Floats:
    """What a contender says of batches of texts, padded as the runtime pads them on CUDA, one below the other."""
    return np.concatenate([contender.run(pad_to_bucket(rows, MAX_TOKENS))[: len(rows)] for rows in batches])


def forget() -> None:
    """Gives back the GPU memory of models that are no longer used."""
    gc.collect()
    torch.cuda.empty_cache()


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the main thread when its block takes longer, at the next step that Python takes."""

    def end(_signal: int, _frame: object) -> None:
        raise TimeoutError(f"not done within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
