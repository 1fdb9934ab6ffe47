"""Tensors by name from a set of safetensors files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from distillery_runtime.errors import InputError, Problem

_FLOATS = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


class TensorFiles:
    """The tensors of all the files, none of which is read before it is asked for.

    Args:
        where: the folder, for messages.
        paths: the files, one at least.

    Raises:
        InputError: there is no file, one is not readable, or two hold a tensor of the same name.
    """

    def __init__(self, where: Path, paths: Sequence[Path]) -> None:
        self.where = where
        self._files: dict[str, Any] = {}  # Any: safetensors' open file has no public type
        if not paths:
            raise InputError(str(where), [Problem("*.safetensors", "no such file", "the model's weights")])
        problems = [problem for path in paths for problem in self._add(path)]
        if problems:
            raise InputError(str(where), problems)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    @property
    def names(self) -> list[str]:
        """Every tensor's name, sorted."""
        return sorted(self._files)

    def get(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Reads a tensor as float32, the caller's to change.

        Raises:
            InputError: there is no such tensor, or it has another shape or element type.
        """
        if name not in self._files:
            raise InputError(str(self.where), [Problem(name, "no such tensor", f"one of shape {shape}")])
        tensor = self._files[name].get_tensor(name)
        if tensor.shape != shape or tensor.dtype not in _FLOATS:
            expected = f"float32, float16 or bfloat16 of shape {shape}"
            raise InputError(str(self.where), [Problem(name, f"{tensor.dtype} of shape {tensor.shape}", expected)])
        return np.array(tensor, dtype=np.float32, copy=None)

    def _add(self, path: Path) -> list[Problem]:
        try:
            file: Any = safe_open(path, framework="np")
        except (OSError, SafetensorError) as error:
            return [Problem(path.name, str(error), "a readable safetensors file")]
        names = list(file.keys())
        twice = [Problem(name, f"also in {path.name}", "every tensor once") for name in names if name in self._files]
        self._files.update(dict.fromkeys(names, file))
        return twice
