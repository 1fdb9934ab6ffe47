"""An article as received: id, title and content, read strictly from one record."""

from collections.abc import Mapping
from dataclasses import dataclass

from distillery_runtime.errors import DistilleryError

MAX_ID_CHARS = 1_000
MAX_TITLE_CHARS = 10_000
MAX_CONTENT_CHARS = 1_000_000


class ArticleError(DistilleryError):
    """A record is no article; the message is the reason a result carries."""


@dataclass(frozen=True, slots=True)
class Article:
    """What is scored. `content` is the record's `text` (or `content`)."""

    id: str
    title: str
    content: str


def parse_article(record: object) -> Article:
    """Reads an article from one record.

    Args:
        record: a mapping with `id` (string or integer), `title` (optional) and `text` or `content`, or an `Article`.
            Other keys are allowed and ignored.

    Raises:
        ArticleError: the record is no mapping; a field is missing, empty, too long, of another type, or holds lone
            surrogates (which no encoding can carry).
    """
    if isinstance(record, Article):
        record = {"id": record.id, "title": record.title, "text": record.content}
    if not isinstance(record, Mapping):
        raise ArticleError(f"a record must be an object, found {type(record).__name__}")
    article_id = record.get("id")
    if isinstance(article_id, int) and not isinstance(article_id, bool):
        article_id = _digits(article_id)
    content_key = "text" if record.get("text") is not None else "content"
    title = record.get("title")
    article = Article(
        id=_string("id", article_id, MAX_ID_CHARS),
        title="" if title is None else _string("title", title, MAX_TITLE_CHARS),
        content=_string("text", record.get(content_key), MAX_CONTENT_CHARS),
    )
    if not article.id:
        raise ArticleError("id: empty")
    if not article.content.strip():
        raise ArticleError("text: empty")
    return article


def _digits(number: int) -> str:
    try:
        return str(number)
    except ValueError as error:  # Python refuses to spell integers of thousands of digits
        raise ArticleError(f"id: an integer of more than {MAX_ID_CHARS} digits") from error


def id_of(record: object) -> str | None:
    """A record's id where it has a usable one, for reporting records that are no articles."""
    value = record.get("id") if isinstance(record, Mapping) else getattr(record, "id", None)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    try:
        return _string("id", str(value), MAX_ID_CHARS) or None
    except (ArticleError, ValueError):  # ValueError: an integer of thousands of digits
        return None


def _string(field: str, value: object, limit: int) -> str:
    if value is None:
        raise ArticleError(f"{field}: missing")
    if not isinstance(value, str):
        raise ArticleError(f"{field}: must be a string, found {type(value).__name__}")
    if len(value) > limit:
        raise ArticleError(f"{field}: {len(value)} characters, at most {limit}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ArticleError(f"{field}: lone surrogate at character {error.start}, not valid Unicode") from error
    return value
