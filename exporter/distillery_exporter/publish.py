"""Upload of a bundle to the Hugging Face Hub: one commit, so that no revision holds half of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from distillery_runtime.bundles.hub_errors import BUNDLE, MAIN, TOKEN, explained
from distillery_runtime.bundles.load import Bundle, open_bundle
from distillery_runtime.environment import key_in
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.format.manifest import MANIFEST_NAME

OF_THE_HUB = ".gitattributes"  # made with every repository


@dataclass(frozen=True, slots=True)
class Published:
    """A bundle's commit on the Hub; `pin` is `owner/name@<commit>`, which always gives this bundle."""

    commit: str
    bundle_id: str
    pin: str


def publish(folder: Path, repo_id: str, revision: str, private: bool, message: str | None) -> Published:
    """Makes a branch of a repository hold a bundle and nothing else; the same bundle again makes no new commit.

    Args:
        folder: the bundle's folder.
        repo_id: `owner/name`, made if it is not there.
        revision: the branch, made if it is not there.
        private: make the repository private, and refuse one that is public.
        message: of the commit; by default the bundle's name.

    Raises:
        BundleError: a file of the bundle is missing, unlisted or changed.
        InputError: HF_TOKEN is not set, or the Hub refuses it, or the repository is public against `private`.
        ProviderError: the Hub cannot be reached.
    """
    bundle = open_bundle(folder)
    token = key_in(TOKEN)
    if not token:
        raise InputError("Hub", [Problem(TOKEN, "not set", "a token of the Hub that may write, in the environment")])
    api = HfApi(token=token)
    with explained(BUNDLE, repo_id, revision):
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            problem = Problem(repo_id, "a public repository", "a private or a new one with --private")
            raise InputError("Hub", [problem])
        if revision != MAIN:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        head = api.model_info(repo_id, revision=revision).sha
        there = api.list_repo_files(repo_id, revision=head)
        commit = api.create_commit(
            repo_id,
            [*_additions(bundle), *_deletions(bundle, there)],
            commit_message=message or f"Bundle {bundle.name}",
            revision=revision,
            parent_commit=head,
        )
    return Published(commit.oid, bundle.id, f"{repo_id}@{commit.oid}")


def _names(bundle: Bundle) -> list[str]:
    return [MANIFEST_NAME, *(entry.path for entry in bundle.manifest.files)]


def _additions(bundle: Bundle) -> Iterator[CommitOperationAdd]:
    """Every file under its own path: on the Hub a bundle stands alone, what it shares here included."""
    for name in _names(bundle):
        place = bundle.files.places.get(name, bundle.folder / name)
        yield CommitOperationAdd(path_in_repo=name, path_or_fileobj=place)


def _deletions(bundle: Bundle, there: list[str]) -> Iterator[CommitOperationDelete]:
    """What another bundle left in the branch."""
    kept = {OF_THE_HUB, *_names(bundle)}
    yield from (CommitOperationDelete(path_in_repo=name) for name in there if name not in kept)
