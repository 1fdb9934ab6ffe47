"""Folders that are made once, and made again when that which they were made from has changed."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

RECORD = "made-from.txt"


def kept(folder: Path, key: str, make: Callable[[Path], object]) -> Path:
    """A folder that was made from what `key` stands for: the one that is there, or a new one in its place.

    Args:
        folder: the place.
        key: a digest of all that the content depends on.
        make: fills a new folder. If it raises, nothing is kept.
    """
    record = folder / RECORD
    if record.exists() and record.read_text(encoding="ascii") == key:
        return folder
    beside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    make(beside)
    (beside / RECORD).write_text(key, encoding="ascii")
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    return folder


def digest(*parts: object) -> str:
    """A digest of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def digest_of_code(files: Iterable[Path]) -> str:
    """A digest of source files: what a program does depends on what it says."""
    return digest(*(path.read_text(encoding="utf-8") for path in sorted(files)))


def digest_of_weights(model: Path) -> str:
    """What tells a checkpoint from another in its place, without reading it: its config, its files' sizes and times."""
    files = sorted(model.glob("*.safetensors"))
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return digest((model / "config.json").read_text(encoding="utf-8"), stats)
