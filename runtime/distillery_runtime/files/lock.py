"""Lock on a file: one process at a time, until that process ends, however it ends."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from filelock import lock_descriptor

from distillery_runtime.errors import InputError, Problem

MOST_OPENINGS = 1000  # a file that is still another one then is on a file system that we do not understand


@contextmanager
def only_process(path: Path, where: str, problem: Problem) -> Iterator[TextIO]:
    """Holds the lock on a file while the block runs; gives the file, open for reading and appending.

    The lock is on the open file, not on its name: what the file holds stays, and the system releases it with the
    process, so that no file that is left behind blocks the next one.

    Args:
        path: the file, made if it is not there; its owner may remove it before the block ends.
        where: the command or option, for the message.
        problem: what to say when another process holds the lock.

    Raises:
        InputError: another process holds it.
        OSError: the file cannot be opened, or its file system has no locks.
    """
    for _ in range(MOST_OPENINGS):
        with path.open("a+", encoding="utf-8") as stream:
            if not lock_descriptor(stream.fileno(), blocking=False):
                raise InputError(where, [problem])
            if path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                yield stream
                return
            # Its owner removed it between our opening and our locking it: the name is free, or another file's.
    raise OSError(errno.EBUSY, "is replaced whenever it is opened", str(path))
