"""Errors of the Hugging Face Hub as ours: who must act, and how. Needs the extra `hub`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from distillery_runtime.errors import DistilleryError, InputError, Problem, ProviderError

TOKEN = "HF_TOKEN"  # noqa: S105 - the name of the variable, not a token
MAIN = "main"

# The common base of the Hub client's transport errors: httpx2.HTTPError in huggingface_hub 2, httpx.HTTPError in 1.
TransportError = cast(type[Exception], HfHubHTTPError.__bases__[0])  # cast: the class depends on the version

Words = tuple[str, str]  # what was found, and what was expected


@dataclass(frozen=True, slots=True)
class Wording:
    """How the errors about one kind of repository read.

    In all of it `{repo}` stands for the repository, in `no_revision` `{revision}` for the revision, in `no_answer`
    `{error}` for the first line of the client's error, and in `refused` `{status}` for HTTP's.
    """

    where: str
    no_id: Words
    offline: str
    no_answer: str
    no_revision: Words
    no_file: Words
    gated: Words
    unknown: Words
    refused: Words
    content: str | None = None
    """What is expected where the Hub refuses the content that is sent; None where nothing is sent."""


BUNDLE = Wording(
    where="Hub",
    no_id=("not a Hub id", "owner/name"),
    offline="{repo}: HF_HUB_OFFLINE is set, expected it unset for the Hub",
    no_answer="{repo}: the Hub does not answer as it should ({error}), try again later",
    no_revision=("no revision {revision!r}", "a branch, tag or commit of this repository"),
    no_file=("a file of the bundle is missing", "a repository made by `exporter publish`"),
    gated=("the Hub gives it only to those who accept its terms", f"them accepted, and {TOKEN}"),
    unknown=("no such public repository", f"another spelling; if it is private, its {TOKEN}"),
    refused=("the Hub refuses access (HTTP {status})", f"a {TOKEN} that may do this"),
    content="a bundle that the Hub accepts",
)


@contextmanager
def explained(wording: Wording, repo: str, revision: str) -> Iterator[None]:
    """Turns the errors of the Hub's client into ours; those of this machine's disk pass as they are.

    Args:
        wording: of the messages.
        repo: the repository, as the user gave it.
        revision: the branch, tag or commit.

    Raises:
        InputError: the Hub does not know the repository, revision or file, or refuses this token or content.
        ProviderError: the Hub cannot be reached or does not do its work.
    """
    try:
        yield
    except HFValidationError as error:
        raise _problem(wording, wording.no_id, repo) from error
    except (ValueError, OSError, TransportError) as error:
        if isinstance(error, ValueError) and wording.content:  # a card whose metadata the Hub refuses
            problem = Problem(repo, " ".join(str(error).split()), wording.content)
            raise InputError(wording.where, [problem]) from error
        if not isinstance(error, (OSError, TransportError)) or getattr(error, "errno", None) is not None:
            raise
        raise _explain(wording, repo, revision, error) from error


def _explain(wording: Wording, repo: str, revision: str, error: Exception) -> DistilleryError:
    """Where the client looked into its cache in vain, the request before says why."""
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
    refusal = cause or error
    if isinstance(refusal, OfflineModeIsEnabled):
        return ProviderError(wording.offline.format(repo=repo))
    if isinstance(refusal, HfHubHTTPError) and refusal.response.status_code in (401, 403, 404):
        return _problem(wording, _words_for(wording, refusal), repo, revision, refusal.response.status_code)
    return ProviderError(wording.no_answer.format(repo=repo, error=_first_line(refusal)))


def _words_for(wording: Wording, error: HfHubHTTPError) -> Words:
    if isinstance(error, RevisionNotFoundError):
        return wording.no_revision
    if isinstance(error, EntryNotFoundError):
        return wording.no_file
    if isinstance(error, GatedRepoError):
        return wording.gated
    return wording.unknown if isinstance(error, RepositoryNotFoundError) else wording.refused


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def _problem(wording: Wording, words: Words, repo: str, revision: str = "", status: int = 0) -> InputError:
    found, expected = (text.format(repo=repo, revision=revision, status=status) for text in words)
    return InputError(wording.where, [Problem(repo, found, expected)])
