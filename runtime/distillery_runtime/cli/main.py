"""The `distillery` command: score articles; inspect, verify, measure and pull bundles. Exit codes as in `command`."""

import argparse
from collections.abc import Sequence

from distillery_runtime.cli.bench import add_bench_command
from distillery_runtime.cli.command import Parser, run_command
from distillery_runtime.cli.inspect import add_inspect_command
from distillery_runtime.cli.pull import add_pull_command
from distillery_runtime.cli.score import add_score_command
from distillery_runtime.cli.verify import add_verify_command
from distillery_runtime.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit code."""
    return run_command(_parser(), arguments, "interrupted")


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="distillery", description="Score articles by a bundle's small models."
    )
    parser.add_argument("--version", action="version", version=f"distillery-runtime {__version__}")
    parser.add_argument("--verbose", action="store_true", help="log what happens to stderr")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_score_command(commands)
    add_inspect_command(commands)
    add_verify_command(commands)
    add_bench_command(commands)
    add_pull_command(commands)
    return parser
