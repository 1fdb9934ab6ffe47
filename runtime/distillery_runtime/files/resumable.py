"""Resumable output: a file that appears when it is whole, and whose lines survive an interruption.

Until then a file `results.jsonl` is `.results.jsonl.part`, and `.results.jsonl.part.json`, the note, says what it is a
part of. The note is locked as long as a process is at work on the part.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.lock import only_process
from distillery_runtime.files.safe_write import part_of, put_in_place, real_path
from distillery_runtime.files.strict_json import JsonError, parse_json

Identity = Mapping[str, object]
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Output:
    """What is written to. `part`: the file, where it is one that appears when it is whole. `kept`: its lines so far."""

    stream: TextIO
    part: Path | None = None
    kept: int = 0

    def keep(self, lines: int) -> None:
        """Keeps only so many of the first lines. To be called before anything is written."""
        if self.part is not None:
            with self.part.open("rb+") as stream:
                for _ in range(lines):
                    stream.readline()
                stream.truncate(stream.tell())
            self.stream.seek(0, os.SEEK_END)


@contextmanager
def open_output(
    path: Path | None, say: Callable[[str], None], identity: Identity | None = None, resume: bool = False
) -> Iterator[Output]:
    """Opens a file that appears under its name only when all of it is written; None is stdout.

    What is there and is no regular file (a pipe, `/dev/null`) is written to as it is; a link's target is replaced.

    Args:
        path: the file.
        say: callback for progress messages.
        identity: what the lines depend on, as JSON. With it, lines that were written before an error, an interruption
            or a kill stay for `resume`; without it they stay only after a kill, until they are replaced.
        resume: continue after the whole lines of the part that is there; without a part, begin.

    Raises:
        InputError: the path is a folder; another process is writing the file; there is a part, and of other results.
    """
    if path is None:
        with _named("stdout"):
            yield Output(sys.stdout)
            sys.stdout.flush()
        return
    target = real_path(path)
    if target.is_dir():
        raise InputError("--out", [Problem(str(path), "a folder", "a file")])
    if target.exists() and not target.is_file():
        if resume:
            raise InputError("--resume", [Problem(str(path), "not a regular file", "--out FILE")])
        with _named(str(path)), target.open("w", encoding="utf-8") as stream:
            yield Output(stream)
        return
    part, note = parts_of(target)
    in_use = Problem(str(target), "another process is writing it", "one at a time")
    with only_process(note, "--out", in_use) as noted:
        found = _read_note(noted)
        kept = _resumable(part, found, identity) if resume and part.exists() else None
        if kept is None:
            if part.exists():
                say(f"{part}: {_whole_lines(part):,} lines of a process that was interrupted are replaced")
            part.unlink(missing_ok=True)  # before the note: that must never be of another part
            _write_note(noted, identity)
        else:
            say(f"{part}: continues after {kept:,} lines")
        try:
            with _named(str(path)), part.open("a", encoding="utf-8", newline="\n") as stream:
                yield Output(stream, part, kept or 0)
            with _named(str(path)):
                put_in_place(part, target, mode=None)
            _remove(note)
        except BaseException:  # an interruption too: what is done is kept, or nothing is left lying about
            lines = _whole_lines(part) if identity is not None else 0
            if lines:
                say(f"{part}: {lines:,} lines are kept; the same command with --resume continues after them")
            else:
                part.unlink(missing_ok=True)
                _remove(note)
            raise


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Gives the file's name to an error of writing that has none, a full disk for example."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = name
        raise


def parts_of(target: Path) -> tuple[Path, Path]:
    """Where a file is written before it is whole, and where it is noted what it is a part of."""
    part = part_of(target)
    return part, part.parent / f"{part.name}.json"


def _read_note(noted: TextIO) -> object:
    """What the process before this one noted, or None."""
    noted.seek(0)
    try:
        found = parse_json(noted.read())
    except (JsonError, UnicodeDecodeError):
        found = None
    return found.get("of") if isinstance(found, dict) and found.get("schema_version") == 1 else None


def _write_note(noted: TextIO, identity: Identity | None) -> None:
    """Replaces the note through the locked file itself: on Windows no other handle may write there."""
    noted.seek(0)
    noted.truncate()
    noted.write(json.dumps({"schema_version": 1, "of": identity}, ensure_ascii=False))
    noted.flush()


def _resumable(part: Path, found: object, identity: Identity | None) -> int:
    """How many whole lines of the right results there are; a torn last line is cut off."""
    expected = json.loads(json.dumps(identity))
    before = found if isinstance(found, dict) else {}
    problems = [
        Problem(f"{part}: {name}", _short(before.get(name)), f"{_short(value)} as now, or no --resume")
        for name, value in expected.items()
        if before.get(name) != value
    ]
    if problems:
        raise InputError("--resume", problems)
    whole, size = 0, 0
    with part.open("rb+") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                break
            whole, size = whole + 1, size + len(line)
        stream.truncate(size)
    return whole


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _remove(note: Path) -> None:
    with suppress(PermissionError):  # of Windows, where an open file stays; the next process takes it over
        note.unlink(missing_ok=True)


def _whole_lines(part: Path) -> int:
    with part.open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(BLOCK_BYTES), b""))
