"""What the Hugging Face Hub refuses, in our own errors: who must act, and how. Needs the extra `hub`."""

from collections.abc import Iterator
from contextlib import contextmanager
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

# The common base of the Hub client's transport errors: httpx2.HTTPError in huggingface_hub 2, httpx.HTTPError in 1.
TransportError = cast(type[Exception], HfHubHTTPError.__bases__[0])  # cast: the class depends on the version


@contextmanager
def explained(repo_id: str, revision: str) -> Iterator[None]:
    """Turns the errors of the Hub's client into ours; those of this machine's disk pass as they are.

    Raises:
        InputError: the Hub does not know the repository, revision or file, or refuses this token.
        ProviderError: the Hub cannot be reached or does not do its work.
    """
    try:
        yield
    except HFValidationError as error:
        raise _problem(repo_id, "not a Hub id", "owner/name") from error
    except ValueError as error:  # a card whose metadata the Hub refuses
        raise _problem(repo_id, " ".join(str(error).split()), "a bundle that the Hub accepts") from error
    except (OSError, TransportError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _explain(repo_id, revision, error) from error


def _explain(repo_id: str, revision: str, error: Exception) -> DistilleryError:
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
    refusal = cause or error
    if isinstance(refusal, OfflineModeIsEnabled):
        return ProviderError(f"{repo_id}: HF_HUB_OFFLINE is set, expected it unset for the Hub")
    if isinstance(refusal, HfHubHTTPError) and refusal.response.status_code in (401, 403, 404):
        return _refused(repo_id, revision, refusal)
    return ProviderError(f"{repo_id}: the Hub does not answer as it should ({_first_line(refusal)}), try again later")


def _refused(repo_id: str, revision: str, error: HfHubHTTPError) -> InputError:
    if isinstance(error, RevisionNotFoundError):
        return _problem(repo_id, f"no revision {revision!r}", "a branch, tag or commit of this repository")
    if isinstance(error, EntryNotFoundError):
        return _problem(repo_id, "a file of the bundle is missing", "a repository made by `trainer publish`")
    if isinstance(error, GatedRepoError):
        return _problem(repo_id, "the Hub gives it only to those who accept its terms", f"them accepted, and {TOKEN}")
    if isinstance(error, RepositoryNotFoundError):
        return _problem(repo_id, "no such public repository", f"another spelling; if it is private, its {TOKEN}")
    status = error.response.status_code
    return _problem(repo_id, f"the Hub refuses access (HTTP {status})", f"a {TOKEN} that may do this")


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def _problem(repo_id: str, found: str, expected: str) -> InputError:
    return InputError("Hub", [Problem(repo_id, found, expected)])
