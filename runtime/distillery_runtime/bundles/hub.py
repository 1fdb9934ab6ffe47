"""Pull of a bundle from the Hugging Face Hub: bounded in bytes and time, checked beside its place, then named.

Needs the extra `hub`.
"""

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, but not in an __all__
    build_hf_headers,
    get_session,
    hf_raise_for_status,
    validate_repo_id,
)

from distillery_runtime.bundles.child import load_in_child
from distillery_runtime.bundles.hub_errors import BUNDLE, MAIN, TOKEN, TransportError, explained
from distillery_runtime.bundles.load import open_bundle
from distillery_runtime.environment import key_in
from distillery_runtime.errors import BundleError, InputError, Problem, ProviderError
from distillery_runtime.format.integrity import MAX_MANIFEST_BYTES, check_id, read_manifest
from distillery_runtime.format.manifest import MANIFEST_NAME, Manifest

Say = Callable[[str], object]
T = TypeVar("T")

FIXED_S = 60.0
BYTES_PER_S = 100_000  # a slow line; a large bundle over a slower one takes --timeout-s, or several calls
MAX_INFO_BYTES = 16 << 20
REPORT_S = 10.0
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

PARTIAL = 206


@dataclass(frozen=True, slots=True)
class Pulled:
    """A bundle that came from the Hub; `pin` is `owner/name@<commit>`, which always gives the same files."""

    folder: Path
    bundle_id: str
    pin: str


@dataclass(frozen=True, slots=True)
class _Revision:
    """A commit of a repository, and the sizes of its files in bytes as far as the Hub states them."""

    commit: str
    sizes: Mapping[str, int]


class _Download:
    """Fetches from one repository, until it is stopped. `received` counts the bytes that came."""

    def __init__(self, repo_id: str, token: str | None) -> None:
        self._repo_id = repo_id
        self._headers = {**build_hf_headers(token=token or False), "Accept-Encoding": "identity"}
        self._stopped = threading.Event()
        self.received = 0

    def revision(self, name: str) -> _Revision:
        """Resolves a branch, tag or commit.

        Raises:
            InputError: the Hub does not know the repository or the revision, or refuses this token.
            ProviderError: the Hub cannot be reached, or names a commit that is none.
        """
        with explained(BUNDLE, self._repo_id, name):
            validate_repo_id(self._repo_id)
            url = f"{constants.ENDPOINT}/api/models/{self._repo_id}/revision/{quote(name, safe='')}?blobs=true"
            with self._answer(url, {}) as response:
                data = b"".join(self._chunks(response, MAX_INFO_BYTES))
        return _revision_of(data, self._repo_id, name)

    def file(self, commit: str, name: str, most: int, folder: Path) -> None:
        """Fetches a file unless it is there already; it appears under its name when all of it has come.

        Args:
            commit: of the repository.
            name: its path, which has been checked to be a safe one.
            most: its size, or the largest that it may have. What comes beyond it is not read.
            folder: where it goes.

        Raises:
            BundleError: it is larger.
            InputError: the Hub does not know it, or refuses this token.
            ProviderError: the Hub cannot be reached.
        """
        target = folder / name
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f"{target.name}.incomplete")
        with explained(BUNDLE, self._repo_id, commit):
            url = hf_hub_url(self._repo_id, name, revision=commit, endpoint=constants.ENDPOINT)
            while True:
                before = _size(beside)
                try:
                    self._append(url, before if before < most else 0, most, beside)
                    break
                except TransportError:
                    if _size(beside) <= before or self._stopped.is_set():
                        raise  # an attempt that brought something is worth another one
        beside.replace(target)

    def stop(self) -> None:
        """Ends what is being fetched at the next bytes that come."""
        self._stopped.set()

    def _append(self, url: str, begin: int, most: int, beside: Path) -> None:
        with self._answer(url, {"Range": f"bytes={begin}-"} if begin else {}) as response:
            begin = begin if response.status_code == PARTIAL else 0  # not every server knows ranges
            with beside.open("r+b" if begin else "wb") as sink:
                sink.seek(begin)
                for chunk in self._chunks(response, most - begin):
                    sink.write(chunk)

    @contextmanager
    def _answer(self, url: str, more: Mapping[str, str]) -> Iterator[Any]:  # Any: the client's own type
        headers, timeout = {**self._headers, **more}, constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
            hf_raise_for_status(response)
            yield response

    def _chunks(self, response: Any, most: int) -> Iterator[bytes]:  # Any: the client's own type
        left = most
        for chunk in response.iter_bytes():
            left -= len(chunk)
            self.received += len(chunk)
            if left < 0:
                raise BundleError(f"{self._repo_id}: the Hub sends more than the {most} bytes that this file may have")
            if self._stopped.is_set():
                raise ProviderError(f"{self._repo_id}: stopped")
            yield chunk


