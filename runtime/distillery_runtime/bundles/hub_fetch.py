"""Files from the Hub: never more bytes than a file may have, and never beyond a deadline. Needs the extra `hub`."""

import json
import re
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

from distillery_runtime.bundles.hub_errors import TransportError, explained
from distillery_runtime.errors import BundleError, ProviderError

FIXED_S = 60.0
BYTES_PER_S = 100_000  # a slow line; a large bundle over a slower one takes --timeout-s, or several calls
MAX_INFO_BYTES = 16 << 20
REPORT_S = 10.0
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

PARTIAL = 206

T = TypeVar("T")


def default_timeout_s(size_bytes: int) -> float:
    """A generous deadline for fetching so much."""
    return FIXED_S + size_bytes / BYTES_PER_S


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit of a repository, and the sizes of its files in bytes as far as the Hub states them."""

    commit: str
    sizes: Mapping[str, int]


class Download:
    """Fetches from one repository, until it is stopped. `received` counts the bytes that came."""

    def __init__(self, repo_id: str, token: str | None) -> None:
        self._repo_id = repo_id
        self._headers = {**build_hf_headers(token=token or False), "Accept-Encoding": "identity"}
        self._stopped = threading.Event()
        self.received = 0

    def revision(self, name: str) -> Revision:
        """Resolves a branch, tag or commit.

        Raises:
            InputError: the Hub does not know the repository or the revision, or refuses this token.
            ProviderError: the Hub cannot be reached, or names a commit that is none.
        """
        with explained(self._repo_id, name):
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
        with explained(self._repo_id, commit):
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


def within(timeout_s: float, work: Callable[[], T], download: Download, say: Callable[[int], object]) -> T:
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


def _revision_of(data: bytes, repo_id: str, name: str) -> Revision:
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
    return Revision(commit, sizes)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
