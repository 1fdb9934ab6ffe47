"""The `distillery` command: score articles; inspect, verify, measure and pull bundles. Exit codes as in `command`."""

import argparse
import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path

from distillery_runtime.articles.article import MAX_TITLE_CHARS
from distillery_runtime.articles.jsonl import read_jsonl_file
from distillery_runtime.bundles.load import Bundle, open_bundle, read_quality
from distillery_runtime.bundles.panel import load_panel
from distillery_runtime.bundles.starter import starter_bundle
from distillery_runtime.cli.bench import add_bench_command
from distillery_runtime.cli.command import Parser, news, print_lines, run_command, threads
from distillery_runtime.cli.output import Tally, json_line, table_of
from distillery_runtime.cli.pull import add_pull_command
from distillery_runtime.cli.resuming import identity_of, skip_done
from distillery_runtime.cli.same_file import refuse_same_file
from distillery_runtime.cli.verify import EXPECTED_ID, add_verify_command
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.resumable import open_output
from distillery_runtime.models.cpu import usable_cores
from distillery_runtime.scoring.cascade import running
from distillery_runtime.scoring.scorer import HybridScorer
from distillery_runtime.version import __version__

BUNDLES_FOLDER = Path("bundles")


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

    score = commands.add_parser("score", help="score a file of articles (JSON lines)")
    score.add_argument(
        "file", nargs="?", default="-", metavar="FILE", help="JSON lines with id, title, text; - is stdin"
    )
    score.add_argument(
        "--bundle",
        type=Path,
        action="append",
        metavar="DIR",
        help="the bundle (default: $DISTILLERY_BUNDLE, bundles/*, or the starter); again for each further filter",
    )
    score.add_argument("--expected-id", action="append", metavar="ID",
                       help=f"{EXPECTED_ID}; again for each --bundle, in their order")  # fmt: skip
    score.add_argument("--out", type=Path, metavar="FILE", help="write results here instead of stdout")
    score.add_argument(
        "--resume", action="store_true", help="continue an interrupted --out file instead of starting over"
    )
    score.add_argument("--format", choices=("jsonl", "table"), default="jsonl", help="what to write (default: jsonl)")
    score.add_argument(
        "--provider", choices=("auto", "cpu", "cuda"), default="auto", help="where to run (default: auto)"
    )
    score.add_argument("--threads", type=threads, metavar="N", help="threads (default: the cores this process may use)")
    score.add_argument("--variant", metavar="NAME", help="the variant to run (default: the fastest for the hardware)")
    score.add_argument("--strict", action="store_true", help="exit with 1 if any article was invalid")
    score.set_defaults(run=_score)

    inspect = commands.add_parser("inspect", help="show what a bundle is and how good it is")
    inspect.add_argument("bundle", type=Path, metavar="DIR")
    inspect.add_argument("--expected-id", metavar="ID", help=EXPECTED_ID)
    inspect.add_argument("--json", action="store_true", help="the same as JSON")
    inspect.set_defaults(run=_inspect)

    add_verify_command(commands)
    add_bench_command(commands, find_bundle)
    add_pull_command(commands, BUNDLES_FOLDER)
    return parser


def _score(options: argparse.Namespace) -> int:
    file = None if options.file == "-" else Path(options.file)
    folders = [find_bundle(given) for given in options.bundle or [None]]
    if options.resume and (options.out is None or options.format != "jsonl"):
        raise InputError("--resume", [Problem("output", "not a file of JSON lines", "--out FILE, --format jsonl")])
    refuse_same_file(options.out, [file, *folders])
    with ExitStack() as stack:
        records = stack.enter_context(closing(read_jsonl_file(file)))
        # Before models are opened and the output is touched: the file may be of another format, or empty.
        first = next(records, None)
        if first is None:
            raise InputError("articles", [Problem(options.file, "no article", "at least one")])
        panel = load_panel(
            folders,
            provider=options.provider,
            threads=options.threads,
            variant=options.variant,
            expected_ids=options.expected_id,
        )
        news(*_running(panel.scorers, options.threads or usable_cores()))
        tally = Tally(sys.stderr)
        bundles = [scorer.bundle for scorer in panel.scorers]
        table = table_of([scorer.spec for scorer in panel.scorers], bundles) if options.format == "table" else None
        identity = identity_of(panel.scorers, file) if options.out and not table else None
        output = stack.enter_context(open_output(options.out, news, identity, options.resume))
        left = skip_done(chain([first], records), output, bundles, panel.chunk_articles, tally.count_kept)
        if table:
            print(table.header(), file=output.stream)
        titles: deque[str] = deque()
        results = stack.enter_context(closing(panel.score_stream(_titled(left, titles))))
        for scores in results:
            title = titles.popleft()
            print(table.row(title, scores) if table else "\n".join(map(json_line, scores)), file=output.stream)
            tally.add(scores)
    news(*tally.summary())
    if tally.all_invalid:
        news(f"{options.file}: nothing could be scored, all {tally.total:,} records are invalid: {tally.first_reason}")
        return 2
    return 1 if options.strict and tally.any_invalid else 0


