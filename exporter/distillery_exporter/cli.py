"""The `exporter` command: build a bundle from a run; share, verify, sign and publish. Exit codes as in `command`."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from distillery_exporter.build import PARITY_ARTICLES, VARIANTS, build, whole_run
from distillery_exporter.publish import publish
from distillery_exporter.share import places_in_set, share, size_bytes
from distillery_exporter.sign import PASSWORD, sign
from distillery_runtime.bundles.child import verify_in_child
from distillery_runtime.bundles.find import BUNDLES_FOLDER
from distillery_runtime.bundles.hub_errors import MAIN
from distillery_runtime.cli.command import Parser, news, print_lines, run_command
from distillery_runtime.cli.options import file_to_write, names, positive
from distillery_runtime.cli.same_file import refuse_replaced
from distillery_runtime.errors import BundleError, DistilleryError, InputError, Problem
from distillery_runtime.format.signature import signature_path
from distillery_runtime.format.variants import FORMS
from distillery_runtime.version import __version__
from distillery_trainer.runs.opening import files_of, latest_run
from distillery_trainer.runs.run import RUNS_FOLDER


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit code."""
    return run_command(_parser(), arguments, "interrupted; nothing was written")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="exporter", description="Write runs as bundles that the runtime loads.")
    parser.add_argument("--version", action="version", version=f"distillery-exporter {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    make = commands.add_parser("build", help="write a finished run as a bundle")
    make.add_argument(
        "run_folder", nargs="?", type=Path, metavar="RUN", help="the run's folder (default: the latest under runs/)"
    )
    make.add_argument(
        "--out", type=Path, metavar="DIR", help="the bundle's folder (default: bundles/<filter>-<version>)"
    )
    make.add_argument("--variants", type=names, default=VARIANTS, metavar="NAME,...",
                      help=f"{', '.join(FORMS)}, where they keep fp32's scores; without cpu-fp32 that ships only where "
                           "no other form for a CPU does "
                           f"(default: {','.join(VARIANTS)})")  # fmt: skip
    make.add_argument("--parity-articles", type=positive, default=PARITY_ARTICLES, metavar="N",
                      help=f"texts to compare with the trained models on (default: {PARITY_ARTICLES})")  # fmt: skip
    make.set_defaults(run=_build)

    common = commands.add_parser("share", help="write bundles side by side, what they have in common once")
    common.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="a bundle's folder")
    common.add_argument("--out", type=Path, required=True, metavar="DIR",
                        help="the folder for all of them, as <filter>-<version>, and for what they share")  # fmt: skip
    common.set_defaults(run=_share)

    verify = commands.add_parser("verify", help="check every byte of a bundle and replay all its golden articles")
    verify.add_argument("bundle", type=Path, metavar="DIR")
    verify.set_defaults(run=lambda options: _verified(options.bundle, print_lines))

    signing = commands.add_parser("sign", help="sign a bundle, by a key or by Sigstore")
    signing.add_argument("bundle", type=Path, metavar="DIR")
    how = signing.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--key", type=Path, metavar="FILE", help=f"an elliptic private key (PEM), its password in {PASSWORD}"
    )
    how.add_argument("--sigstore", action="store_true", help="without a key: sign in at Sigstore, in a browser or CI")
    signing.add_argument("--out", type=file_to_write, metavar="FILE", help="the signature's file (default: DIR.sig)")
    signing.set_defaults(run=_sign)

    upload = commands.add_parser("publish", help="verify a bundle and upload it to the Hugging Face Hub")
    upload.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    upload.add_argument("repository", metavar="OWNER/NAME", help="of the Hub; made if it is not there")
    upload.add_argument("--revision", default=MAIN, metavar="BRANCH", help="made if it is not there (default: main)")
    upload.add_argument("--private", action="store_true", help="make it private; one that is public is refused")
    upload.add_argument("--message", metavar="TEXT", help="of the commit (default: the bundle's name)")
    upload.set_defaults(run=_publish)
    return parser


def _share(options: argparse.Namespace) -> int:
    for place in places_in_set(options.bundles, options.out):
        refuse_replaced(place, options.bundles)
    found = share(options.bundles, options.out)
    print_lines(*(f"{bundle.folder}: {bundle.name}, shares {len(bundle.files.shared)} files" for bundle in found))
    together, alone = size_bytes(found), sum(bundle.manifest.size_bytes for bundle in found)
    print_lines(f"{options.out}: {together / 1e6:,.1f} MB instead of {alone / 1e6:,.1f} MB")
    return 0


def _sign(options: argparse.Namespace) -> int:
    signature = options.out or signature_path(options.bundle)
    bundle_id = sign(options.bundle, options.key, signature)
    print_lines(f"{signature}: signature of the bundle {bundle_id}")
    return 0


def _verified(bundle: Path, out: Callable[[str], object]) -> int:
    """Verifies a bundle as `distillery verify` does and gives the exit code; `out` takes the lines of its stdout."""
    return verify_in_child(bundle, None, "auto", "all", None, (out, news, news))


def _publish(options: argparse.Namespace) -> int:
    refused = f"{options.bundle}: not published"
    try:
        code = _verified(options.bundle, news)
    except DistilleryError as error:
        raise BundleError(*error.args, refused) from error
    if code:
        news(refused)
        return code
    done = publish(options.bundle, options.repository, options.revision, options.private, options.message)
    print_lines(done.commit)
    news(f"pinned: distillery pull {done.pin} --expected-id {done.bundle_id}")
    return 0


def _build(options: argparse.Namespace) -> int:
    folder = options.run_folder or latest_run()
    if folder is None:
        raise InputError("exporter build", [Problem(str(RUNS_FOLDER), "no finished run", "a run's folder as argument")])
    run = whole_run(folder)
    out = options.out or BUNDLES_FOLDER / run.spec.label
    refuse_replaced(out, files_of(run.folder))
    scorer = build(run, out, options.variants, options.parity_articles, news)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print_lines(f"{out}: {scorer.bundle}, {size / 1e6:,.1f} MB")
    return 0
