"""The `distillery` command: score articles, look into a bundle, verify one. Exit codes as in `command`."""

import argparse
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from distillery_runtime.bundle import Bundle, load, open_bundle, open_stages
from distillery_runtime.command import positive, run_command
from distillery_runtime.errors import BundleError, InputError, Problem
from distillery_runtime.golden import replay
from distillery_runtime.jsonl import BadLine, read_jsonl
from distillery_runtime.report import Table, Tally, json_line
from distillery_runtime.result import Score
from distillery_runtime.scorer import HybridScorer
from distillery_runtime.version import __version__

CHUNK_ARTICLES = 512
CHUNK_BYTES = 16 << 20
READ_KEYS = ("id", "title", "text", "content")
BUNDLES_FOLDER = Path("bundles")

Line = Mapping[str, object] | BadLine


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit code."""
    return run_command(_parser(), arguments, "interrupted")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="distillery", description="Score articles by a bundle's small models.")
    parser.add_argument("--version", action="version", version=f"distillery-runtime {__version__}")
    parser.add_argument("--verbose", action="store_true", help="log what happens to stderr")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    score = commands.add_parser("score", help="score a file of articles (JSON lines)")
    score.add_argument(
        "file", nargs="?", default="-", metavar="FILE", help="JSON lines with id, title, text; - is stdin"
    )
    score.add_argument(
        "--bundle", type=Path, metavar="DIR", help="the bundle (default: $DISTILLERY_BUNDLE, or bundles/*)"
    )
    score.add_argument("--out", type=Path, metavar="FILE", help="write results here instead of stdout")
    score.add_argument("--format", choices=("jsonl", "table"), default="jsonl", help="what to write (default: jsonl)")
    score.add_argument(
        "--provider", choices=("auto", "cpu", "cuda"), default="auto", help="where to run (default: auto)"
    )
    score.add_argument(
        "--threads", type=positive, metavar="N", help="threads (default: the cores this process may use)"
    )
    score.add_argument("--strict", action="store_true", help="exit with 1 if any article was invalid")
    score.set_defaults(run=_score)

    inspect = commands.add_parser("inspect", help="show what a bundle is and how good it is")
    inspect.add_argument("bundle", type=Path, metavar="DIR")
    inspect.add_argument("--json", action="store_true", help="the same as JSON")
    inspect.set_defaults(run=_inspect)

    verify = commands.add_parser("verify", help="check every byte of a bundle and replay all its golden articles")
    verify.add_argument("bundle", type=Path, metavar="DIR")
    verify.add_argument(
        "--provider", choices=("auto", "cpu", "cuda"), default="auto", help="where to run (default: auto)"
    )
    verify.set_defaults(run=_verify)
    return parser


def _score(options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        source = stack.enter_context(_reading(options.file))
        sink = stack.enter_context(writing(options.out))
        scorer = load(find_bundle(options.bundle), provider=options.provider, threads=options.threads)
        print(f"{scorer.bundle} on {scorer.stages[0].provider}", file=sys.stderr)
        tally = Tally()
        table = Table(scorer.spec) if options.format == "table" else None
        if table:
            print(table.header(), file=sink)
        for records, scores in _in_chunks(scorer, source):
            for record, score in zip(records, scores, strict=True):
                print(table.row(record, score) if table else json_line(score), file=sink)
            sink.flush()
            tally.add(scores)
    print(tally.summary(), file=sys.stderr)
    return 1 if options.strict and tally.counts["status", "invalid"] else 0


def _in_chunks(scorer: HybridScorer, source: BinaryIO) -> Iterator[tuple[Sequence[object], list[Score]]]:
    """Scores the lines of a file a chunk at a time; a line that is no record becomes an invalid result in its place."""
    counted = CountedLines(source)
    for chunk in chunked(read_jsonl(counted), counted):
        scored = iter(scorer.score_batch([line for line in chunk if not isinstance(line, BadLine)]))
        yield chunk, [_bad(line, scorer.bundle) if isinstance(line, BadLine) else next(scored) for line in chunk]


def _bad(line: BadLine, bundle: str) -> Score:
    return Score(None, "invalid", bundle, reason=line.reason)


class CountedLines:
    """A file's lines, and how many bytes of them were read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.total_bytes = 0

    def readline(self, limit: int) -> bytes:
        """The next line, at most `limit` bytes of it."""
        line = self._stream.readline(limit)
        self.total_bytes += len(line)
        return line


