"""The command `distillery verify`: check every byte of a bundle and replay its golden articles, in a child process."""

import argparse
from pathlib import Path

from distillery_runtime.bundles.child import limit_this_process, verify_in_child
from distillery_runtime.bundles.golden import replay
from distillery_runtime.bundles.load import Bundle, load, open_bundle, open_stages
from distillery_runtime.cli.command import news, print_lines
from distillery_runtime.cli.options import EXPECTED_ID, Commands, add_provider, positive
from distillery_runtime.errors import InputError, Problem, ProviderError
from distillery_runtime.format.integrity import check_id, read_manifest
from distillery_runtime.format.signature import signed_id
from distillery_runtime.models.cuda import cuda_is_installed
from distillery_runtime.models.session import Provider
from distillery_runtime.scoring.scorer import HybridScorer


def add_verify_command(commands: Commands) -> None:
    """Adds `verify` to a parser's commands."""
    parser = commands.add_parser("verify", help="check every byte of a bundle and replay all its golden articles")
    parser.add_argument("bundle", type=Path, metavar="DIR")
    add_provider(parser)
    parser.add_argument("--expected-id", metavar="ID", help=EXPECTED_ID)
    parser.add_argument(
        "--signed-by", metavar="KEY", help="check its signature: a public key's file, or an identity of Sigstore"
    )
    parser.add_argument("--issuer", metavar="URL", help="who vouches for the identity of Sigstore")
    parser.add_argument("--signature", type=Path, metavar="FILE", help="the signature's file (default: DIR.sig)")
    parser.add_argument(
        "--timeout-s", type=positive, metavar="S", help="stop after this many seconds (default: by size, at least 60)"
    )
    # How the parent calls its child: with the golden articles to replay.
    parser.add_argument("--in-this-process", choices=("all", "shortest"), help=argparse.SUPPRESS)
    parser.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    if options.in_this_process:
        return _verify_in_this_process(options)
    expected_id = options.expected_id
    if options.signed_by is not None:
        signed = signed_id(options.bundle, options.signature, options.signed_by, options.issuer)
        check_id(str(options.bundle), signed, expected_id)
        print_lines(f"signed by {options.signed_by}")
        expected_id = signed
    elif options.issuer or options.signature:
        raise InputError("verify", [Problem("--signed-by", "not given", "by whom the bundle is to be signed")])
    given = options.bundle, expected_id, options.provider, "all", options.timeout_s
    return verify_in_child(*given, (print_lines, news, news))


def _verify_in_this_process(options: argparse.Namespace) -> int:
    manifest, _ = read_manifest(options.bundle)
    limit_this_process(
        options.timeout_s, manifest.size_bytes if options.provider == "cpu" or not cuda_is_installed() else None
    )
    if options.in_this_process == "shortest":
        load(options.bundle, provider=options.provider, expected_id=options.expected_id)
        return 0
    bundle = open_bundle(options.bundle, options.expected_id)
    print_lines(f"{len(bundle.manifest.files)} files: sizes and digests match, nothing else in the folder")
    return _replay_all(bundle, options.provider)


def _replay_all(bundle: Bundle, provider: Provider) -> int:
    variants = dict.fromkeys(variant.name for stage in bundle.manifest.stages for variant in stage.variants)
    elsewhere = []
    for name in variants:
        try:
            stages = open_stages(bundle, provider, variant=name)
        except ProviderError as refusal:
            elsewhere.append((name, refusal))
            continue
        HybridScorer(bundle.spec, stages, bundle.name)  # whose rules must compile
        problems = replay(stages, bundle.calibration, bundle.goldens, bundle.spec.text)
        news(*(f"{bundle.folder}: {problem}" for problem in problems))
        if problems:
            return 2
        used = ", ".join(f"{stage.name} {stage.variant} on {stage.provider}" for stage in stages)
        print_lines(f"{len(bundle.goldens)} golden articles: token ids, raw outputs and calibration agree ({used})")
    if len(elsewhere) == len(variants):
        raise elsewhere[0][1]
    for name, error in elsewhere:
        print_lines(f"not checked here: {name} ({error})")
    print_lines(f"{bundle.name} is sound (id {bundle.id})")
    return 0
