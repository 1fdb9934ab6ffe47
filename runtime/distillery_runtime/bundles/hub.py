"""Pulling a bundle from the Hugging Face Hub: fetched beside its place, checked, then named. Needs the extra `hub`."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from distillery_runtime.bundles.child import load_in_child
from distillery_runtime.bundles.hub_errors import TOKEN
from distillery_runtime.bundles.hub_fetch import Download, Revision, default_timeout_s, within
from distillery_runtime.bundles.load import open_bundle
from distillery_runtime.environment import key_in
from distillery_runtime.errors import BundleError, InputError, Problem
from distillery_runtime.format.integrity import MAX_MANIFEST_BYTES, check_id, read_manifest
from distillery_runtime.format.manifest import MANIFEST_NAME, Manifest

MAIN = "main"

Say = Callable[[str], object]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pulled:
    """A bundle that came from the Hub; `pin` is `owner/name@<commit>`, which always gives the same files."""

    folder: Path
    bundle_id: str
    pin: str


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
    download, end = Download(repo_id, key_in(TOKEN)), timeout_s and time.monotonic() + timeout_s

    def waiting(work: Callable[[], T], size_bytes: int = 0) -> T:
        left = end - time.monotonic() if end else default_timeout_s(size_bytes)
        return within(left, work, download, lambda received: say(f"{received / 1e6:,.1f} MB received"))

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


def _expect_sizes(repo_id: str, manifest: Manifest, found: Revision) -> None:
    """Sees that the Hub's files have the manifest's sizes, before any of them is fetched."""
    for entry in manifest.files:
        size = found.sizes.get(entry.path, entry.size_bytes)
        if size != entry.size_bytes:
            raise BundleError(f"{repo_id}: {entry.path} has {size} bytes on the Hub, expected {entry.size_bytes}")


def _fetch_files(download: Download, commit: str, manifest: Manifest, part: Path) -> None:
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
