"""Pulling a bundle from the Hugging Face Hub: fetched beside its place, checked, then named. Needs the extra `hub`."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi

from distillery_runtime.bundle import load, open_bundle
from distillery_runtime.errors import BundleError, InputError, ModelError, Problem
from distillery_runtime.hub_errors import TOKEN, explained
from distillery_runtime.integrity import check_id, read_manifest
from distillery_runtime.manifest import MANIFEST_NAME, Manifest

MAIN = "main"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pulled:
    """A bundle that came from the Hub; `pin` is `owner/name@<commit>`, which always gives the same files."""

    folder: Path
    bundle_id: str
    pin: str


def pull(reference: str, out: Path | None, bundles: Path, expected_id: str | None, say: Say) -> Pulled:
    """Fetches a bundle and gives it its place once all of it has been checked.

    Only the files that the manifest lists are fetched. They lie in a hidden folder beside the place, which a repeated
    call goes on with; one with a wrong file is removed.

    Args:
        reference: `owner/name`, or `owner/name@revision` with a branch, tag or commit.
        out: the bundle's folder; by default `<filter>-<version>` under `bundles`.
        bundles: the folder for bundles without an `out`.
        expected_id: as in `load`.
        say: hears what happens, a line at a time.

    Raises:
        InputError: the Hub does not give this repository, or something else is at the place.
        BundleError: what came is damaged, unsafe, too new, or another bundle than expected.
        ProviderError: the Hub cannot be reached.
    """
    repo_id, _, revision = reference.partition("@")
    api = HfApi(token=os.environ.get(TOKEN) or False)
    with explained(repo_id, revision or MAIN):
        commit = str(api.model_info(repo_id, revision=revision or MAIN).sha)
    part = (out.parent if out else bundles) / f".{repo_id.replace('/', '--')}.{commit[:12]}.part"
    try:
        manifest, bundle_id = _fetch_manifest(api, repo_id, commit, part)
        check_id(repo_id, bundle_id, expected_id)
        target = out or bundles / f"{manifest.filter.name}-{manifest.filter.version}"
        if not _is_there(target, bundle_id):
            say(f"{repo_id}@{commit}: {sum(entry.size_bytes for entry in manifest.files) / 1e6:,.1f} MB")
            _fetch_files(api, repo_id, commit, manifest, part)
            shutil.rmtree(part / ".cache")  # the client's notes, which are not of the bundle
            load(part, provider="cpu", expected_id=bundle_id)
            part.replace(target)
        shutil.rmtree(part, ignore_errors=True)
    except (BundleError, InputError, ModelError):
        shutil.rmtree(part, ignore_errors=True)
        raise
    return Pulled(target, bundle_id, f"{repo_id}@{commit}")


def _fetch_manifest(api: HfApi, repo_id: str, commit: str, part: Path) -> tuple[Manifest, str]:
    _fetch(api, repo_id, commit, MANIFEST_NAME, part)
    return read_manifest(part)


def _fetch_files(api: HfApi, repo_id: str, commit: str, manifest: Manifest, part: Path) -> None:
    for entry in manifest.files:
        _fetch(api, repo_id, commit, entry.path, part)


def _fetch(api: HfApi, repo_id: str, commit: str, name: str, part: Path) -> None:
    """Fetches a file unless it is there already; it appears under its name when all of it has come."""
    with explained(repo_id, commit):
        api.hf_hub_download(repo_id, name, revision=commit, local_dir=part)


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
