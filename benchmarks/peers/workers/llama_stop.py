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

    Every pass has the same nodes, so that names are only asked for from where the state was found before. Asking takes
    about 0.5 ms of a pass.
    """

    def __init__(self, width: int) -> None:
        self._state = np.zeros(width, np.float32)
        self._seen = False
        self._asked = 0
        self._place = 0
        self.callback = llama_cpp.ggml_backend_sched_eval_callback(self._called)

    def begin(self) -> None:
        """Before a pass."""
        self._seen, self._asked = False, 0

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
        if not ask:
            self._state[:] = np.ctypeslib.as_array(_data_of(node), self._state.shape)
            self._seen = True
            return False
        self._asked += 1
        found = self._asked >= self._place and _name_of(node) == STATE
        if found:
            self._place = self._asked
        return found
