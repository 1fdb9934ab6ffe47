"""A lock on an open file, which ends with the process that holds it, however that ends."""

import sys
from typing import IO, Any

AnyFile = IO[Any]  # Any: of text or of bytes, nothing is read or written here

if sys.platform == "win32":
    import msvcrt

    FAR = 1 << 30  # no content is there, for on Windows what is locked cannot be read

    def try_lock(stream: AnyFile) -> bool:
        """Takes the lock, unless another process holds it."""
        place = stream.tell()
        stream.seek(FAR)
        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            stream.seek(place)
        return True

else:
    import fcntl

    def try_lock(stream: AnyFile) -> bool:
        """Takes the lock, unless another process holds it.

        Raises:
            OSError: the file system has no locks.
        """
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
