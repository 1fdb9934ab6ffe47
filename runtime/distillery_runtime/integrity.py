"""Opening a bundle's files safely: nothing unlisted, nothing linked, every digest right, before anything is parsed."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from distillery_runtime.errors import BundleError
from distillery_runtime.manifest import MANIFEST_NAME, Manifest, parse_manifest

MAX_MANIFEST_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20


def open_manifest(folder: Path) -> tuple[Manifest, str]:
    """Reads and checks a bundle's manifest and every file that it lists.

    Returns:
        The manifest and the bundle id, the SHA-256 of `bundle.json`.

    Raises:
        BundleError: with every problem found: a missing, unlisted, linked or changed file, or a bad manifest.
    """
    manifest, bundle_id = read_manifest(folder)
    problems = [*_unlisted(folder, manifest), *_changed(folder, manifest)]
    if problems:
        raise BundleError("\n".join(f"{folder}: {line}" for line in problems))
    return manifest, bundle_id


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """Reads a bundle's manifest and checks it alone, without the files that it lists.

    Returns:
        The manifest and the bundle id, the SHA-256 of `bundle.json`.

    Raises:
        BundleError: there is no plain `bundle.json` of an acceptable size, or it is a bad manifest.
    """
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder, expected a bundle made by `exporter build`")
    path = folder / MANIFEST_NAME
    problem = _not_plain(path)
    if problem:
        raise BundleError(f"{path}: {problem}")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path}: {path.stat().st_size} bytes, expected at most {MAX_MANIFEST_BYTES}")
    data = path.read_bytes()
    return parse_manifest(data, str(path)), hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> tuple[int, str]:
    """A file's size in bytes and SHA-256, read without following a link."""
    digest, size = hashlib.sha256(), 0
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _unlisted(folder: Path, manifest: Manifest) -> Iterator[str]:
    listed = {entry.path for entry in manifest.files} | {MANIFEST_NAME}
    for root, folders, files in os.walk(folder):
        for name in folders:
            path = Path(root, name)
            if path.is_symlink():
                yield f"{path.relative_to(folder)}: a symbolic link, expected plain files only"
        for name in files:
            path = Path(root, name).relative_to(folder)
            if path.as_posix() not in listed:
                yield f"{path}: not listed in {MANIFEST_NAME}, expected no other file"


def _changed(folder: Path, manifest: Manifest) -> Iterator[str]:
    for entry in manifest.files:
        path = folder / entry.path
        problem = _not_plain(path)
        if problem:
            yield f"{entry.path}: {problem}"
            continue
        size = path.stat().st_size
        if size != entry.size_bytes:
            yield f"{entry.path}: {size} bytes, expected {entry.size_bytes}"
        elif file_digest(path) != (entry.size_bytes, entry.sha256):
            yield f"{entry.path}: its SHA-256 differs from the manifest's, expected an unchanged file"


def _not_plain(path: Path) -> str | None:
    try:
        found = path.lstat()
    except OSError as error:
        return f"cannot be read ({error.strerror}), expected a file"
    if not stat.S_ISREG(found.st_mode):
        return "not a plain file (a symbolic link, folder or device)"
    if found.st_nlink != 1:
        return f"a hard link ({found.st_nlink} names for one file), expected a copy of its own"
    return None
