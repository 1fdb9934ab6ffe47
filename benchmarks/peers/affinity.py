"""Keeps what is compared on the same cores, so that nobody gets a better one than another."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

Cores = frozenset[int]


def last_cores(threads: int) -> Cores:
    """The last cores that this process may use, one for each thread; none where the system cannot tell.

    The first core is mostly the one that answers the machine's interrupts.
    """
    if not hasattr(os, "sched_getaffinity"):
        return frozenset()
    return frozenset(sorted(os.sched_getaffinity(0))[-threads:])


@contextmanager
def on_cores(cores: Cores) -> Iterator[None]:
    """Keeps this thread, and threads and processes that it starts, on some cores; without any it changes nothing."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
