"""From records nobody has checked to articles, and to chunks of them that bound memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from distillery_runtime.articles.article import Article, ArticleError, id_of, parse_article
from distillery_runtime.articles.jsonl import BadLine

CHUNK_CHARS = 2_000_000  # at most 8 MB as Python holds them, and as much again once cleaned


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that is no article: its id, where it has a usable one, and the reason."""

    id: str | None
    reason: str


Entry = Article | Refused


def read_entry(record: object) -> Entry:
    """Reads an article as `parse_article` does; what is none (a `BadLine`, for example) is refused with a reason."""
    if isinstance(record, BadLine):
        return Refused(None, record.reason)
    try:
        return parse_article(record)
    except ArticleError as error:
        return Refused(id_of(record), str(error))
    except Exception as error:  # noqa: BLE001 - of the caller's own mapping, which must not stop the other records
        return Refused(id_of(record), f"cannot be read ({type(error).__name__})")


def chunked(records: Iterable[object], most: int) -> Iterator[list[Entry]]:
    """Reads records and groups them, at most `most` and about `CHUNK_CHARS` characters together.

    What a record holds besides an article's fields is let go at once. When the records raise, what they gave before
    comes first.
    """
    chunk: list[Entry] = []
    chars = 0
    try:
        for record in records:
            entry = read_entry(record)
            chunk.append(entry)
            parts = (entry.title, entry.content) if isinstance(entry, Article) else (entry.reason,)
            chars += sum(map(len, parts))
            if len(chunk) >= most or chars >= CHUNK_CHARS:
                yield chunk
                chunk, chars = [], 0
    except Exception:  # passed on, after the articles that came before it
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk
