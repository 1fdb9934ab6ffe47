"""Weights read by name: from a checkpoint's folder, or from one with a LoRA adapter merged into it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from distillery_exporter.graphs.settings import CONFIG_NAME, WEIGHTS_NAME, AdapterSettings, read_json, read_settings
from distillery_runtime.errors import InputError, Problem
from distillery_trainer.models.adapters import check_pairs, normalise_keys

_PREFIXES = ("", "model.", "bert.", "roberta.")
HEAD = "score.weight"

Weights = NDArray[np.float32]
_FLOATS = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


class WeightSource(Protocol):
    """What the graph builders read a model from."""

    @property
    def where(self) -> Path:
        """The folder of config.json, for messages."""

    @property
    def config(self) -> Mapping[str, object]:
        """The model's config.json."""

    def get(self, name: str, shape: tuple[int, ...]) -> Weights:
        """A tensor of this name and shape, float32, the caller's to change."""

    def check_complete(self) -> None:
        """Raises InputError unless everything that had to go into the model has been asked for."""


class Checkpoint:
    """A folder in Hugging Face form: config.json and one or more *.safetensors.

    Raises:
        InputError: config.json or the weights are missing or not readable, or a tensor is stored twice.
    """

    def __init__(self, folder: Path) -> None:
        self.where = folder
        self.config = read_json(folder / "config.json")
        paths = sorted(path for path in folder.glob("*.safetensors") if path.name != WEIGHTS_NAME)
        self._tensors = TensorFiles(folder, paths)

    def get(self, name: str, shape: tuple[int, ...]) -> Weights:
        """Reads a tensor, stored as float32, float16 or bfloat16.

        Args:
            name: the tensor's name; that of the model around it (`model.`, `bert.`, `roberta.`) may be there or not,
                in `name` and in the file.
            shape: the shape that it must have.

        Returns:
            float32 of that shape, the caller's to change.

        Raises:
            InputError: there is no such tensor, or it has another shape or element type.
        """
        short = next((name.removeprefix(p) for p in _PREFIXES if p and name.startswith(p)), name)
        stored = next((key for key in (name, *(p + short for p in _PREFIXES)) if key in self._tensors), name)
        return self._tensors.get(stored, shape)

    def check_complete(self) -> None:
        """Does nothing: a checkpoint may hold more than a graph needs, and `get` finds what is missing."""


class MergedCheckpoint:
    """A checkpoint with a peft LoRA adapter added to its weights, and the adapter's score head, if it is wanted.

    Raises:
        InputError: the adapter's files are missing or not readable, or its settings ask for what plain LoRA is not.
    """

    def __init__(self, base: Checkpoint, adapter_folder: Path, with_head: bool = True) -> None:
        self.where = base.where
        self.config = base.config
        self._base = base
        settings_path = adapter_folder / CONFIG_NAME
        self._settings = read_settings(AdapterSettings, read_json(settings_path), settings_path)
        self._tensors = TensorFiles(adapter_folder, [adapter_folder / WEIGHTS_NAME])
        keys = {short: key for key, short in normalise_keys(self._tensors.names).items()}
        self._keys = {short: key for short, key in keys.items() if with_head or short != HEAD}
        self._expected: set[str] = set()

    def get(self, name: str, shape: tuple[int, ...]) -> Weights:
        """Reads a tensor as `Checkpoint.get` does, with the adapter's part added or, for a whole tensor, in its place.

        Raises:
            InputError: as `Checkpoint.get`; or the head is not in the adapter, or a LoRA tensor has a wrong shape.
        """
        if name == HEAD or name in self._keys:
            self._expected.add(name)
            return self._tensors.get(self._keys.get(name, name), shape)
        weights = self._base.get(name, shape)
        module = name.removesuffix(".weight")
        if name.endswith(".weight") and self._settings.covers(module):
            pair = (f"{module}.lora_A.weight", f"{module}.lora_B.weight")
            self._expected.update(pair)
            if all(key in self._keys for key in pair):
                weights += self._change(*pair, shape)
        return weights

    def check_complete(self) -> None:
        """Sees that the adapter's tensors are exactly those that the weights asked for so far call for.

        Raises:
            InputError: a tensor is missing or was not used; all of them are listed.
        """
        check_pairs(set(self._keys), self._expected, str(self._tensors.where / WEIGHTS_NAME))

    def _change(self, down: str, up: str, shape: tuple[int, ...]) -> Weights:
        """`B @ A * alpha / rank`, in the shape of the weights that it is added to."""
        rank = self._settings.r
        a = self._tensors.get(self._keys[down], (rank, shape[1]))
        b = self._tensors.get(self._keys[up], (shape[0], rank))
        return (b @ a) * np.float32(self._settings.lora_alpha / rank)


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
