"""An article as received: id, title and content, read strictly from one record."""

from collections.abc import Mapping
from dataclasses import dataclass

from distillery_runtime.errors import DistilleryError

MAX_ID_CHARS = 1_000
MAX_TITLE_CHARS = 10_000
MAX_CONTENT_CHARS = 1_000_000
EMPTY = "text and content: both empty"


class ArticleError(DistilleryError):
    """A record is no article; the message is the reason a result carries."""


@dataclass(frozen=True, slots=True)
class Article:
    """What is scored. `content` is the record's `text`, or its `content` where `text` is missing or blank."""

    id: str
    title: str
    content: str


def parse_article(record: object) -> Article:
    """Reads an article from one record.

    Args:
        record: a mapping with `id` (string or integer), `title` (optional) and `text` or `content`, or an `Article`.
            `text` is read where it is not blank, else `content`. Other keys are allowed and ignored.

    Raises:
        ArticleError: the record is no mapping; a field is missing, empty, too long, of another type, or holds lone
            surrogates (which no encoding can carry).
    """
    if isinstance(record, Article):
        record = {"id": record.id, "title": record.title, "text": record.content}
    if not isinstance(record, Mapping):
        raise ArticleError(f"a record must be an object, found {type(record).__name__}")
    title = record.get("title")
    article = Article(
        id=_string("id", _spelt(record.get("id")), MAX_ID_CHARS),
        title="" if title is None else _string("title", title, MAX_TITLE_CHARS),
        content=_content(record.get("text"), record.get("content")),
    )
    if not article.id:
        raise ArticleError("id: empty")
    return article


def _content(text: object, content: object) -> str:
    """The first of the two that is not blank."""
    if text is None and content is None:
        raise ArticleError("text: missing")
    found = "" if text is None else _string("text", text, MAX_CONTENT_CHARS)
    if not found.strip() and content is not None:
        found = _string("content", content, MAX_CONTENT_CHARS)
    if not found.strip():
        raise ArticleError("text: empty" if content is None else "content: empty" if text is None else EMPTY)
    return found


def _spelt(value: object) -> object:
    """An integer as its digits, anything else as it is."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    try:
        return int.__repr__(value)
    except ValueError as error:  # Python refuses to spell integers of thousands of digits
        raise ArticleError(f"id: an integer of more than {MAX_ID_CHARS} digits") from error


def id_of(record: object) -> str | None:
    """A record's id where it has a usable one, for reporting records that are no articles."""
    try:
        value = record.get("id") if isinstance(record, Mapping) else getattr(record, "id", None)
        return _string("id", _spelt(value), MAX_ID_CHARS) or None
    except Exception:  # noqa: BLE001 - of the caller's own mapping, whatever its methods raise: there is no id
        return None


def _string(field: str, value: object, limit: int) -> str:
    if value is None:
        raise ArticleError(f"{field}: missing")
    if not isinstance(value, str):
        raise ArticleError(f"{field}: must be a string, found {type(value).__name__}")
    value = str.__str__(value)  # of a subclass, whose own methods may do anything
    if len(value) > limit:
        raise ArticleError(f"{field}: {len(value)} characters, at most {limit}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ArticleError(f"{field}: lone surrogate at character {error.start}, not valid Unicode") from error
    return value
