"""The command `distillery pull`: its options, and what it prints of the bundle that came from the Hub."""

import argparse
from pathlib import Path

from distillery_runtime.bundles.find import BUNDLES_FOLDER
from distillery_runtime.cli.command import news, print_lines
from distillery_runtime.cli.options import EXPECTED_ID, Commands, positive
from distillery_runtime.errors import ProviderError


def add_pull_command(commands: Commands) -> None:
    """Adds `pull` to a parser's commands."""
    parser = commands.add_parser("pull", help="fetch a bundle from the Hugging Face Hub and check every byte of it")
    parser.add_argument("repository", metavar="OWNER/NAME[@REVISION]", help="a branch, tag or commit (default: main)")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"the bundle's folder (default: {BUNDLES_FOLDER}/<filter>-<version>)"
    )
    parser.add_argument("--expected-id", metavar="ID", help=EXPECTED_ID)
    parser.add_argument(
        "--timeout-s",
        type=positive,
        metavar="S",
        help="seconds for fetching, and as many for testing (default for each: by size, at least 60)",
    )
    parser.set_defaults(run=_pull)


def _pull(options: argparse.Namespace) -> int:
    try:
        from distillery_runtime.bundles.hub import pull
    except ModuleNotFoundError as error:
        raise ProviderError(
            f"distillery pull: no package {error.name}, expected the extra hub: pip install 'distillery-runtime[hub]'"
        ) from error
    found = pull(options.repository, options.out, BUNDLES_FOLDER, options.expected_id, news, options.timeout_s)
    pinned = f"pinned: distillery pull {found.pin} --expected-id {found.bundle_id}"
    print_lines(f"{found.folder}: id {found.bundle_id}", pinned)
    return 0
