"""Finding injections: words in an article that speak to the model that scores it, not to a reader.

A net, not a wall: known wordings in seven languages are found, also under cheap disguises; a new wording passes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import re2
import yaml

from distillery_runtime.articles.text import INVISIBLE_CHARACTERS
from distillery_runtime.spec.patterns import compile_pattern, phrases_pattern
from distillery_trainer.curate.disguises import squeezed, views

TABLE = Path(__file__).parent / "injections.yaml"
GAP, SHORT_GAP = 6, 4  # words between the parts of a command
MOST_ZERO_WIDTH = 8  # a stray few come from editors; letters hidden between letters take many
_COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
_ZERO_WIDTH = re.compile("[\u200b\u200c\u200d\u2060-\u2064\ufeff]")
_INSIDE_LATIN = re.compile("(?<=[A-Za-z])[\u200b\u200c\u200d\u2060-\u2064\ufeff]+(?=[A-Za-z])")
_OVERRIDES = re.compile("[\u202d\u202e]")
_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007f]{1,8}")  # the flags of England, Scotland and Wales
_TAGS = re.compile("[\U000e0000-\U000e007f]+")


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Why a text may hold an injection: the kind, and the words (or what of them is printable) that say so."""

    kind: str
    found: str


class Detector:
    """The table's patterns, compiled."""

    def __init__(self, table: Path = TABLE) -> None:
        self._table = _read(table)

    def check(self, text: str) -> list[Suspicion]:
        """What is suspicious in a text as it was received, one of each kind."""
        visible = INVISIBLE_CHARACTERS.sub("", _TAGS.sub(_spelled, text))
        found = [*_invisible(text), *_matches([*self._table.words, *self._table.markers], visible)]
        for view in views(visible):
            found += _matches(self._table.words, view)
        for run in squeezed(visible):
            found += _matches(self._table.runs, run)
        return list({one.kind: one for one in reversed(found)}.values())[::-1]


def _matches(patterns: "Patterns", text: str) -> Iterator[Suspicion]:
    for kind, pattern in patterns:
        if match := pattern.search(text):
            yield Suspicion(kind, " ".join(match.group(0).split())[:120])


def _invisible(text: str) -> Iterator[Suspicion]:
    """Characters that hide words from a reader."""
    if _TAGS.search(_FLAG.sub("", text)):
        yield Suspicion("tag_characters", _TAGS.sub(_spelled, "".join(_TAGS.findall(text)))[:120])
    hidden = len(_ZERO_WIDTH.findall(text))
    if len(_INSIDE_LATIN.findall(text)) > MOST_ZERO_WIDTH or _longest_run(text) > MOST_ZERO_WIDTH:
        yield Suspicion("zero_width", f"{hidden} characters without width")
    if _OVERRIDES.search(text):
        yield Suspicion("direction_override", f"{len(_OVERRIDES.findall(text))} overrides of the direction of writing")


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("[\u200b\u200c\u200d\u2060-\u2064\ufeff]+", text)), default=0)


def _spelled(tags: re.Match[str]) -> str:
    """The ASCII that tag characters stand for."""
    return "".join(chr(ord(tag) - 0xE0000) for tag in tags.group(0) if ord(tag) >= 0xE0020)


Patterns = Sequence[tuple[str, Any]]  # Any: re2 has no types


@dataclass(frozen=True, slots=True)
class _Table:
    """Patterns by kind: of words, of words written without gaps, and of what prompts are built of."""

    words: Patterns
    runs: Patterns
    markers: Patterns


@cache
def _read(path: Path) -> _Table:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    words = [("command", _command(parts)) for parts in data["commands"].values()]
    words += [("demand", _demand(parts)) for parts in data["demands"].values()]
    words += [("address", phrases_pattern(tuple(data["phrases"])))]
    runs = [("command", _run(parts)) for parts in data["commands"].values()]
    return _Table(*(_compiled(patterns) for patterns in (words, runs, list(data["markers"].items()))))


def _compiled(patterns: Sequence[tuple[str, str]]) -> Patterns:
    return [(kind, compile_pattern(pattern)) for kind, pattern in patterns]


def _run(parts: Mapping[str, Sequence[str]]) -> str:
    """A command in a run of letters without gaps: its words in any distance that letters of a few words take."""
    verb, thing, pointer = (
        "(?:" + "|".join(re2.escape(word.removesuffix("*").replace(" ", "")) for word in parts[name]) + ")"
        for name in ("verbs", "objects", "pointers")
    )
    return rf"{verb}\pL{{0,40}}(?:{pointer}\pL{{0,30}}{thing}|{thing}\pL{{0,30}}{pointer})"


def _command(parts: Mapping[str, Sequence[str]]) -> str:
    verb, thing, pointer = (_any(parts[name]) for name in ("verbs", "objects", "pointers"))
    either = f"(?:{pointer}{_gap(SHORT_GAP)}{thing}|{thing}{_gap(SHORT_GAP)}{pointer})"
    return f"{_START}{verb}{_gap(GAP)}{either}{_END}"


def _demand(parts: Mapping[str, Sequence[str]]) -> str:
    verb, thing, level = (_any(parts[name]) for name in ("verbs", "things", "levels"))
    either = f"(?:{thing}{_gap(GAP)}{level}|{level}{_gap(GAP)}{thing})"
    return f"{_START}{verb}{_gap(GAP)}{either}{_END}"


_START, _END = r"(?:^|[^\pL\pN\pM_])", r"(?:$|[^\pL\pN\pM_])"


def _gap(most: int) -> str:
    return rf"[^\pL\pN]{{1,4}}(?:[\pL\pN'’]+[^\pL\pN]{{1,4}}){{0,{most}}}"


def _any(words: Sequence[str]) -> str:
    return "(?:" + "|".join(re2.escape(w.removesuffix("*")) + (r"[\pL]*" if w[-1] == "*" else "") for w in words) + ")"
