"""Reading JSON lines from files nobody has checked: every line gives one record or one reason, memory stays bounded."""

import stat
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from distillery_runtime.articles.sniffing import (
    BLANKS,
    BOM,
    EXPECTED,
    SNIFFED_BYTES,
    STDIN,
    has_magic,
    other_format,
    wrapped_list,
)
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.strict_json import JsonError, RepeatedKeyError, parse_json

MAX_LINE_BYTES = 16 << 20
MAX_SNIFFED_LINES = 100


class Lines(Protocol):
    """What lines are read from: a binary file, for example."""

    def readline(self, limit: int, /) -> bytes:
        """The next line, at most `limit` bytes of it; empty at the end."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that holds no JSON object; `reason` says where and why."""

    reason: str


def read_jsonl(stream: Lines) -> Iterator[Mapping[str, object] | BadLine]:
    """Gives each line's object, or a `BadLine` in its place. Blank lines are passed over.

    A line above 16 MiB is skipped without being held in memory. What `parse_json` refuses is refused: a key given
    twice, for example, or `NaN`.
    """
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE_BYTES)
            yield BadLine(f"line {number}: longer than {MAX_LINE_BYTES} bytes")
        elif (content := line.removeprefix(BOM) if number == 1 else line).strip(BLANKS):
            yield _parse(content, number)


def read_jsonl_file(path: Path | None) -> Generator[Mapping[str, object] | BadLine, None, None]:
    """Gives what `read_jsonl` gives of a file, or of stdin where there is no path.

    Raises:
        InputError: there is no such file, it is a folder, or it is of another format (CSV, gzip, a JSON array, UTF-16,
            Parquet ...), which is named with its cure. None is raised after the first line that is a JSON object,
            unless that is the first line of all and holds a list of objects.
    """
    if path is not None and (problem := file_problem(path, or_pipe=True)):
        raise InputError("articles", [problem])
    name = STDIN if path is None else str(path)
    try:
        with nullcontext(sys.stdin.buffer) if path is None else path.open("rb") as stream:
            yield from read_jsonl(sniffed(stream, name))
    except OSError as error:
        problem = Problem(name, f"cannot be read ({error.strerror or error})", EXPECTED)
        raise InputError("articles", [problem]) from error


def read_again(path: Path) -> Generator[Mapping[str, object] | BadLine, None, None]:
    """Gives what `read_jsonl_file` gives of a file that is read more than once, as a pipe cannot be.

    Raises:
        InputError: as there, or it is a pipe or a device.
    """
    if problem := file_problem(path):
        raise InputError("articles", [problem])
    yield from read_jsonl_file(path)


def file_problem(path: Path, or_pipe: bool = False) -> Problem | None:
    """What is wrong with a path that should be a file, or (with `or_pipe`) something else that can be read once."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return Problem(str(path), "no such file", EXPECTED)
    except OSError as error:
        return Problem(str(path), f"cannot be read ({error.strerror})", EXPECTED)
    if stat.S_ISDIR(mode):
        return Problem(str(path), "a folder", f"a file of {EXPECTED}")
    if not or_pipe and not stat.S_ISREG(mode):
        return Problem(str(path), "a pipe or device, which can be read only once", f"a file of {EXPECTED}")
    return None


class _Ahead:
    """Lines that have been read already, and then those that come after them."""

    def __init__(self, read: Sequence[bytes], stream: Lines) -> None:
        self._read = list(reversed(read))
        self._stream = stream

    def readline(self, limit: int, /) -> bytes:
        return self._read.pop() if self._read else self._stream.readline(limit)


def sniffed(stream: Lines, name: str) -> Lines:
    """The same lines, unless they are those of another format.

    Of JSON Lines only the first line is read ahead, so that those of a live pipe are not held back.

    Raises:
        InputError: it is another format.
    """
    read: list[bytes] = []
    for line in iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b""):
        read.append(line)
        if not has_magic(read[0]) and _holds_json_lines(read):
            record = _parse(read[-1].removeprefix(BOM), 0)
            if len(read) == 1 and isinstance(record, Mapping) and (problem := wrapped_list(record, name)):
                raise InputError("articles", [problem])
            return _Ahead(read, stream)
        if len(read) >= MAX_SNIFFED_LINES or sum(map(len, read)) >= SNIFFED_BYTES:
            break
    if read and (problem := other_format(read, name)):
        raise InputError("articles", [problem])
    return _Ahead(read, stream)


def _holds_json_lines(read: Sequence[bytes]) -> bool:
    """Whether a line is a JSON object, which is no element of an array or of a larger object over several lines."""
    first, last = read[0].removeprefix(BOM).strip(BLANKS), read[-1].strip(BLANKS)
    if first not in (b"[", b"{"):
        return _is_object(read[-1].removeprefix(BOM))
    return len(read) > 2 and _is_object(read[-2]) and not last.startswith((b"]", b"}", b","))


def _is_object(line: bytes) -> bool:
    return not isinstance(_parse(line, 0), BadLine)


def _parse(line: bytes, number: int) -> Mapping[str, object] | BadLine:
    try:
        record = parse_json(line)
    except JsonError as error:
        if isinstance(error, RepeatedKeyError) or isinstance(error.__cause__, UnicodeDecodeError):
            return BadLine(f"line {number}: {error}")
        return BadLine(f"line {number}: not JSON ({error})")
    if not isinstance(record, dict):
        return BadLine(f"line {number}: must be a JSON object, found {type(record).__name__}")
    return record
