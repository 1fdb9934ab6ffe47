"""What our commands share: running one, and turning every way it can end into an exit code and a message on stderr.

Exit codes: 0 done, 1 some articles invalid with --strict or a gate not passed, 2 wrong use or bad input files, 70 a
fault of ours, 130 interrupted.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from distillery_runtime.errors import DistilleryError

logger = logging.getLogger(__name__)


def run_command(parser: argparse.ArgumentParser, arguments: Sequence[str] | None, interrupted: str) -> int:
    """Parses, calls the chosen command's `run` with its options, and gives the exit code.

    Args:
        parser: each of its commands sets the default `run`, a function of the options that gives an exit code.
        arguments: the command line; None is that of this process.
        interrupted: what to say after Ctrl-C.
    """
    options = parser.parse_args(arguments)
    level = logging.INFO if getattr(options, "verbose", False) else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except DistilleryError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"{error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    except Exception:  # the process's outer edge: a fault of ours, not to be taken for one of the codes above
        logger.exception("unexpected failure, please report it")
        return 70
    return code


def positive(text: str) -> int:
    """An option's value as an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}, expected at least 1")
    return value
