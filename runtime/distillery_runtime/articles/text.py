"""The text of an article: cleaned title and content joined into the one string that rules and models read.

This is the only place that joins title and content. Every step is linear in the length of the input.
"""

import html
import re
import unicodedata
from dataclasses import dataclass

import re2

from distillery_runtime.articles.article import Article
from distillery_runtime.articles.markup import strip_markup
from distillery_runtime.characters import INVISIBLE_RANGES, character_class
from distillery_runtime.spec.model import TextPolicy
from distillery_runtime.spec.patterns import quiet_options

MAX_MARKS = 30  # in a run: Unicode's stream-safe text (UAX 15) has no more, and sorting them is quadratic
MAX_NESTING = 4  # passes over markup inside markup: nobody writes as many

_CLASS = character_class(INVISIBLE_RANGES)
INVISIBLE_CHARACTERS = re.compile(f"{_CLASS}+")
_LONG_RUN = re2.compile(rf"\pM{{{MAX_MARKS + 1}}}", quiet_options())
_UNSETTLED = re2.compile(rf"{_CLASS}|\pM{{{MAX_MARKS + 1}}}", quiet_options())
_HUGE_NUMBER = re.compile("&#[0-9]{1000,}+;?")  # Python refuses to read integers of thousands of digits


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

    Normalising twice is normalising once, unless characters were written as entities: `&amp;lt;` is the text `&lt;`.
    """
    text = _settle(text)
    if policy.strip_markup:
        text = _without_markup(text)
        if "&" in text:
            text = _settle(html.unescape(_HUGE_NUMBER.sub("\ufffd", text)))
    return " ".join(text.split())


def _without_markup(text: str) -> str:
    """Removes markup until none is left; in a text that nests it without end, every `<` is removed."""
    for _ in range(MAX_NESTING):
        if "<" not in text:
            return text
        stripped = strip_markup(text)
        if stripped == text:
            return text
        text = _settle(stripped)
    return text.replace("<", " ")


def _settle(text: str) -> str:
    """Removes invisible characters and composes letters (NFC), in this order: between them, they keep marks apart.

    Telling that a step is not needed costs a tenth of it: ASCII has neither marks nor another composed form.
    """
    if text.isascii():
        return text if text.replace("\n", " ").isprintable() else INVISIBLE_CHARACTERS.sub("", text)
    if _UNSETTLED.search(text) is not None:
        text = _shorten_runs(INVISIBLE_CHARACTERS.sub("", text))
    composed = unicodedata.normalize("NFC", text)
    return composed if composed == text else _shorten_runs(composed)  # a mark may decompose into two


def _shorten_runs(text: str) -> str:
    """Keeps the first `MAX_MARKS` of every run of combining marks."""
    if _LONG_RUN.search(text) is None:
        return text
    kept, run = [], 0
    for character in text:
        run = run + 1 if unicodedata.category(character)[0] == "M" else 0
        if run <= MAX_MARKS:
            kept.append(character)
    return "".join(kept)
