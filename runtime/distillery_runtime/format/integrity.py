"""Opening a bundle's files: nothing unlisted, no links, every digest right, and what is opened is what was checked.

A hard link is an ordinary file under a second name, as installers and backups make them; the digest protects its
content. A symbolic link, device or pipe may give other bytes at each reading, and is refused. A file that bundles share
(see `places`) is checked as those in the bundle's own folder are.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from distillery_runtime.errors import BundleError, InputError, Problem
from distillery_runtime.files.strict_json import JsonError, parse_json
from distillery_runtime.format.manifest import MANIFEST_NAME, FileEntry, Manifest, parse_manifest
from distillery_runtime.format.onnx_scan import scan_graph
from distillery_runtime.format.places import SHARED_FOLDER, place_of

MAX_MANIFEST_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20
ATTEMPTS = 5  # to read a file while nothing about it changes
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

PLAIN = "plain files alone (`cp -rL` makes them of links)"
CHANGED = "changed while the bundle was loaded, expected an unchanged file"
DIFFERS = "its SHA-256 differs from the manifest's, expected an unchanged file"

# Device, inode, size, and the times of the last change of a file's content and of its inode. Whoever writes to a file,
# or moves another into its place and back, changes one of them. So does whoever makes a hard link of it, as a backup
# does: then the file is read again.
State = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Checked:
    """A bundle's folder whose every file was checked.

    `states`: by path, of the data files when they were read. `places`: by path, where each file was found.
    """

    folder: Path
    manifest: Manifest
    id: str
    states: Mapping[str, State]
    places: Mapping[str, Path]

    @property
    def shared(self) -> tuple[str, ...]:
        """The paths of the files that lie in the folder `shared` beside the bundle's."""
        return tuple(path for path, place in self.places.items() if place != self.folder / path)

    def read(self, name: str) -> bytes:
        """Reads a listed file once more.

        Raises:
            BundleError: it is not what was checked.
        """
        digest = next(entry.sha256 for entry in self.manifest.files if entry.path == name)
        return read_unchanged(self.places[name], digest)

    def copy_whole(self, target: Path) -> None:
        """Copies all files into a new folder, what the bundle shares too, so that it stands alone there."""
        for name, place in (*self.places.items(), (MANIFEST_NAME, self.folder / MANIFEST_NAME)):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place, target / name, follow_symlinks=False)


def check_folder(folder: Path, expected_id: str | None = None) -> Checked:
    """Checks a bundle's manifest and every file that it lists.

    Raises:
        BundleError: with every problem found: a missing, unlisted, linked or changed file, one of a kind that no bundle
            holds, a bad manifest, or another bundle than the one with `expected_id`.
        InputError: as `check_id`.
    """
    folder = Path(os.path.realpath(folder))  # a link to a folder that is moved on meanwhile still gives one bundle
    manifest, bundle_id = read_manifest(folder)
    check_id(str(folder), bundle_id, expected_id)
    problems = list(_unlisted(folder, manifest))
    states: dict[str, State] = {}
    places = {entry.path: place_of(folder, entry) for entry in manifest.files}
    needs: dict[str, int] = {}  # of each data file the bytes that graphs read
    for entry in manifest.files:
        place = places[entry.path]
        try:
            if place != folder / entry.path:
                _check_shared(place, entry)
            elif state := _check_file(place, entry, needs):
                states[entry.path] = state
        except ValueError as error:
            problems.append(f"{entry.path}: {error}")
    problems = problems or list(_data_files(manifest, needs))
    if problems:
        raise BundleError(*(f"{folder}: {line}" for line in problems))
    return Checked(folder, manifest, bundle_id, states, places)


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
    try:
        with _opened(path) as stream:
            data = stream.read(MAX_MANIFEST_BYTES + 1)
        if len(data) > MAX_MANIFEST_BYTES:
            raise ValueError(f"more than {MAX_MANIFEST_BYTES} bytes, expected at most that")
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error
    return parse_manifest(data, str(path)), hashlib.sha256(data).hexdigest()


def check_id(where: str, bundle_id: str, expected_id: str | None) -> None:
    """Sees that a bundle is the expected one; None expects nothing.

    Raises:
        InputError: what is expected is not a whole bundle id. Bundles can be made until one fits a part of an id.
        BundleError: it is another bundle.
    """
    if expected_id is None:
        return
    if len(expected_id) != 64 or not set(expected_id) <= set("0123456789abcdefABCDEF"):
        found = f"{expected_id!r} ({len(expected_id)} characters)"
        expected = "the whole bundle id, 64 hex digits, as `distillery inspect` shows it"
        raise InputError(where, [Problem("expected id", found, expected)])
    if bundle_id != expected_id.lower():
        raise BundleError(f"{where}: bundle id {bundle_id}, expected {expected_id}")


def file_digest(path: Path) -> tuple[int, str]:
    """A file's size in bytes and SHA-256, read without following a link."""
    with open(os.open(path, _FLAGS), "rb") as stream:
        return _digest_of(stream)


def read_unchanged(path: Path, sha256: str) -> bytes:
    """Reads a file that was checked before.

    Raises:
        BundleError: it is not there, or its bytes are not those with this digest.
    """
    try:
        with _opened(path) as stream:
            data = stream.read()
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BundleError(f"{path}: {CHANGED}")
    return data


def unchanged_state(path: Path, sha256: str) -> State:
    """Reads a file that was checked before and gives its state meanwhile; errors as in `read_unchanged`."""
    try:
        with _opened(path) as stream:
            return _settled(stream, sha256)
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error