def _running(scorers: Iterable[HybridScorer], count: int) -> Iterator[str]:
    """A line for each stage: which variant runs where, and why."""
    for scorer in scorers:
        run = running(scorer.stages)
        for stage in scorer.stages:
            if stage not in run:
                yield f"{scorer.bundle} {stage.name}: not run (no threshold was certified, so it answers nothing)"
                continue
            why = stage.reason.removeprefix(f"{stage.variant}: ")
            plural = "s" if count > 1 else ""
            yield f"{scorer.bundle} {stage.name}: {stage.variant} on {stage.provider}, {count} thread{plural} ({why})"


def _titled(lines: Iterable[object], titles: deque[str]) -> Iterator[object]:
    """Gives lines as they come, and notes each one's title until its result is there."""
    for line in lines:
        title = line.get("title") if isinstance(line, Mapping) else None
        titles.append(title[:MAX_TITLE_CHARS] if isinstance(title, str) else "")
        yield line


def _inspect(options: argparse.Namespace) -> int:
    bundle = open_bundle(options.bundle, options.expected_id)
    quality = read_quality(bundle)
    if options.json:
        content = {"id": bundle.id, "manifest": bundle.manifest.model_dump(mode="json"), "quality": quality}
        print(json.dumps(content, indent=1, ensure_ascii=False))
        return 0
    print_lines(*_describe(bundle))
    return 0


def _describe(bundle: Bundle) -> Iterator[str]:
    spec, manifest = bundle.spec, bundle.manifest
    yield f"{spec.label}   id {bundle.id}"
    yield f"  {' '.join(spec.summary.split())}"
    yield "  dimensions   " + ", ".join(f"{d.name} {d.weight:g}" for d in spec.dimensions)
    yield "  tiers        " + ", ".join(f"{t.name} from {t.min_overall:g}" for t in spec.tiers)
    for gate in spec.gatekeepers:
        yield f"  gatekeeper   {gate.dimension} below {gate.below:g} caps the overall at {gate.overall_cap:g}"
    for stage in manifest.stages:
        what = "a chance of " if stage.router else ""
        stops = f"answers below {what}{stage.threshold:g}" if stage.routing.answers else "answers what it gets"
        if not stage.routing.answers and stage is not manifest.stages[-1]:
            stops = "not run (no threshold was certified, so it answers nothing)"
        variants = ", ".join(variant.name for variant in stage.variants)
        yield f"  stage        {stage.name}: {variants}, {stage.window.max_tokens} tokens, {stops}"
    for key, value in manifest.lineage.items():
        yield f"  {key:<12} {value}"
    for entry in manifest.files:
        yield f"  file         {entry.path} ({entry.role}, {entry.size_bytes:,} bytes)"


def find_bundle(given: Path | None) -> Path:
    """The bundle to use: the one given, `$DISTILLERY_BUNDLE`, the only one under `bundles/`, or else the starter.

    Raises:
        InputError: none was given, and there is not exactly one to be found.
    """
    if given is not None:
        return given
    if os.environ.get("DISTILLERY_BUNDLE"):
        return Path(os.environ["DISTILLERY_BUNDLE"])
    found = sorted(path.parent for path in BUNDLES_FOLDER.glob("*/bundle.json"))
    if len(found) == 1:
        return found[0]
    starter = starter_bundle()
    if not found and starter:
        return starter
    names = ", ".join(str(path) for path in found) or "none"
    expected = "exactly one, or --bundle DIR" + ("" if found else ", or the extra [starter]")
    raise InputError("--bundle", [Problem("bundles/", f"bundles found: {names}", expected)])