def chunked(lines: Iterable[Line], counted: CountedLines) -> Iterator[list[Line]]:
    """Groups lines, at most `CHUNK_ARTICLES` and about `CHUNK_BYTES` together, so that memory stays bounded."""
    chunk: list[Line] = []
    start = counted.total_bytes
    for line in lines:
        chunk.append(line if isinstance(line, BadLine) else {key: line[key] for key in READ_KEYS if key in line})
        if len(chunk) >= CHUNK_ARTICLES or counted.total_bytes - start >= CHUNK_BYTES:
            yield chunk
            chunk, start = [], counted.total_bytes
    if chunk:
        yield chunk


def _inspect(options: argparse.Namespace) -> int:
    bundle = open_bundle(options.bundle)
    quality = _read_quality(bundle.folder / bundle.manifest.path_of("quality"))
    if options.json:
        content = {"id": bundle.id, "manifest": bundle.manifest.model_dump(mode="json"), "quality": quality}
        print(json.dumps(content, indent=1, ensure_ascii=False))
        return 0
    print("\n".join(_describe(bundle)))
    return 0


def _read_quality(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not JSON ({error})") from error


def _describe(bundle: Bundle) -> Iterator[str]:
    spec, manifest = bundle.spec, bundle.manifest
    yield f"{spec.label}   id {bundle.id}"
    yield f"  {' '.join(spec.summary.split())}"
    yield "  dimensions   " + ", ".join(f"{d.name} {d.weight:g}" for d in spec.dimensions)
    yield "  tiers        " + ", ".join(f"{t.name} from {t.min_overall:g}" for t in spec.tiers)
    for gate in spec.gatekeepers:
        yield f"  gatekeeper   {gate.dimension} below {gate.below:g} caps the overall at {gate.overall_cap:g}"
    for stage in manifest.stages:
        stops = "answers what it gets" if stage.threshold is None else f"answers below {stage.threshold:g}"
        if stage.threshold is None and stage is not manifest.stages[-1]:
            stops = "answers nothing (no threshold was certified)"
        variants = ", ".join(variant.name for variant in stage.variants)
        yield f"  stage        {stage.name}: {variants}, {stage.window.max_tokens} tokens, {stops}"
    for key, value in manifest.lineage.items():
        yield f"  {key:<12} {value}"
    for entry in manifest.files:
        yield f"  file         {entry.path} ({entry.role}, {entry.size_bytes:,} bytes)"


def _verify(options: argparse.Namespace) -> int:
    bundle = open_bundle(options.bundle)
    print(f"{len(bundle.manifest.files)} files: sizes and digests match, nothing else in the folder")
    stages = open_stages(bundle, options.provider)
    problems = replay(stages, bundle.calibration, bundle.goldens, bundle.spec.text)
    for problem in problems:
        print(f"{bundle.folder}: {problem}", file=sys.stderr)
    if problems:
        return 2
    print(
        f"{len(bundle.goldens)} golden articles: token ids, raw outputs and calibration agree on {len(stages)} stages"
    )
    print(f"{bundle.name} is sound (id {bundle.id})")
    return 0


def find_bundle(given: Path | None) -> Path:
    """The bundle to use: the one given, `$DISTILLERY_BUNDLE`, or the only one under `bundles/`.

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
    names = ", ".join(str(path) for path in found) or "none"
    raise InputError("--bundle", [Problem("bundles/", f"bundles found: {names}", "exactly one, or --bundle DIR")])


@contextmanager
def _reading(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    with open(name, "rb") as stream:
        yield stream


@contextmanager
def writing(path: Path | None) -> Iterator[TextIO]:
    """Opens a file that appears under its name only when all of it is written; None is stdout.

    What is there and is no regular file (a pipe, `/dev/null`) is written to as it is; a link's target is replaced.

    Raises:
        InputError: the path is a folder.
    """
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        yield sys.stdout
        return
    target = path.resolve()
    if target.is_dir():
        raise InputError("--out", [Problem(str(path), "a folder", "a file")])
    if target.exists() and not target.is_file():
        with target.open("w", encoding="utf-8") as stream:
            yield stream
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with beside.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
