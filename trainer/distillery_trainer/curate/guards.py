"""Guards: remove non-articles and repeats before labels are paid for, each with a named reason that is counted."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from distillery_runtime.articles.text import ArticleText
from distillery_runtime.spec.model import TextPolicy
from distillery_runtime.spec.patterns import compile_pattern, phrases_pattern
from distillery_trainer.data.articles import ReceivedArticle, ReceivedSet, read_received
from distillery_trainer.data.duplicates import near_duplicate_groups, representatives, tokens
from distillery_trainer.store.files import write_jsonl

TABLE = Path(__file__).parent / "guards.yaml"
MIN_WORDS = 12
MIN_BEYOND_TITLE = 4
PHRASE_WORDS = 20  # what a phrase takes of its sentence: where a full stop is missing, that may be the whole text
MOST_GARBLED = 0.01
LEAST_LETTERS = 0.5
SHAPE_REASONS = ("near_empty", "title_repeated", "garbled", "not_prose")
_SENTENCE = re.compile(r"(?<=[.!?…»。！？])\s+|\n+")
LETTERS_FROM = 2000  # characters
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+")
# The replacement character, and what UTF-8 read as Windows-1252 looks like.
_GARBLED = re.compile("\ufffd|Ã[\u0080-\u00bf©¨ª«¼¶¤±³]|â€[™œ\u009d“”¦˜]|Â[\u00a0-\u00bf]")
UNREADABLE, DUPLICATE, NEAR_DUPLICATE = "unreadable", "duplicate", "near_duplicate"


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


def words(text: str) -> list[str]:
    """The words in lower case, web addresses left out; of scripts without spaces each character is one."""
    return tokens(_ADDRESS.sub(" ", text))


def sentences(text: str) -> list[str]:
    """The text cut after full stops and line breaks; an address with stops in it stays whole."""
    return [part for part in _SENTENCE.split(text) if part]


def beyond_title(content: str, title: str) -> int:
    """How many words the content has that do not stand in the title."""
    known = set(words(title))
    return sum(word not in known for word in words(content))


def garbled_share(text: str) -> float:
    """Characters that a wrong decoding left, as a share of all: 0 to 1."""
    return sum(map(len, _GARBLED.findall(text))) / max(len(text), 1)


def letter_share(text: str) -> float:
    """Letters and marks as a share of what is no space and no web address, at the start: 0 to 1; 1 for none."""
    visible = "".join(_ADDRESS.sub(" ", text[:LETTERS_FROM]).split())
    return sum(char.isalpha() or not char.isascii() for char in visible) / len(visible) if visible else 1.0


@dataclass(frozen=True, slots=True)
class Sorted:
    """Articles in file order: those kept with their groups, those dropped with the reason, and unreadable lines."""

    kept: tuple[tuple[ReceivedArticle, str], ...]
    dropped: tuple[tuple[ReceivedArticle, Dropped], ...]
    unreadable: tuple[Mapping[str, object], ...]

    def counts(self) -> dict[str, int]:
        """How many were dropped for each reason, the commonest first."""
        found = Counter(why.reason for _, why in self.dropped)
        found.update({UNREADABLE: len(self.unreadable)} if self.unreadable else {})
        return dict(found.most_common())


def guard_files(files: Sequence[Path], out: Path, dropped: Path, guards: Guards) -> Sorted:
    """Writes the articles kept to `out`, each with its `group`, and all others to `dropped`, each with `reason`.

    Raises:
        InputError: a file is missing, or holds no article.
    """
    result = sort_articles(read_received(files, TextPolicy()), guards)
    write_jsonl(out, ({**article.record, "group": group} for article, group in result.kept))
    rows = [{**article.record, "reason": why.reason, "found": why.found} for article, why in result.dropped]
    write_jsonl(dropped, [*rows, *result.unreadable])
    return result


def sort_articles(receipt: ReceivedSet, guards: Guards) -> Sorted:
    """Drops what a guard names, then all of each near-duplicate group but its longest text."""
    checked = [(article, guards.check(article.cleaned)) for article in receipt.articles]
    passed = [article for article, why in checked if why is None]
    groups = near_duplicate_groups([article.id for article in passed], [article.text for article in passed])
    chosen = representatives(groups, [article.text for article in passed])
    repeated = {
        article.id: _repeats(article, passed[chosen[group]])
        for place, (article, group) in enumerate(zip(passed, groups, strict=True))
        if chosen[group] != place
    }
    reasons = {article.id: why or repeated.get(article.id) for article, why in checked}
    kept = [(a, g) for a, g in zip(passed, groups, strict=True) if a.id not in repeated]
    dropped = [(article, why) for article, _ in checked if (why := reasons[article.id])]
    lines = [{"where": line.where, "reason": UNREADABLE, "found": line.reason} for line in receipt.unusable]
    return Sorted(tuple(kept), tuple(dropped), tuple(lines))


def _repeats(article: ReceivedArticle, kept: ReceivedArticle) -> Dropped:
    same = article.text.casefold() == kept.text.casefold()
    return Dropped(DUPLICATE if same else NEAR_DUPLICATE, f"of {kept.id}")
