"""Ends a pass of llama.cpp at the state of the tokens that were asked for, before the vocabulary's logits.

llama.cpp asks a callback of each node of its graph whether it wants to see the node, computes all nodes up to one that
it wants, shows it, and goes on unless told to stop.
"""

import ctypes
from pathlib import Path

import llama_cpp
import numpy as np
from numpy.typing import NDArray

STATE = b"result_norm"  # llama.cpp's name for what follows the last norm

_GGML = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
_name_of = _GGML.ggml_get_name
_name_of.argtypes, _name_of.restype = [ctypes.c_void_p], ctypes.c_char_p
_data_of = _GGML.ggml_get_data_f32
_data_of.argtypes, _data_of.restype = [ctypes.c_void_p], ctypes.POINTER(ctypes.c_float)


class StopAtState:
    """The callback of a context, and what it saw: one state, `width` numbers wide.

    The graph is the same in every pass of a length, so that names are only asked for until the node is found; then
    nodes are counted, which takes less than a thousandth of a pass.
    """

    def __init__(self, width: int) -> None:
        self._state = np.zeros(width, np.float32)
        self._seen = False
        self.callback = llama_cpp.ggml_backend_sched_eval_callback(self._called)

    def begin(self) -> None:
        """Before a pass."""
        self._seen = False

    def state(self) -> NDArray[np.float32]:
        """After a pass.

        Raises:
            RuntimeError: it did not come by the state.
        """
        if not self._seen:
            raise RuntimeError(f"llama.cpp computed no {STATE.decode()}")
        return self._state

    def _called(self, node: int, ask: bool, _: ctypes.c_void_p) -> bool:
        """Whether it is the state (`ask`), or whether to go on after it."""
        if ask:
            return bool(_name_of(node) == STATE)
        self._state[:] = np.ctypeslib.as_array(_data_of(node), self._state.shape)
        self._seen = True
        return False
