"""Guards: what is no article is dropped before anything is paid for it, with a named reason that is counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from distillery_runtime.articles.text import ArticleText
from distillery_runtime.spec.patterns import compile_pattern, phrases_pattern
from distillery_trainer.curate.guard_words import beyond_title, garbled_share, letter_share, sentences, words

TABLE = Path(__file__).parent / "guards.yaml"
MIN_WORDS = 12
MIN_BEYOND_TITLE = 4
PHRASE_WORDS = 20  # what a phrase takes of its sentence: where a full stop is missing, that may be the whole text
MOST_GARBLED = 0.01
LEAST_LETTERS = 0.5
SHAPE_REASONS = ("near_empty", "title_repeated", "garbled", "not_prose")


@dataclass(frozen=True, slots=True)
class Dropped:
    """Why a text is no article: the reason's name, and what was found."""

    reason: str
    found: str


@dataclass(frozen=True, slots=True)
class PhraseReason:
    """A reason of the table: its phrases by language, how many of them make a short text one, and how short."""

    name: str
    at_least: int
    max_words: int
    phrases: Mapping[str, Sequence[str]]


class Guards:
    """The table's reasons and the limits on a text's shape, compiled. `min_words`: the fewest a text must have."""

    def __init__(self, min_words: int = MIN_WORDS, table: Path = TABLE) -> None:
        self.min_words = min_words
        self._reasons = [_Matcher(reason) for reason in read_table(table)]

    @property
    def reasons(self) -> tuple[str, ...]:
        """The names of all reasons, in the order in which they are tried."""
        return (*(matcher.reason.name for matcher in self._reasons), *SHAPE_REASONS)

    def check(self, text: ArticleText) -> Dropped | None:
        """Tells the first reason to drop a text, or None for one to keep."""
        for matcher in self._reasons:
            if found := matcher.check(text.content, self.min_words):
                return Dropped(matcher.reason.name, found)
        return self._check_shape(text)

    def _check_shape(self, text: ArticleText) -> Dropped | None:
        count, new = len(words(text.content)), beyond_title(text.content, text.title)
        if count < self.min_words:
            return Dropped("near_empty", f"{count} words, expected at least {self.min_words}")
        if new < MIN_BEYOND_TITLE:
            return Dropped("title_repeated", f"{new} words that the title lacks, expected at least {MIN_BEYOND_TITLE}")
        if (garbled := garbled_share(text.content)) > MOST_GARBLED:
            return Dropped("garbled", f"{garbled:.1%} of the characters wrongly decoded, at most {MOST_GARBLED:.0%}")
        if (letters := letter_share(text.content)) < LEAST_LETTERS:
            return Dropped("not_prose", f"{letters:.0%} letters, expected at least {LEAST_LETTERS:.0%}")
        return None


@cache
def read_table(path: Path) -> tuple[PhraseReason, ...]:
    """The reasons of a table of phrases, in order."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(PhraseReason(r["name"], r["at_least"], r["max_words"], r["phrases"]) for r in data["reasons"])


class _Matcher:
    """Finds one reason's phrases. A plain search goes first, for few texts hold any of some hundred phrases."""

    def __init__(self, reason: PhraseReason) -> None:
        self.reason = reason
        phrases = dict.fromkeys(phrase.lower() for listed in reason.phrases.values() for phrase in listed)
        self._phrases = {phrase: phrase.removesuffix("*") for phrase in phrases}

    def check(self, content: str, min_words: int) -> str | None:
        """What marks the text, or None."""
        lowered = content.lower()
        near = [phrase for phrase, plain in self._phrases.items() if plain in lowered]
        named = [phrase for phrase in near if _pattern((phrase,)).search(content)]
        if not named:
            return None
        said = ", ".join(map(repr, named[:3]))
        pattern = _pattern(tuple(named))
        rest = sum(_own_words(part, pattern) for part in sentences(content))
        if rest < min_words:
            return f"{rest} words beside {said}"
        if len(named) >= self.reason.at_least and len(words(content)) <= self.reason.max_words:
            return f"{len(named)} phrases: {said}"
        return None


def _own_words(sentence: str, pattern: Any) -> int:  # Any: re2 has no types
    """How many words of a sentence its phrases leave."""
    count = len(words(sentence))
    return max(count - PHRASE_WORDS, 0) if pattern.search(sentence) else count


@cache
def _pattern(phrases: tuple[str, ...]) -> Any:  # Any: as above
    return compile_pattern(phrases_pattern(phrases))
