"""Putting a bundle together: list and seal its files, prove that it loads, and only then give it its name."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.format.integrity import file_digest
from distillery_runtime.format.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    FileEntry,
    FilterEntry,
    Manifest,
    Role,
    StageEntry,
    seal,
)
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.selection import Selection

ROLES: Mapping[str, Role] = {
    "filter.json": "spec",
    "calibration.json": "calibration",
    "golden.jsonl": "golden",
    "quality.json": "quality",
    "reference.json": "reference",
    "README.md": "card",
}


def write_manifest(
    folder: Path, spec: FilterSpec, stages: Sequence[StageEntry], selection: Selection, lineage: Mapping[str, str]
) -> None:
    """Writes `bundle.json` for all files that are in the folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        path.chmod(0o644)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        filter=FilterEntry(name=spec.name, version=spec.version),
        stages=tuple(stages),
        selection=selection,
        lineage=dict(lineage),
        files=tuple(_entry(path, folder) for path in paths),
    )
    (folder / MANIFEST_NAME).write_bytes(seal(manifest))


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Gives an empty folder that takes the target's place when the block ends well.

    Raises:
        InputError: the target is there and is no bundle, so it is not ours to replace.
    """
    if target.exists() and not (target / MANIFEST_NAME).is_file():
        raise InputError(
            "--out", [Problem(str(target), "a file or folder that is no bundle", "a new name, or a bundle")]
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
        if target.exists():
            target.replace(old)
        try:
            beside.replace(target)
        except OSError:
            if old.exists():
                old.replace(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _entry(path: Path, folder: Path) -> FileEntry:
    name = path.relative_to(folder).as_posix()
    role: Role = ROLES.get(name) or ("tokenizer" if path.name == "tokenizer.json" else _model_role(path))
    size, sha256 = file_digest(path)
    return FileEntry(path=name, role=role, size_bytes=size, sha256=sha256)


def _model_role(path: Path) -> Role:
    return "graph" if path.suffix == ".onnx" else "weights"
