"""Long passes over texts in chunks that are kept, so that a killed pass goes on where it was."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from distillery_runtime.files.safe_write import replacing
from distillery_trainer.store.files import digest

CHUNK_TEXTS = 128

Matrix = NDArray[np.float32]


class ChunkCache:
    """Keeps the result of each chunk in a folder, named by what it depends on.

    Args:
        folder: where to keep the chunks.
        key: names the model and everything else that the results depend on, but for the texts.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self._key = key

    def compute(
        self,
        texts: Sequence[str],
        function: Callable[[Sequence[str]], Matrix],
        done: Callable[[int], None] | None = None,
    ) -> Matrix:
        """Applies `function` (texts to (N, K) float32) chunk by chunk, reading the chunks that are kept already."""
        self._folder.mkdir(parents=True, exist_ok=True)
        parts = []
        for start in range(0, len(texts), CHUNK_TEXTS):
            chunk = texts[start : start + CHUNK_TEXTS]
            path = self._folder / f"{digest([self._key, list(chunk)])[:32]}.safetensors"
            values = _read(path, len(chunk))
            if values is None:
                values = np.ascontiguousarray(function(chunk), dtype=np.float32)
                with replacing(path) as beside:
                    save_file({"values": values}, beside)
            parts.append(values)
            if done:
                done(min(start + CHUNK_TEXTS, len(texts)))
        return np.concatenate(parts)


def _read(path: Path, texts: int) -> Matrix | None:
    """A chunk that was kept; None where there is none, or a damaged one, which is made again."""
    try:
        values: Matrix = load_file(path)["values"]
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
    return values if values.dtype == np.float32 and values.ndim == 2 and len(values) == texts else None
