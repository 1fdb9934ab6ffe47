"""Files that are there whole or not at all: written beside their place, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.part_file import real_path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a file name to write to; it takes the place of `path` when the block ends, unless by an error."""
    beside = part_of(path)
    try:
        yield beside
        put_in_place(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Where a file is written before it is put in its place; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.part")


def put_in_place(beside: Path, path: Path) -> None:
    """Gives a file that was written beside `path` its name, once it is on the disk."""
    _flush(beside)
    beside.chmod(0o644)  # safetensors makes files that only their owner can read
    beside.replace(path)


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file as UTF-8.

    A link's target is replaced. What is there and is no regular file (a pipe, `/dev/null`) is written to as it is.

    Raises:
        InputError: the path is a folder.
    """
    place = real_path(path)
    if place.is_dir():
        raise InputError("output", [Problem(str(path), "a folder", "a file")])
    if place.exists() and not place.is_file():
        place.write_text(text, encoding="utf-8")
        return
    with replacing(place) as beside:
        beside.write_text(text, encoding="utf-8")


def _flush(path: Path) -> None:
    """Puts a file's bytes on the disk, so that a loss of power cannot leave an empty file under the final name."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
