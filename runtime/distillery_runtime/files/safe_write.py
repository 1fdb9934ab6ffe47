"""Safe write: a file is written beside its place, flushed to the disk and renamed, so that it is whole or not there."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distillery_runtime.errors import InputError, Problem

READABLE = 0o644  # by everybody; safetensors makes files that only their owner can read


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a file name to write to; it takes the place of `path` when the block ends, unless by an error.

    The folder of `path` is made.

    Raises:
        InputError: the path is a folder.
    """
    _refuse_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = part_of(path)
    try:
        yield beside
        put_in_place(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Where a file is written before it is put in its place."""
    return path.parent / f".{path.name}.part"  # also where there is no name, as in "/"


def put_in_place(beside: Path, path: Path, mode: int | None = READABLE) -> None:
    """Gives a file that was written beside `path` its name, once it is on the disk.

    Args:
        beside: the file.
        path: its name from then on; what is there is replaced.
        mode: the permissions to give it; None leaves those it has.
    """
    with beside.open("rb+") as stream:  # a loss of power must not leave an empty file under the final name
        os.fsync(stream.fileno())
    if mode is not None:
        beside.chmod(mode)
    beside.replace(path)


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file as UTF-8.

    A link's target is replaced. What is there and is no regular file (a pipe, `/dev/null`) is written to as it is.

    Raises:
        InputError: the path is a folder.
    """
    place = real_path(path)
    _refuse_folder(path)
    if place.exists() and not place.is_file():
        place.write_text(text, encoding="utf-8")
        return
    with replacing(place) as beside:
        beside.write_text(text, encoding="utf-8")


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise InputError("output", [Problem(str(path), "a folder", "a file")])


def real_path(path: Path) -> Path:
    """A path without symbolic links.

    Raises:
        OSError: they go in a circle. Versions of Python differ in what `Path.resolve` makes of that.
    """
    found = Path(os.path.realpath(path))
    if found.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return found
