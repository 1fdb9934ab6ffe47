"""Long passes over texts in chunks that are kept, so that a killed pass goes on and no text is computed twice."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from distillery_runtime.files.safe_write import replacing
from distillery_trainer.store.files import digest

CHUNK_TEXTS = 128
DIGEST_BYTES = 16

Matrix = NDArray[np.float32]


class ChunkCache:
    """Keeps each text's row in a folder, by what it depends on; a file holds the rows of a chunk of texts.

    Args:
        folder: where to keep the chunks.
        key: names the model and everything else that the results depend on, but for the texts.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self._prefix = digest(key)[:32]

    def compute(
        self,
        texts: Sequence[str],
        function: Callable[[Sequence[str]], Matrix],
        done: Callable[[int], None] | None = None,
    ) -> Matrix:
        """Gives each text's row, (N, K) float32 for N > 0 texts in any order and selection.

        Args:
            texts: what to compute.
            function: texts to (N, K) float32, called with chunks of the texts whose rows are not kept.
            done: callback for how many texts have their rows, after each chunk.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        ids = [_digest(text) for text in texts]
        kept = dict(self._kept())
        missing = {own: text for own, text in zip(ids, texts, strict=True) if own not in kept}
        for start in range(0, len(missing), CHUNK_TEXTS):
            chunk = dict(list(missing.items())[start : start + CHUNK_TEXTS])
            values = np.ascontiguousarray(function(list(chunk.values())), dtype=np.float32)
            self._keep(list(chunk), values)
            kept.update(zip(chunk, values, strict=True))
            if done:
                done(sum(own in kept for own in ids))
        if done and not missing:
            done(len(texts))
        return np.stack([kept[own] for own in ids])

    def _keep(self, ids: Sequence[bytes], values: Matrix) -> None:
        path = self._folder / f"{self._prefix}-{_digest(b''.join(ids)).hex()}.safetensors"
        with replacing(path) as beside:
            save_file({"texts": np.frombuffer(b"".join(ids), np.uint8).copy(), "values": values}, beside)

    def _kept(self) -> Iterator[tuple[bytes, Matrix]]:
        """The rows that are kept, by their texts' digests; a damaged chunk holds none."""
        for path in sorted(self._folder.glob(f"{self._prefix}-*.safetensors")):
            yield from _read(path)


def _read(path: Path) -> Iterator[tuple[bytes, Matrix]]:
    try:
        tensors = load_file(path)
        texts, values = tensors["texts"].tobytes(), tensors["values"]
    except (FileNotFoundError, SafetensorError, KeyError):
        return
    if values.dtype == np.float32 and values.ndim == 2 and len(values) * DIGEST_BYTES == len(texts):
        for place, row in enumerate(values):
            yield texts[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES], row


def _digest(content: str | bytes) -> bytes:
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
