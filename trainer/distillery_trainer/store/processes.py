"""Which process this is, where a launcher (torchrun, accelerate) started the same command several times."""

import os


def rank() -> int:
    """The number of this process, from 0. The first does all the work but training, and all the writing."""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


def count() -> int:
    """How many processes were started together, 1 where there was no launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))
