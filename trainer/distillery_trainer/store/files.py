"""JSON files, finished work moved to its place, and digests of what a run depends on."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.safe_write import write_text
from distillery_runtime.files.strict_json import parse_json


def write_json(path: Path, content: object) -> None:
    """Writes JSON with stable key order and finite numbers only."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Mapping[str, Any]:  # Any: nested JSON
    """Reads a JSON object that a run holds.

    Raises:
        InputError: the file holds something else.
    """
    try:
        content = parse_json(path.read_bytes())
    except ValueError as error:
        raise InputError(str(path), [Problem("(file)", f"not JSON ({error})", "as `trainer fit` wrote it")]) from error
    if not isinstance(content, dict):
        raise InputError(str(path), [Problem("(file)", type(content).__name__, "a JSON object")])
    return content


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Writes JSON lines in one step."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def is_writable(record: Mapping[str, object]) -> bool:
    """Whether `write_jsonl` can carry a record: half a character has no encoding, and 1e999 is read as infinite."""
    try:
        json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # UnicodeEncodeError is one
        return False
    return True


def promote(source: Path, target: Path) -> None:
    """Moves a finished file or folder to its place, replacing what was there."""
    if target.is_dir():
        shutil.rmtree(target)
    elif source.is_dir():
        target.unlink(missing_ok=True)  # a folder cannot be renamed onto a file
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def digest(value: object) -> str:
    """SHA-256 of a JSON-like value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def tree_digest(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder with their names."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    contents = [(f.relative_to(path).as_posix(), f.read_bytes()) for f in files if f.is_file()]
    return digest([[name, hashlib.sha256(content).hexdigest()] for name, content in contents])
