"""Torch tensors in safetensors files: written whole or not at all, read with an error that says what is wrong."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.safe_write import replacing


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors, copied to the CPU, with string metadata in the file's header."""
    with replacing(path) as beside:
        save_tensors(beside, tensors, metadata)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """As `write_tensors`, but into the file itself, and perhaps not yet onto the disk."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path, metadata=dict(metadata) if metadata else None)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads all tensors of a file onto the CPU.

    Raises:
        InputError: the file is missing, or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(str(path), [Problem(path.name, f"unreadable ({error})", "a safetensors file")]) from error


def read_metadata(path: Path) -> dict[str, str]:
    """Reads the string metadata of a file's header.

    Raises:
        InputError: the file is missing, or damaged.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            return stream.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(str(path), [Problem(path.name, f"unreadable ({error})", "a safetensors file")]) from error
