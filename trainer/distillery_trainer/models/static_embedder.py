"""The static embedder: the mean of a token table's rows over a text. Neither torch nor a download."""

import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from distillery_runtime.files.safe_write import replacing
from distillery_runtime.spec.model import Window
from distillery_runtime.tokens.window import TokenWindow

TABLE_FOLDER = Path(__file__).parent / "static_table"
TABLE_FILES = ("table.safetensors", "tokenizer.json")
MIN_NORM = 1e-12
POOLING = "unit mean"  # names what `embed` gives, for what is kept of it


def copy_tokenizer(folder: Path) -> None:
    """Copies the tokenizer that comes with this package, so that a run does not change with the package."""
    shutil.copyfile(TABLE_FOLDER / TABLE_FILES[1], folder / TABLE_FILES[1])


def save_table(rows: NDArray[np.float32], folder: Path) -> None:
    """Writes a table's rows (V, H) as symmetric int8 with one scale a row, half a step of it off at most."""
    scale = (np.abs(rows).max(axis=1) / 127).astype(np.float32)
    table = np.rint(rows / np.where(scale == 0, 1, scale)[:, None]).astype(np.int8)
    with replacing(folder / TABLE_FILES[0]) as beside:
        save_file({"table": table, "scale": scale}, beside)


class StaticEmbedder:
    """Embeds texts by a token table in a folder (`table.safetensors`, `tokenizer.json`).

    `table`: (V, H) int8 and `scale`: (V,) float32; row i of the embedding matrix is table[i] * scale[i]. A row of zeros
    is of a token that the table does not know.
    """

    def __init__(self, window: Window, folder: Path = TABLE_FOLDER) -> None:
        stamps = [(folder / name).stat().st_mtime_ns for name in TABLE_FILES]
        self.table, self.scale, self.window = _open(folder.resolve(), window, *stamps)
        self.folder = folder

    @property
    def rows(self) -> NDArray[np.float32]:
        """The table as it counts: (V, H) float32."""
        return self.table.astype(np.float32) * self.scale[:, None]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The mean of each text's known tokens' rows at unit length: (N, H) float32; zeros without a known token."""
        pooled = [self._pool(row.ids) for row in self.window.encode(texts)]
        return np.stack(pooled) if pooled else np.zeros((0, self.table.shape[1]), np.float32)

    def _pool(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        total = self.scale[ids] @ self.table[ids].astype(np.float32)
        return (total / max(float(np.linalg.norm(total)), MIN_NORM)).astype(np.float32)


@lru_cache(maxsize=2)
def _open(
    folder: Path,
    window: Window,
    *stamps: int,  # noqa: ARG001 - when its files were written, so that a table that has changed is read again
) -> tuple[NDArray[np.int8], NDArray[np.float32], TokenWindow]:
    """Reads a table; a fit opens the same one many times."""
    tensors = load_file(folder / TABLE_FILES[0])
    return tensors["table"], tensors["scale"], TokenWindow(folder / TABLE_FILES[1], window)
