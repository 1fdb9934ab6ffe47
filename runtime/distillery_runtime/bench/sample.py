"""What is measured on: a sample of articles of many lengths, and rows of token ids of a given length made from it."""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distillery_runtime.articles.article import ArticleError, parse_article
from distillery_runtime.articles.jsonl import BadLine, read_jsonl_file
from distillery_runtime.bundles.golden import Golden
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.tokens.window import Ids, TokenIds, TokenWindow

MAX_ARTICLES = 2000  # of a file: enough for its lengths, little enough to hold in memory
LENGTHS = (32, 64, 128, 256, 512, 1024, 2048)
ROWS = 4  # different rows of each length, so that not one row's embeddings alone are in the caches
MAX_TEXTS, MAX_CHARS = 32, 2000
DOUBLINGS = 16

# Word counts of the default sample: a median of 90 and a mean of 163, as articles of the web have, from a teaser to a
# report.
WORDS = (20, 40, 60, 80, 100, 150, 250, 600)
DEFAULT_ARTICLES = 64

Record = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """Articles to measure on. `source` says for people where they come from; `refused` counts lines that were none."""

    records: tuple[Record, ...]
    source: str
    refused: int = 0

    def pick(self, count: int) -> tuple[Record, ...]:
        """At most `count` of the articles, drawn at random, always the same ones."""
        return tuple(random.Random(0).sample(self.records, min(count, len(self.records))))  # noqa: S311 - no secret


def sample_from_file(path: Path) -> Sample:
    """The first 2,000 articles of a file of JSON lines.

    Raises:
        InputError: the file holds no article, or is no file of JSON lines.
    """
    records, refused = [], 0
    for line in itertools.islice(read_jsonl_file(path), MAX_ARTICLES):
        try:
            article = parse_article(None if isinstance(line, BadLine) else line)
        except ArticleError:
            refused += 1
            continue
        records.append({"id": article.id, "title": article.title, "text": article.content})
    if not records:
        raise InputError(str(path), [Problem("articles", f"none in {refused} lines", "at least one")])
    return Sample(tuple(records), path.name, refused)


def sample_from_goldens(goldens: Sequence[Golden]) -> Sample:
    """64 articles of 20 to 600 words, made by repeating and cutting a bundle's golden articles.

    Their lengths are like those of articles, their content is not: how many of them each stage answers says nothing.
    """
    words = [golden.text.split() for golden in goldens]
    records = []
    for number in range(DEFAULT_ARTICLES):
        first = number % len(goldens)
        rest = itertools.cycle(itertools.chain.from_iterable([*words[first:], *words[:first]]))
        text = " ".join(itertools.islice(rest, WORDS[number % len(WORDS)]))
        records.append({"id": f"golden-{number}", "title": goldens[first].title, "text": text})
    return Sample(tuple(records), f"the bundle's golden articles, repeated and cut to {WORDS[0]}-{WORDS[-1]} words")


def lengths_within(max_tokens: int) -> tuple[int, ...]:
    """The token counts to measure for a window: powers of two, and the window's own size."""
    return (*(length for length in LENGTHS if length < max_tokens), max_tokens)


def rows_by_length(window: TokenWindow, texts: Sequence[str]) -> dict[int, list[TokenIds]]:
    """Rows of token ids of each length to measure, a few for each.

    The ids are the articles' own, as the window gives them: texts are joined until they fill it, and the row is cut to
    the length, with its first and last id (special tokens, where the tokenizer has them) kept in place.
    """
    parts = [text[:MAX_CHARS] for text in texts[:MAX_TEXTS]]
    filled = [_filled(window, " ".join([*parts[start:], *parts[:start]])) for start in range(min(ROWS, len(parts)))]
    reached = min(len(ids) for ids in filled)
    return {
        length: [TokenIds(_cut(ids, length), truncated=True) for ids in filled]
        for length in lengths_within(window.window.max_tokens)
        if length <= reached
    }


def _filled(window: TokenWindow, text: str) -> Ids:
    """The ids of a text repeated until the window is full."""
    row = window.encode([text])[0]
    for _ in range(DOUBLINGS):
        if row.truncated:
            break
        text = f"{text} {text}"
        row = window.encode([text])[0]
    return row.ids


def _cut(ids: Ids, length: int) -> Ids:
    cut = ids[:length].copy()
    cut[-1] = ids[-1]
    return cut