def state_of(path: Path) -> State | None:
    """A file's state now; None if it cannot be told."""
    try:
        return _state(path.lstat())
    except OSError:
        return None


def _check_file(path: Path, entry: FileEntry, needs: dict[str, int]) -> State | None:
    """Checks a listed file's size, digest and content, and notes what a graph needs of its data files.

    Returns:
        The state of a data file, which is opened by its name; None for files that are read again and checked then.

    Raises:
        ValueError: what is wrong with it.
    """
    with _opened(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size != entry.size_bytes:
            raise ValueError(f"{size} bytes, expected {entry.size_bytes}")
        if entry.role == "weights":
            return _settled(stream, entry.sha256, DIFFERS)
        data = stream.read(size + 1)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise ValueError(DIFFERS)
    for name, end in _check_content(entry, data).items():
        needs[name] = max(needs.get(name, 0), end)
    return None


def _check_shared(place: Path, entry: FileEntry) -> None:
    """Checks a file in the folder for what bundles share, where only graphs lie that have no data file.

    Raises:
        ValueError: what is wrong with it.
    """
    name, needs = f"../{SHARED_FOLDER}/{place.name}", dict[str, int]()
    if place.parent.is_symlink():
        raise ValueError(f"../{SHARED_FOLDER} is a symbolic link, expected {PLAIN}")
    if not os.path.lexists(place):
        expected = f"one of them: a bundle of a set needs the folder `{SHARED_FOLDER}` that lies beside it in the set"
        raise ValueError(f"not in the bundle's folder, nor as {name}, expected {expected}")
    try:
        _check_file(place, entry, needs)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if needs:
        raise ValueError(f"{name}: its weights are in a data file, expected such a graph in the bundle's own folder")


def _check_content(entry: FileEntry, data: bytes) -> Mapping[str, int]:
    """Sees that a file is of the kind that its role says; data files of graphs, which are plain numbers, excepted.

    Returns:
        For a graph, the paths of its data files in the bundle and how many bytes of each it needs.

    Raises:
        ValueError: the file is of another kind.
    """
    if entry.role == "graph":
        folder = PurePosixPath(entry.path).parent
        return {(folder / name).as_posix(): end for name, end in scan_graph(data).data_files.items()}
    if entry.role == "tokenizer" and not (data.lstrip()[:1] == b"{" and data.rstrip()[-1:] == b"}"):
        raise ValueError("not JSON, expected a tokenizer.json")  # all of it is checked before it is opened
    if entry.role in ("spec", "calibration", "quality", "reference"):
        try:
            parse_json(data)
        except JsonError as error:
            raise ValueError(f"not JSON ({error})") from error
    if entry.role in ("golden", "card"):
        data.decode()  # UnicodeDecodeError is a ValueError
        if b"\0" in data:
            raise ValueError("a zero byte, expected text")
    return {}


def _settled(stream: BinaryIO, sha256: str, otherwise: str = CHANGED) -> State:
    """A file's state while it had the bytes with this digest.

    Raises:
        ValueError: it has others, or changes all the time.
    """
    for _ in range(ATTEMPTS):
        stream.seek(0)
        state = _state(os.fstat(stream.fileno()))
        if _digest_of(stream)[1] != sha256:
            raise ValueError(otherwise)
        if _state(os.fstat(stream.fileno())) == state:
            return state
    raise ValueError(CHANGED)


def _data_files(manifest: Manifest, needs: Mapping[str, int]) -> Iterator[str]:
    """Sees that graphs read from listed data files alone, within their sizes, and that no other data is listed."""
    sizes = {entry.path: entry.size_bytes for entry in manifest.files if entry.role == "weights"}
    for name, end in needs.items():
        if name not in sizes:
            yield f"a graph reads weights from {name}, expected a listed file of role weights"
        elif end > sizes[name]:
            yield f"a graph reads {end} bytes of {name}, expected at most its {sizes[name]}"
    yield from (f"{name}: no graph reads it, expected the data file of a graph" for name in sizes if name not in needs)


def _unlisted(folder: Path, manifest: Manifest) -> Iterator[str]:
    listed = {entry.path for entry in manifest.files} | {MANIFEST_NAME}
    parents = {str(parent) for name in listed for parent in PurePosixPath(name).parents}
    refusals: list[OSError] = []
    for root, folders, files in os.walk(folder, onerror=refusals.append):
        for name in folders:
            path = Path(root, name)
            inside = path.relative_to(folder).as_posix()
            if path.is_symlink():
                yield f"{inside}: a symbolic link, expected {PLAIN}"
            elif inside not in parents:
                yield f"{inside}: a folder without a listed file, expected no other folder"
        for name in files:
            path = Path(root, name).relative_to(folder)
            if path.as_posix() not in listed:
                yield f"{path}: not listed in {MANIFEST_NAME}, expected no other file"
    yield from (f"{error.filename}: cannot be read ({error.strerror})" for error in refusals)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a plain file for reading.

    Raises:
        ValueError: it is no plain file, or cannot be read.
    """
    try:
        _expect_plain(path.lstat())
        with open(os.open(path, _FLAGS), "rb") as stream:
            _expect_plain(os.fstat(stream.fileno()))
            yield stream
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}), expected a file") from error


def _expect_plain(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"not a plain file (a symbolic link, folder or device), expected {PLAIN}")


def _digest_of(stream: BinaryIO) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def _state(found: os.stat_result) -> State:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
