"""Plain implementations that rules and token windows are held against: the standard library's `re`, the whole text."""

import re
import sys
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

from distillery_runtime.articles.text import ArticleText
from distillery_runtime.spec.model import PrefilterRule, Window


def matches(rule: PrefilterRule, text: ArticleText) -> bool:
    """Whether a prefilter rule matches a text."""
    fields = {"title": text.title, "text": text.content, "any": text.joined}
    alternatives = [f"(?:{pattern})" for pattern in rule.patterns] + [_phrase(phrase) for phrase in rule.words]
    if not any(_find(pattern, fields[rule.where]) for pattern in alternatives):
        return False
    return not any(_find(_phrase(phrase), text.joined) for phrase in rule.unless)


def _find(pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _phrase(phrase: str) -> str:
    stem = re.escape(phrase.removesuffix("*"))
    ending = f"[{_word_characters()}]*" if phrase.endswith("*") else ""
    return f"(?<![{_word_characters()}_]){stem}{ending}(?![{_word_characters()}_])"


@cache
def _word_characters() -> str:
    """Letters, numbers and marks of all scripts, as ranges of a character class."""
    ranges: list[list[int]] = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code))[0] in "LNM":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


class WholeTexts:
    """Token ids by a window from all tokens of a text, its middle too.

    Args:
        tokenizer_json: the tokenizer.
        window: the window.
        prefix: what stands before every text.
    """

    def __init__(self, tokenizer_json: Path, window: Window, prefix: str) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer_json))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        letter = self._tokenizer.encode("a")
        real = [place for place, special in enumerate(letter.special_tokens_mask) if not special]
        self._lead, self._trail = letter.ids[: real[0]], letter.ids[real[-1] + 1 :]
        self._tokenizer.encode_special_tokens = True
        self._window, self._prefix = window, prefix

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's ids, in order."""
        found = self._tokenizer.encode_batch_fast([self._prefix + text for text in texts], add_special_tokens=False)
        return [[*self._lead, *self._inner(item.ids), *self._trail] for item in found]

    def _inner(self, ids: list[int]) -> list[int]:
        room = self._window.max_tokens - len(self._lead) - len(self._trail)
        if len(ids) <= room:
            return ids
        if not self._window.tail_share:
            return ids[:room]
        separator = self._tokenizer.encode(self._window.separator, add_special_tokens=False).ids
        tail = int((room - len(separator)) * self._window.tail_share)
        head = room - len(separator) - tail
        return [*ids[:head], *separator, *ids[len(ids) - tail :]]