def pull(
    reference: str, out: Path | None, bundles: Path, expected_id: str | None, say: Say, timeout_s: float | None = None
) -> Pulled:
    """Fetches a bundle and gives it its place once all of it has been checked.

    Only the files that the manifest lists are fetched, and of each no more bytes than the manifest says. They lie in a
    hidden folder beside the place, which a repeated call goes on with; one with a wrong file is removed.

    Args:
        reference: `owner/name`, or `owner/name@revision` with a branch, tag or commit.
        out: the bundle's folder; by default `<filter>-<version>` under `bundles`.
        bundles: the folder for bundles without an `out`.
        expected_id: as in `load`.
        say: callback for progress messages.
        timeout_s: when to give up fetching, and then testing; None: by the bundle's size.

    Raises:
        InputError: the Hub does not give this repository, or something else is at the place.
        BundleError: what came is damaged, unsafe, too new, too large, or another bundle than expected.
        ProviderError: the Hub cannot be reached, or not in time.
    """
    repo_id, _, revision = reference.partition("@")
    download, end = _Download(repo_id, key_in(TOKEN)), timeout_s and time.monotonic() + timeout_s

    def waiting(work: Callable[[], T], size_bytes: int = 0) -> T:
        left = end - time.monotonic() if end else _default_timeout_s(size_bytes)
        return _within(left, work, download, lambda received: say(f"{received / 1e6:,.1f} MB received"))

    found = waiting(lambda: download.revision(revision or MAIN))
    part = (out.parent if out else bundles) / f".{repo_id.replace('/', '--')}.{found.commit[:12]}.part"
    try:
        if found.sizes.get(MANIFEST_NAME, 0) > MAX_MANIFEST_BYTES:
            raise BundleError(f"{repo_id}: {MANIFEST_NAME} has {found.sizes[MANIFEST_NAME]} bytes on the Hub, expected "
                              f"at most {MAX_MANIFEST_BYTES}")  # fmt: skip
        waiting(lambda: download.file(found.commit, MANIFEST_NAME, MAX_MANIFEST_BYTES, part))
        manifest, bundle_id = read_manifest(part)
        check_id(repo_id, bundle_id, expected_id)
        target = out or bundles / f"{manifest.filter.name}-{manifest.filter.version}"
        if not _is_there(target, bundle_id):
            _expect_sizes(repo_id, manifest, found)
            say(f"{repo_id}@{found.commit}: {manifest.size_bytes / 1e6:,.1f} MB")
            waiting(lambda: _fetch_files(download, found.commit, manifest, part), manifest.size_bytes)
            load_in_child(part, bundle_id, timeout_s, say)
            part.replace(target)
        shutil.rmtree(part, ignore_errors=True)
    except (BundleError, InputError):
        shutil.rmtree(part, ignore_errors=True)
        raise
    return Pulled(target, bundle_id, f"{repo_id}@{found.commit}")


def _expect_sizes(repo_id: str, manifest: Manifest, found: _Revision) -> None:
    """Sees that the Hub's files have the manifest's sizes, before any of them is fetched."""
    for entry in manifest.files:
        size = found.sizes.get(entry.path, entry.size_bytes)
        if size != entry.size_bytes:
            raise BundleError(f"{repo_id}: {entry.path} has {size} bytes on the Hub, expected {entry.size_bytes}")


def _fetch_files(download: _Download, commit: str, manifest: Manifest, part: Path) -> None:
    for entry in manifest.files:
        download.file(commit, entry.path, entry.size_bytes, part)


def _is_there(target: Path, bundle_id: str) -> bool:
    """Whether the bundle is at its place already, whole.

    Raises:
        InputError: something else is there, which is not ours to replace.
        BundleError: a bundle is there and is damaged.
    """
    if not target.exists():
        return False
    if not (target / MANIFEST_NAME).is_file():
        raise InputError("--out", [Problem(str(target), "a file or folder that is no bundle", "a new name")])
    found = open_bundle(target).id
    if found != bundle_id:
        expected = f"a new name (--out DIR) for the bundle {bundle_id[:12]}"
        raise InputError("--out", [Problem(str(target), f"there is the bundle {found[:12]}", expected)])
    return True


def _default_timeout_s(size_bytes: int) -> float:
    """A generous deadline for fetching so much."""
    return FIXED_S + size_bytes / BYTES_PER_S


def _within(timeout_s: float, work: Callable[[], T], download: _Download, say: Callable[[int], object]) -> T:
    """Does a download's work until a deadline, whatever the other side does.

    Args:
        timeout_s: when to give up.
        work: what to do; it is left alone in its thread when the time is over.
        download: what `work` uses, to be stopped.
        say: called with the bytes that came, every ten seconds.

    Raises:
        ProviderError: the time is over; and what `work` raises.
    """
    done: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)  # one that hangs must not keep the process
    thread.start()
    end = time.monotonic() + timeout_s
    try:
        while thread.is_alive() and (left := end - time.monotonic()) > 0:
            thread.join(min(left, REPORT_S))
            if thread.is_alive() and left > REPORT_S:
                say(download.received)
    finally:
        if thread.is_alive():
            download.stop()
    if errors:
        raise errors[0]
    if not done:
        raise ProviderError(
            f"the Hub sent {download.received:,} bytes within {timeout_s:.0f} s, expected all of it; the same command "
            "continues from there, --timeout-s allows more time"
        )
    return done[0]


def _revision_of(data: bytes, repo_id: str, name: str) -> _Revision:
    """Reads the Hub's answer about a revision; nothing of it is taken for a path unless it is a hash."""
    try:
        content = json.loads(data)
        commit, siblings = content["sha"], content.get("siblings") or []
        sizes = {file["rfilename"]: file["size"] for file in siblings if isinstance(file.get("size"), int)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ProviderError(f"{repo_id}: the Hub's answer cannot be read ({error!r})") from error
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise ProviderError(f"{repo_id}: the Hub names the commit {str(commit)[:80]!r}, expected 40 hex digits")
    if _COMMIT.fullmatch(name) and name != commit:
        raise ProviderError(f"{repo_id}: the Hub names the commit {commit}, expected {name}")
    return _Revision(commit, sizes)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
