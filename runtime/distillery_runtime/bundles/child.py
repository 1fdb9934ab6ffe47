"""Tests bundles in a child process, which is ended when it takes too long or too much memory.

A bundle from elsewhere may be made to hang its libraries or to eat memory, whatever was checked before. In a child it
can be stopped: by a deadline, by Ctrl-C, and when its parent is gone. This is no sandbox: the child may read and write
what its user may.
"""

import faulthandler
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from distillery_runtime.errors import BundleError, ProviderError
from distillery_runtime.format.integrity import check_id, read_manifest

# Checking a bundle and replaying its golden articles on every variant takes about a second for each 10 MB on one core
# of a slow laptop.
FIXED_S = 60.0
S_PER_MB = 2.0
REPORT_S = 10.0
FIXED_BYTES = 8 << 30
BYTES_PER_BYTE = 8  # of the bundle: weights are read, copied into the kernels' order, and there in several variants
LONGER_S = 10.0  # by how much the child's own deadline is later than its parent's

Say = Callable[[str], object]


def default_timeout_s(size_bytes: int) -> float:
    """A generous deadline for the test of a bundle of this size."""
    return FIXED_S + S_PER_MB * size_bytes / 1e6


def load_in_child(folder: Path, expected_id: str, timeout_s: float | None, say: Say) -> None:
    """Loads a bundle on the CPU, in a child process.

    Args:
        folder: the bundle's.
        expected_id: as in `load`.
        timeout_s: when to end it; None: by the bundle's size.
        say: callback for progress messages.

    Raises:
        BundleError: it does not load, or not in time.
    """
    found: list[str] = []
    if verify_in_child(folder, expected_id, "cpu", "shortest", timeout_s, (found.append, found.append, say)):
        raise BundleError(*found)


def verify_in_child(
    folder: Path,
    expected_id: str | None,
    provider: str,
    goldens: str,
    timeout_s: float | None,
    sinks: tuple[Say, Say, Say],
) -> int:
    """Runs `distillery verify` on a bundle in a child process and gives its exit code.

    Args:
        folder: the bundle's.
        expected_id: as in `load`.
        provider: where to run.
        goldens: which golden articles to replay, `all` or only the `shortest`, as `load` does.
        timeout_s: when to end it; None: by the bundle's size.
        sinks: take its stdout, its stderr and progress messages.

    Raises:
        BundleError: the manifest is not sound; it did not end in time, or a library ended the process.
    """
    manifest, bundle_id = read_manifest(folder)
    check_id(str(folder), bundle_id, expected_id)
    timeout_s = timeout_s or default_timeout_s(manifest.size_bytes)
    arguments = ["verify", str(folder), "--provider", provider, "--expected-id", bundle_id]
    arguments += ["--in-this-process", goldens, "--timeout-s", str(math.ceil(timeout_s))]
    return run_in_child(arguments, str(folder), timeout_s, *sinks)


def run_in_child(arguments: Sequence[str], where: str, timeout_s: float, out: Say, err: Say, say: Say) -> int:
    """Runs the `distillery` command in a process of its own and gives its exit code.

    Args:
        arguments: the command line.
        where: the bundle, for messages.
        timeout_s: when to end it.
        out: takes each line of its stdout as it comes.
        err: takes each line of its stderr.
        say: callback for progress messages, every ten seconds.

    Raises:
        BundleError: it did not end in time, or a library ended the process.
        ProviderError: this program cannot start another Python.
        Exception: what `out` or `err` raises, when stdout is closed or full for example.
    """
    if not sys.executable:
        raise ProviderError("no Python to start a process with, expected sys.executable to name one")
    command = [sys.executable, "-P", "-m", "distillery_runtime", *arguments]
    found = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        env={**os.environ, **found},
        stdin=subprocess.PIPE,  # whose end tells the child that its parent is gone
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C is for the parent, which ends the child
    ) as process:
        errors: list[Exception] = []
        readers = [
            threading.Thread(target=_pass_on, args=(process, stream, take, errors))
            for stream, take in ((process.stdout, out), (process.stderr, err))
        ]
        for reader in readers:
            reader.start()
        try:
            code = _wait(process, where, timeout_s, say)
        finally:
            process.kill()
            for reader in readers:
                reader.join()
    if errors:
        raise errors[0]
    if code < 0 or code > 128:
        raise BundleError(f"{where}: a library ended the process that tested the bundle (exit code {code})")
    return code


def limit_this_process(timeout_s: float, size_bytes: int | None) -> None:
    """Ends this process after a while or when its parent is gone, and bounds its memory where the system can.

    Args:
        timeout_s: the parent's deadline.
        size_bytes: of the bundle; None sets no bound on memory, for CUDA reserves more than it uses.
    """
    # A thread of C that needs no lock of Python's; what it would print is of no use.
    faulthandler.dump_traceback_later(timeout_s + LONGER_S, exit=True, file=open(os.devnull, "w"))  # noqa: SIM115
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if size_bytes is not None and sys.platform == "linux":
        import resource

        most = FIXED_BYTES + BYTES_PER_BYTE * size_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _end_with_parent() -> None:
    os.read(0, 1)  # not through sys.stdin, whose lock this thread would still hold when the process ends
    os._exit(1)


def _wait(process: subprocess.Popen[str], where: str, timeout_s: float, say: Say) -> int:
    began = time.monotonic()
    while True:
        spent = time.monotonic() - began
        if spent >= timeout_s:
            raise BundleError(
                f"{where}: the test of the bundle did not end within {timeout_s:.0f} s, expected it to end, or a "
                "longer --timeout-s"
            )
        try:
            return process.wait(min(REPORT_S, timeout_s - spent))
        except subprocess.TimeoutExpired:
            if spent + REPORT_S < timeout_s:
                say(f"{where}: testing, {spent + REPORT_S:.0f} s of at most {timeout_s:.0f} s")


def _pass_on(process: subprocess.Popen[str], stream: IO[str], take: Say, errors: list[Exception]) -> None:
    try:
        for line in stream:
            take(line.rstrip("\n"))
    except Exception as error:  # noqa: BLE001 - of whoever takes the lines; raised again by the thread that waits
        errors.append(error)
        process.kill()
