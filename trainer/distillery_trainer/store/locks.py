"""One process at a time: a lock on a file that ends with the process, however it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.file_lock import try_lock


@contextmanager
def only_process(lock: Path, where: str, problem: Problem) -> Iterator[None]:
    """Holds the lock while the block runs.

    Args:
        lock: the file, made if it is not there.
        where: the command, for the message.
        problem: what to say when another process holds it.

    Raises:
        InputError: another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        if not try_lock(stream):
            raise InputError(where, [problem])
        yield
