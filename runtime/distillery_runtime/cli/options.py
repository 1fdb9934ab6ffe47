"""Options that our commands share: values that are checked as they are parsed, and words for the same thing."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from distillery_runtime.files.strict_json import parse_json

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # what `add_subparsers` gives

EXPECTED_ID = "refuse any bundle but the one with this id (all 64 digits)"
MAX_THREADS = 1024
SEEDS = 1 << 32


def add_provider(parser: argparse.ArgumentParser) -> None:
    """Adds `--provider`."""
    parser.add_argument(
        "--provider", choices=("auto", "cpu", "cuda"), default="auto", help="where to run (default: auto)"
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Adds `--threads`."""
    parser.add_argument(
        "--threads", type=threads, metavar="N", help="threads (default: the cores this process may use)"
    )


def file_to_write(text: str) -> Path:
    """Parses the path of a file that is not a folder's: it may not be there yet, but it has a name."""
    path = Path(text)
    if not path.name or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder, expected a file")
    return path


def positive(text: str) -> int:
    """Parses an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}, expected at least 1")
    return value


def non_negative(text: str) -> int:
    """Parses an integer of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}, expected at least 0")
    return value


def threads(text: str) -> int:
    """Parses a number of threads."""
    value = positive(text)
    if value > MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{value}, expected at most {MAX_THREADS}")
    return value


def seed(text: str) -> int:
    """Parses a random seed, of 32 bits."""
    value = int(text)
    if not 0 <= value < SEEDS:
        raise argparse.ArgumentTypeError(f"{value}, expected 0 to {SEEDS - 1}")
    return value


def amount(text: str) -> float:
    """Parses a finite number from 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}, expected a number from 0")
    return value


def weight(text: str) -> float:
    """Parses a finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value}, expected above 0")
    return value


def share(text: str) -> float:
    """Parses a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}, expected a number from 0 to 1")
    return value


def names(text: str) -> Sequence[str]:
    """Parses names with a comma between them."""
    return text.split(",")


def json_object(text: str) -> dict[str, object]:
    """Parses a JSON object."""
    try:
        value = parse_json(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}, expected a JSON object ({error})") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text}, expected a JSON object")
    return value
