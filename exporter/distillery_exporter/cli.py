"""The `exporter` command: build a bundle from a run, verify one.

Exit codes: 0 done, 2 wrong use, bad input, or a model that does not agree with its export; 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from distillery_exporter.build import PARITY_ARTICLES, build
from distillery_exporter.run_reader import latest_run, open_run
from distillery_runtime.cli import main as distillery
from distillery_runtime.errors import DistilleryError
from distillery_runtime.version import __version__

BUNDLES_FOLDER = Path("bundles")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run_command(options)
        return code
    except DistilleryError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="exporter", description="Write runs as bundles that the runtime loads.")
    parser.add_argument("--version", action="version", version=f"distillery-exporter {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    make = commands.add_parser("build", help="write a finished run as a bundle")
    make.add_argument(
        "run", nargs="?", type=Path, metavar="RUN", help="the run's folder (default: the latest under runs/)"
    )
    make.add_argument(
        "--out", type=Path, metavar="DIR", help="the bundle's folder (default: bundles/<filter>-<version>)"
    )
    make.add_argument("--parity-articles", type=int, default=PARITY_ARTICLES, metavar="N",
                      help=f"texts to compare with the trained models on (default: {PARITY_ARTICLES})")  # fmt: skip
    make.set_defaults(run_command=_build)

    verify = commands.add_parser("verify", help="check every byte of a bundle and replay all its golden articles")
    verify.add_argument("bundle", type=Path, metavar="DIR")
    verify.set_defaults(run_command=lambda options: distillery(["verify", str(options.bundle)]))
    return parser


def _build(options: argparse.Namespace) -> int:
    run = open_run(options.run or latest_run())
    out = options.out or BUNDLES_FOLDER / run.spec.label
    scorer = build(run, out, max(1, options.parity_articles), lambda line: print(line, file=sys.stderr))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {scorer.bundle}, {size / 1e6:,.1f} MB")
    return 0
