"""The command `distillery bench`: its options, progress on stderr, and the report as text or JSON."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from distillery_runtime.bench.measure import ALL, BenchRequest, bench
from distillery_runtime.bench.text_report import text
from distillery_runtime.bundles.find import find_bundle
from distillery_runtime.cli.command import news
from distillery_runtime.cli.options import EXPECTED_ID, Commands, add_provider, add_threads, positive
from distillery_runtime.cli.same_file import refuse_same_file
from distillery_runtime.files.resumable import open_output

INTERRUPTED = 130
LINE_CHARS = 78


def add_bench_command(commands: Commands) -> None:
    """Adds `bench` to a parser's commands."""
    parser = commands.add_parser("bench", help="measure a bundle on this machine: latency, throughput, memory, shares")
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR", help="the bundle (default: $DISTILLERY_BUNDLE, or bundles/*)"
    )
    parser.add_argument("--expected-id", metavar="ID", help=EXPECTED_ID)
    parser.add_argument(
        "--articles", type=Path, metavar="FILE", help="JSON lines to measure on (default: golden articles, repeated)"
    )
    parser.add_argument(
        "--variant", metavar="NAME", help=f"a variant, or {ALL} to compare them (default: what scoring would choose)"
    )
    add_provider(parser)
    add_threads(parser)
    parser.add_argument(
        "--seconds", type=positive, default=25, metavar="S", help="how long to measure, loading not counted (25)"
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report here instead of stdout")
    parser.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    request = BenchRequest(
        bundle=find_bundle(options.bundle),
        expected_id=options.expected_id,
        articles=options.articles,
        variant=options.variant,
        provider=options.provider,
        threads=options.threads,
        seconds=options.seconds,
    )
    refuse_same_file(options.out, [request.bundle, *([options.articles] if options.articles else [])])
    progress = StatusLine(sys.stderr)
    with open_output(options.out, news) as output:
        try:
            report = bench(request, progress.show)
        finally:
            progress.clear()
        output.stream.write(
            json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n" if options.json else text(report)
        )
    return INTERRUPTED if report.interrupted else 0


class StatusLine:
    """Says on one line of a terminal what is being done; elsewhere only that it began."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()

    def show(self, share: float, doing: str) -> None:
        """Shows the share of the time that is gone, and what is being done."""
        if self._terminal:
            self._stream.write(f"\r{f'{share:4.0%} {doing}':<{LINE_CHARS}.{LINE_CHARS}}")
            self._stream.flush()
        elif not share:
            self._stream.write(f"{doing}\n")

    def clear(self) -> None:
        """Takes the line away."""
        if self._terminal:
            self._stream.write(f"\r{'':<{LINE_CHARS}}\r")
            self._stream.flush()
