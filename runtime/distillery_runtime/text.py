"""The text of an article: cleaned title and content joined into the one string that rules and models read.

This is the only place that joins title and content. Everything is linear in the length of the input (RE2).
"""

import html
import unicodedata
from dataclasses import dataclass

import re2

from distillery_runtime.article import Article
from distillery_runtime.spec import TextPolicy

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.dot_nl = True
_HIDDEN_ELEMENT = re2.compile(r"(?i)<(?:script|style)\b[^>]*>.*?</(?:script|style)\s*>", _OPTIONS)
# Comments have a pass of their own: an unclosed one, looked for again after every tag, would cost quadratic time.
_COMMENT = re2.compile(r"<!--.*?-->", _OPTIONS)
_TAG = re2.compile(r"</?[A-Za-z][^<>]{0,1000}>", _OPTIONS)
# Normalising sorts runs of combining marks in quadratic time; Unicode's stream-safe text (UAX 15) has at most 30.
_MARKS = re2.compile(r"(\pM{30})\pM+", _OPTIONS)
# Controls, soft hyphen, zero-width and bidirectional marks: invisible to a reader, visible to a tokenizer.
_INVISIBLE = re2.compile(
    r"[\x{00}-\x{08}\x{0B}\x{0E}-\x{1F}\x{7F}-\x{84}\x{86}-\x{9F}\x{AD}\x{200B}-\x{200F}\x{202A}-\x{202E}"
    r"\x{2060}-\x{2064}\x{2066}-\x{206F}\x{FEFF}\x{FFF9}-\x{FFFB}]",
    _OPTIONS,
)


@dataclass(frozen=True, slots=True)
class ArticleText:
    """An article's cleaned title and content, and the two joined."""

    title: str
    content: str
    joined: str


def compose(article: Article, policy: TextPolicy) -> ArticleText:
    """Cleans an article and joins title and content by the policy's separator; an empty part adds no separator."""
    title, content = normalise(article.title, policy), normalise(article.content, policy)
    return ArticleText(title, content, policy.title_separator.join(part for part in (title, content) if part))


def normalise(text: str, policy: TextPolicy) -> str:
    """Cleans one string: NFC, no invisible characters, runs of whitespace as one space, markup removed if asked.

    Normalising a second time changes nothing, unless markup was written as escaped entities. Most texts need few of the
    steps, and telling so costs a tenth of a pass of RE2: without `<` there is no markup, ASCII has neither marks nor
    another composed form, and what is printable is not invisible.
    """
    if policy.strip_markup:
        if "<" in text:
            text = _TAG.sub(" ", _COMMENT.sub(" ", _HIDDEN_ELEMENT.sub(" ", text)))
        text = html.unescape(text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", _MARKS.sub(r"\1", text))
    if not text.replace("\n", " ").isprintable():
        text = _INVISIBLE.sub("", text)
    return " ".join(text.split())
