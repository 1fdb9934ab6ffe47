"""The command `distillery score`: score a file of articles, or continue one where an interrupted process stopped.

A resumed file has the same bytes as one without an interruption.
"""

import argparse
import hashlib
import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

from distillery_runtime.articles.admission import chunked
from distillery_runtime.articles.article import MAX_TITLE_CHARS
from distillery_runtime.articles.jsonl import read_jsonl_file
from distillery_runtime.bundles.find import ALL, find_bundle, find_bundles
from distillery_runtime.bundles.panel import load_panel
from distillery_runtime.cli.command import news
from distillery_runtime.cli.options import EXPECTED_ID, Commands, add_provider, add_threads, names
from distillery_runtime.cli.output import Tally, json_line, table_of
from distillery_runtime.cli.same_file import refuse_same_file
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.resumable import Output, open_output
from distillery_runtime.files.strict_json import JsonError, parse_json
from distillery_runtime.models.cpu import usable_cores
from distillery_runtime.scoring.cascade import running
from distillery_runtime.scoring.result import Score
from distillery_runtime.scoring.scorer import HybridScorer
from distillery_runtime.version import __version__


def add_score_command(commands: Commands) -> None:
    """Adds `score` to a parser's commands."""
    parser = commands.add_parser("score", help="score a file of articles (JSON lines)")
    parser.add_argument(
        "file", nargs="?", default="-", metavar="FILE", help="JSON lines with id, title, text; - is stdin"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--bundle",
        type=Path,
        action="append",
        metavar="DIR",
        help="the bundle (default: $DISTILLERY_BUNDLE, bundles/*, or the starter); again for each further filter",
    )
    what.add_argument("--filters", type=names, metavar="NAME,...",
                      help=f"filters of the bundles under bundles/, else of the starter; {ALL} of them")  # fmt: skip
    parser.add_argument("--expected-id", action="append", metavar="ID",
                       help=f"{EXPECTED_ID}; again for each bundle, in their order")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="write results here instead of stdout")
    parser.add_argument(
        "--resume", action="store_true", help="continue an interrupted --out file instead of starting over"
    )
    parser.add_argument("--format", choices=("jsonl", "table"), default="jsonl", help="what to write (default: jsonl)")
    add_provider(parser)
    add_threads(parser)
    parser.add_argument("--variant", metavar="NAME", help="the variant to run (default: the fastest for the hardware)")
    parser.add_argument(
        "--select",
        metavar="POINT",
        help="another operating point than the bundle's, on its curve: min_recall=R, min_precision=P, chance=C, "
        "max=f1, or tier",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 if any article was invalid")
    parser.set_defaults(run=_score)


def _score(options: argparse.Namespace) -> int:
    file = None if options.file == "-" else Path(options.file)
    folders = _folders(options.bundle, options.filters)
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
            select=options.select,
        )
        news(*_running(panel.scorers, options.threads or usable_cores()))
        news(*(f"{scorer.bundle}: {_selects(scorer, options.select)}" for scorer in panel.scorers))
        tally = Tally(sys.stderr)
        bundles = [scorer.bundle for scorer in panel.scorers]
        table = table_of([scorer.spec for scorer in panel.scorers], bundles) if options.format == "table" else None
        identity = identity_of(panel.scorers, file) if options.out and not table else None
        output = stack.enter_context(open_output(options.out, news, identity, options.resume))
        left = skip_done(itertools.chain([first], records), output, bundles, panel.chunk_articles, tally.count_kept)
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


def _folders(bundles: Sequence[Path] | None, filters: Sequence[str] | None) -> list[Path]:
    if filters:
        return find_bundles(filters)
    return [find_bundle(given) for given in bundles] if bundles else [find_bundle(None)]


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


def _selects(scorer: HybridScorer, select: str | None) -> str:
    """From where on articles are selected, and what a moved operating point is not covered by."""
    selection = scorer.selection
    if selection is None or selection.chance is None:
        what = f"selects articles of the tier {scorer.spec.operating_tier} or above"
    else:
        what = f"selects from a chance of {selection.chance:g}"
    return what + (f" (--select {select}; the certificate is for the bundle's own point)" if select else "")


def _titled(lines: Iterable[object], titles: deque[str]) -> Iterator[object]:
    """Gives lines as they come, and notes each one's title until its result is there."""
    for line in lines:
        title = line.get("title") if isinstance(line, Mapping) else None
        titles.append(title[:MAX_TITLE_CHARS] if isinstance(title, str) else "")
        yield line


def identity_of(scorers: Sequence[HybridScorer], articles: Path | None) -> dict[str, object]:
    """What results depend on, as JSON: version, bundles, operating points, what runs where, and the articles.

    A file of articles is known by its SHA-256. What comes through a pipe is not known: there, the ids of the articles
    are compared with those of the results.
    """
    return {
        "distillery": __version__,
        "bundles": [scorer.bundle for scorer in scorers],
        "selected_from": [scorer.selection.chance if scorer.selection else None for scorer in scorers],
        "stages": [[f"{s.name}: {s.variant} on {s.provider}" for s in scorer.stages] for scorer in scorers],
        "articles": _digest(articles) if articles is not None and articles.is_file() else "a pipe",
    }


def skip_done(
    records: Iterator[object],
    output: Output,
    bundles: Sequence[str],
    chunk_articles: int,
    count: Callable[[Sequence[Score]], None],
) -> Iterator[object]:
    """Passes over the records whose results are kept, and gives the others.

    Scoring begins again at the beginning of a chunk, where the uninterrupted process would have begun one, for a
    model's last bits may depend on which articles it is given together. Results beyond it are dropped.

    Args:
        records: all of them, from the first.
        output: the file of results.
        bundles: the bundles' names, in the order of an article's results.
        chunk_articles: the largest number of articles in a chunk.
        count: called with the results of each article that are kept.

    Raises:
        InputError: the results are not those of these records by these bundles.
    """
    if output.part is None or not output.kept:
        return records
    taken: list[object] = []

    def noted() -> Iterator[object]:
        for record in records:
            taken.append(record)
            yield record

    done, skipped = output.kept // len(bundles), 0
    with output.part.open("rb") as stream:
        for chunk in chunked(noted(), chunk_articles):
            if skipped + len(chunk) > done:
                break
            for number, entry in enumerate(chunk, start=skipped + 1):
                scores = [_result(stream.readline()) for _ in bundles]
                if any(s is None or (s.id, s.bundle) != (entry.id, b) for s, b in zip(scores, bundles, strict=True)):
                    found = f"result {number} is of {scores[0].id if scores[0] else None!r}"
                    expected = f"one of {entry.id!r}, as the articles are now, or no --resume"
                    raise InputError("--resume", [Problem(str(output.part), found, expected)])
                count([score for score in scores if score])
            skipped += len(chunk)
            taken.clear()
        else:
            if skipped < done:
                problem = Problem(str(output.part), f"results of {done:,} articles", f"at most {skipped:,}, as now")
                raise InputError("--resume", [problem])
    output.keep(skipped * len(bundles))
    return itertools.chain(taken, records)


def _result(line: bytes) -> Score | None:
    try:
        return Score(**cast(Any, parse_json(line)))  # Any: of unknown shape, and refused if it is another
    except (JsonError, TypeError):
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
