"""Articles to be labelled, read from files that nobody has checked: what cannot be asked about is counted by reason."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distillery_runtime.articles.article import ArticleError, parse_article
from distillery_runtime.articles.jsonl import BadLine, file_problem, read_again
from distillery_runtime.articles.text import compose
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import TextPolicy
from distillery_trainer.store.files import is_writable

Record = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Article:
    """An article with its composed text and the record that it came from."""

    id: str
    text: str
    record: Record


@dataclass(frozen=True, slots=True)
class Articles:
    """The articles in file order, ids and texts all usable, and how many lines were passed over for which reason."""

    articles: tuple[Article, ...]
    passed_over: Mapping[str, int]


def read_articles(files: Sequence[Path], policy: TextPolicy, max_characters: int) -> Articles:
    """Reads JSON lines with `id`, `title` and `text`.

    Args:
        files: the files, in order.
        policy: how an article becomes one text.
        max_characters: articles with longer texts are passed over, for one costs as much as hundreds.

    Raises:
        InputError: a file is missing or no JSON lines, or there is no usable article in any.
    """
    if missing := [problem for file in files if (problem := file_problem(file))]:
        raise InputError("--articles", missing)
    found: dict[str, Article] = {}
    passed_over: Counter[str] = Counter()
    for record in _records(files):
        article = _read(record, policy, max_characters)
        if isinstance(article, str):
            passed_over[article] += 1
        elif article.id in found:
            passed_over["an id used before"] += 1
        else:
            found[article.id] = article
    if not found:
        reasons = ", ".join(f"{count} {reason}" for reason, count in passed_over.items()) or "empty files"
        raise InputError("--articles", [Problem(", ".join(map(str, files)), reasons, "at least one usable article")])
    return Articles(tuple(found.values()), dict(passed_over))


def _records(files: Sequence[Path]) -> Iterator[Record | BadLine]:
    for file in files:
        yield from read_again(file)


def _read(record: Record | BadLine, policy: TextPolicy, max_characters: int) -> Article | str:
    """The article, or why there is none."""
    if isinstance(record, BadLine):
        return "not a JSON object"
    try:
        article = parse_article(record)
    except ArticleError:
        return "no id, title and text"
    if not is_writable(record):
        return "a field that JSON cannot hold"
    text = compose(article, policy).joined
    if not text:
        return "no text left after cleaning"
    if len(text) > max_characters:
        return f"longer than {max_characters} characters"
    return Article(article.id, text, record)
