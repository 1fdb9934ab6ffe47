"""Files that are there whole or not at all: written beside their place, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a file name to write to; it takes the place of `path` when the block ends, unless by an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    try:
        yield beside
        _flush(beside)
        beside.chmod(0o644)  # safetensors makes files that only their owner can read
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file as UTF-8."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _flush(path: Path) -> None:
    """Puts a file's bytes on the disk, so that a loss of power cannot leave an empty file under the final name."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
