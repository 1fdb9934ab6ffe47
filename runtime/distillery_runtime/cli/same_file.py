"""Keeps output from destroying input: a command refuses to write where it reads, by whatever name."""

import os
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.resumable import parts_of
from distillery_runtime.files.safe_write import real_path
from distillery_runtime.format.manifest import MANIFEST_NAME
from distillery_runtime.format.places import shared_folder


def refuse_same_file(output: Path | None, inputs: Iterable[Path | None], option: str = "--out") -> None:
    """Sees that a file to be written is none of those that are read, before anything is opened for writing.

    The same file may have another name: a link, a hard link, another spelling, a standard stream. A file in a bundle's
    folder would make the bundle unsound, and one that is there in another folder that is read would be replaced.

    Args:
        output: the file to be written; None is stdout.
        inputs: files and folders that are read; None is stdin.
        option: which one names the output.

    Raises:
        InputError: it is one of them, or in one of them.
    """
    names = [output, *parts_of(real_path(output))] if output is not None else [None]
    for source in inputs:
        if source is not None and source.is_dir():
            _refuse_inside(output, source, option)
        elif any(_is_same(name, source) for name in names):
            what = "stdin" if source is None else str(source)
            where = "stdout" if output is None else str(output)
            raise InputError(option, [Problem(where, f"the same file as the input {what}", "another file")])


def refuse_replaced(folder: Path, inputs: Iterable[Path], names: Sequence[str] = (), option: str = "--out") -> None:
    """Sees that a folder to be written holds nothing that is read, or that it does not replace it.

    Args:
        folder: the folder.
        inputs: files and folders that are read.
        names: what is written in the folder; nothing stands for all of it.
        option: which one names the folder.

    Raises:
        InputError: it holds one of them.
    """
    whole = real_path(folder)
    replaced = [whole / name for name in names] or [whole]
    for source in inputs:
        place = real_path(source)
        if any(place == path or path in place.parents or _is_same(path, source) for path in replaced):
            raise InputError(option, [Problem(str(folder), f"holds the input {source}", "another folder")])


def _refuse_inside(output: Path | None, folder: Path, option: str) -> None:
    if output is None:
        return
    place, whole = real_path(output), real_path(folder)
    is_bundle = (whole / MANIFEST_NAME).is_file()
    is_shared = is_bundle and shared_folder(whole) in place.parents and place.exists()
    if is_shared or (whole in place.parents and (place.exists() or is_bundle)):
        problem = Problem(str(output), f"a file of the input {folder}", "one in another folder")
        raise InputError(option, [problem])


def _is_same(one: Path | None, other: Path | None) -> bool:
    if one is not None and other is not None and not one.exists():
        return real_path(one) == real_path(other)  # two outputs that are to be made
    first, second = _status(one, sys.stdout), _status(other, sys.stdin)
    return first is not None and second is not None and os.path.samestat(first, second)


def _status(path: Path | None, stream: TextIO) -> os.stat_result | None:
    """The status of a file, or of a standard stream; None for what is not there or is no regular file."""
    try:
        found = path.stat() if path is not None else os.fstat(stream.fileno())
    except (OSError, ValueError):  # a stream without a number, as in tests
        return None
    return found if stat.S_ISREG(found.st_mode) else None
