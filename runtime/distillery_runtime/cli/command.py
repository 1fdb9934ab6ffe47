"""What our commands share: running one, and turning every way it can end into an exit code and a message on stderr.

Exit codes: 0 done, 1 some articles invalid with --strict or a gate not passed, 2 wrong use or bad input files, 70 a
fault of ours, 130 interrupted, by Ctrl-C, SIGTERM or SIGHUP.
"""

import argparse
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn, TextIO, cast

from distillery_runtime.characters import shown
from distillery_runtime.errors import DistilleryError, InputError, Problem

logger = logging.getLogger(__name__)

STOPS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Parser(argparse.ArgumentParser):
    """A parser of a command line; `add_subparsers` makes more of them."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with a message, in which an argument of the user's cannot move the terminal's cursor."""
        super().error(shown(message))


def run_command(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    interrupted: str,
    stops: Sequence[signal.Signals] = STOPS,
) -> int:
    """Parses, calls the chosen command's `run` with its options, and gives the exit code.

    Args:
        parser: each of its commands sets the default `run`, a function of the options that gives an exit code.
        arguments: the command line; None is that of this process.
        interrupted: what to say after Ctrl-C.
        stops: signals that end the command as Ctrl-C does, unless they are ignored.
    """
    _prepare_streams()
    try:
        with _as_interrupts(stops):
            return _run(parser, arguments)
    except DistilleryError as error:
        say(str(error))
        return 2
    except BrokenPipeError:  # the reader of our output left, as `head` does
        return 0
    except OSError as error:
        news(f"{_name_of(error)}: {error.strerror or error}")
        return 2
    except KeyboardInterrupt:
        news(interrupted)
        return 130
    except Exception:  # the process's outer edge: a fault of ours, not to be taken for one of the codes above
        logger.exception("unexpected failure, please report it")
        return 70
    finally:
        _let_go_of_output()


def _run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    try:
        options = parser.parse_args(arguments)
    except SystemExit:
        sys.stdout.flush()  # of --help, which may find the disk full
        raise
    level = logging.INFO if getattr(options, "verbose", False) else logging.WARNING
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    code: int = options.run(options)
    sys.stdout.flush()
    return code


def print_lines(*lines: str, stream: TextIO | None = None) -> None:
    """Prints each text as one line to a stream, or to stdout, with hidden characters escaped."""
    for line in lines:
        print(shown(line), file=stream or sys.stdout)


def news(*lines: str) -> None:
    """Writes lines to stderr; where nobody can read them, work goes on without."""
    with suppress(OSError):
        print_lines(*lines, stream=sys.stderr)


def say(message: str) -> None:
    """Writes a message of ours, whose line breaks are meant, to stderr."""
    news(*message.split("\n"))


class _OneLine(logging.Formatter):
    """One line for each record, but for its traceback, with hidden characters escaped."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return shown(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802 - as above
        return "\n".join(map(shown, super().formatException(ei).split("\n")))  # type: ignore[arg-type]


class _Closed(io.TextIOBase):
    """Stands for a standard stream that was closed when this process began."""

    def __init__(self, name: str) -> None:
        self._problem = Problem(name, "closed", "an open one, or a file")

    @property
    def buffer(self) -> NoReturn:
        raise InputError("streams", [self._problem])

    def read(self, *_: object) -> NoReturn:
        raise InputError("streams", [self._problem])

    def write(self, *_: object) -> NoReturn:
        raise InputError("streams", [self._problem])


def _prepare_streams() -> None:
    """Makes stdout carry any text as UTF-8, and gives a stand-in to each standard stream that is closed.

    Its number is taken too, so that no file that is opened later becomes the process's stdout or stderr.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stdin is None:
        sys.stdin = cast(TextIO, _Closed("stdin"))
    if sys.stdout is None:
        sys.stdout = cast(TextIO, _Closed("stdout"))
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


@contextmanager
def _as_interrupts(stops: Sequence[signal.Signals]) -> Iterator[None]:
    """Lets signals that would end the process raise KeyboardInterrupt instead, so that all is left as it should be."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    ours = [number for number in stops if in_main and signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _name_of(error: OSError) -> str:
    name = error.filename
    return os.fsdecode(name) if isinstance(name, str | bytes) else "stdout or a temporary file"


def _let_go_of_output() -> None:
    """Lets what a stream holds and cannot write go nowhere: Python would try it once more at its end, and fail."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):  # a stream without a number, as in tests
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
