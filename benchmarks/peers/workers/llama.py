"""llama.cpp through llama-cpp-python's plain bindings, at its best for one state of a text: its last token's.

Option `form`: the quantisation. What llama.cpp has for embeddings computes the vocabulary's logits of every token too,
several times the work of the model itself, and its other mode those of the last token. Neither is needed here, so a
pass runs in the latter and stops at the last token's state. Option `embedding`: true for the mode for embeddings as it
comes.
"""

import ctypes
import os
from collections.abc import Sequence

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.workers.conversion import converted
from benchmarks.peers.workers.llama_stop import StopAtState
from benchmarks.peers.workers.protocol import Opening, Vector, serve

PACKAGES = ("llama-cpp-python", "gguf")
MAX_TOKENS = 512
WARNING = 3  # ggml_log_level

Floats = NDArray[np.float32]


class LlamaPeer:
    """A `Peer`."""

    def __init__(self, opening: Opening) -> None:
        llama_cpp.llama_log_set(_log, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        path = converted(opening, "llama_convert", PACKAGES) / "model.gguf"
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        if not self._model or opening.head is None:
            raise RuntimeError(f"llama.cpp cannot load {path.name}")
        self._head: Floats = np.load(opening.head)
        self._stop = None if opening.options.get("embedding") else StopAtState(self._head.shape[1])
        self._context = _context(self._model, opening.threads, self._stop)
        self._batch = llama_cpp.llama_batch_init(MAX_TOKENS, 0, 1)

    def prepare(self, ids: Sequence[int]) -> llama_cpp.llama_batch:
        """As in `Peer`."""
        batch = self._batch
        batch.n_tokens = len(ids)
        for place, token in enumerate(ids):
            batch.token[place], batch.pos[place] = token, place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = place == len(ids) - 1
        return batch

    def forward(self, inputs: llama_cpp.llama_batch) -> Floats:
        """As in `Peer`."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)
        if self._stop:
            self._stop.begin()
        if failure := llama_cpp.llama_decode(self._context, inputs):
            raise RuntimeError(f"llama_decode gave {failure}")
        llama_cpp.llama_synchronize(self._context)
        return self._head @ (self._stop.state() if self._stop else self._embedding())

    def output(self, result: Floats) -> Vector:
        """As in `Peer`."""
        values: list[float] = result.tolist()
        return values

    def _embedding(self) -> Floats:
        found = llama_cpp.llama_get_embeddings_seq(self._context, 0)
        return np.ctypeslib.as_array(ctypes.cast(found, ctypes.POINTER(ctypes.c_float)), (self._head.shape[1],))


def _context(model: llama_cpp.llama_model_p, threads: int, stop: StopAtState | None) -> llama_cpp.llama_context_p:
    """A context whose batch is a whole text, with flash attention."""
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = MAX_TOKENS
    settings.n_seq_max = 1
    settings.n_threads = settings.n_threads_batch = threads
    settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
    settings.embeddings = stop is None
    settings.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_NONE if stop else llama_cpp.LLAMA_POOLING_TYPE_LAST
    if stop:
        settings.cb_eval = stop.callback
    context = llama_cpp.llama_init_from_model(model, settings)
    if not context:
        raise RuntimeError("llama.cpp cannot make a context")
    return context


@llama_cpp.llama_log_callback
def _log(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    """Keeps warnings and errors, so that the log's last line says why a process ended."""
    if level >= WARNING:
        os.write(2, text)


if __name__ == "__main__":
    serve(LlamaPeer, PACKAGES)
