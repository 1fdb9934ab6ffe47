"""Continues a file of results where an interrupted process stopped, with the same bytes as without an interruption."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from distillery_runtime.articles.admission import chunked
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.files.resumable import Output
from distillery_runtime.files.strict_json import JsonError, parse_json
from distillery_runtime.scoring.result import Score
from distillery_runtime.scoring.scorer import HybridScorer
from distillery_runtime.version import __version__


def identity_of(scorers: Sequence[HybridScorer], articles: Path | None) -> dict[str, object]:
    """What results depend on, as JSON: the version, the bundles, what runs of them and where, and the articles.

    A file of articles is known by its SHA-256. What comes through a pipe is not known: there, the ids of the articles
    are compared with those of the results.
    """
    return {
        "distillery": __version__,
        "bundles": [scorer.bundle for scorer in scorers],
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
