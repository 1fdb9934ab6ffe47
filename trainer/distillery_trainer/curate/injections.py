"""Finding injections: words in an article that speak to the model that scores it, not to a reader.

A net, not a wall: known wordings in seven languages are found, also under cheap disguises; a new wording passes.
"""

import base64
import binascii
import html
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import re2
import yaml

from distillery_runtime.articles.text import INVISIBLE_CHARACTERS, normalise
from distillery_runtime.spec.model import TextPolicy
from distillery_runtime.spec.patterns import compile_pattern, phrases_pattern

TABLE = Path(__file__).parent / "injections.yaml"
GAP, SHORT_GAP = 6, 4  # words between the parts of a command
MOST_ZERO_WIDTH = 8  # a stray few come from editors; letters hidden between letters take many
_COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
_ZERO_WIDTH = re.compile("[\u200b\u200c\u200d\u2060-\u2064\ufeff]")
_INSIDE_LATIN = re.compile("(?<=[A-Za-z])[\u200b\u200c\u200d\u2060-\u2064\ufeff]+(?=[A-Za-z])")
_OVERRIDES = re.compile("[\u202d\u202e]")
_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007f]{1,8}")  # the flags of England, Scotland and Wales
_TAGS = re.compile("[\U000e0000-\U000e007f]+")
_LOOKALIKES = str.maketrans(
    "аеорсухѕіјԁһԛԝмтнвкгзпиАЕОРСУХЅІЈМТНВКοανερικτυΟΑΝΕΡΙΚΤΥΒΗΜΧΖᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢıℓ_",
    "aeopcyxsijdhqwmtnbkrznuAEOPCYXSIJMTHBKoavepiktuOANEPIKTYBHMXZabcdefghijklmnoprstuvwyzil ",
)
_DIGITS = str.maketrans("0134578@$!|+", "oieastbasiit")
_DIGITS_WITH_L = str.maketrans("0134578@$!|+", "oleastbasllt")
_MIXED_WORD = re.compile(
    r"(?<![\w@$!|+])(?=[0-9@$!|+]*+[A-Za-z])(?=[A-Za-z]*+[0-9@$!|+])[A-Za-z0-9@$!|+]{2,40}(?![\w@$!|+])"
)
_SEPARATOR = r"[ .\-_*·•|/\\~,+]"
_SPACED = re.compile(rf"(?<![^\W_])[^\W\d_](?:{_SEPARATOR}{{1,3}}[^\W\d_](?![^\W_])){{7,}}")
_WIDE_GAP = re.compile(rf"{_SEPARATOR}{{2,3}}")
_CODED = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{24,4000}={0,2}")


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
class _Patterns:
    """Patterns by kind: of words, of words written without gaps, and of what prompts are built of."""

    words: Patterns
    runs: Patterns
    markers: Patterns


@cache
def _read(path: Path) -> _Patterns:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    words = [("command", _command(parts)) for parts in data["commands"].values()]
    words += [("demand", _demand(parts)) for parts in data["demands"].values()]
    words += [("address", phrases_pattern(tuple(data["phrases"])))]
    runs = [("command", _run(parts)) for parts in data["commands"].values()]
    return _Patterns(*(_compiled(patterns) for patterns in (words, runs, list(data["markers"].items()))))


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


def views(text: str) -> Iterator[str]:
    """A text's readings, each once; the first is what a filter's models read, in plain letters."""
    shown = normalise(text, TextPolicy())
    plain = unicodedata.normalize("NFKC", shown).translate(_LOOKALIKES)
    found = [plain]
    if not plain.isascii():
        bare = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
        found.append(bare)
    else:
        bare = plain
    if _MIXED_WORD.search(bare):
        found += [_spelled_out(bare, table) for table in (_DIGITS, _DIGITS_WITH_L)]
    found += [_joined(run[0]) for run in _SPACED.finditer(_folded_lines(text))]
    found += [reading for coded in _CODED.finditer(text) if (reading := _decoded(coded[0]))]
    yield from dict.fromkeys(found)


def squeezed(text: str) -> Iterator[str]:
    """The letters of every run that is spelled apart, without gaps between words, where it shows none."""
    for run in _SPACED.finditer(_folded_lines(text)):
        yield re.sub(_SEPARATOR, "", run[0])


def _spelled_out(text: str, digits: dict[int, int]) -> str:
    """The text with letters for the figures inside its words."""
    return _MIXED_WORD.sub(lambda word: word[0].translate(digits), text)


def _folded_lines(text: str) -> str:
    """The text in plain letters with its spaces as they are: they tell letters apart from words."""
    return unicodedata.normalize("NFKC", html.unescape(text)).translate(_LOOKALIKES)


def _joined(run: str) -> str:
    words = _WIDE_GAP.split(run)
    return " ".join(re.sub(_SEPARATOR, "", word) for word in words)


def _decoded(coded: str) -> str | None:
    """What a run of base64 says, or None where it is no text of several words."""
    plain = coded.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        said = base64.b64decode(plain + "=" * (-len(plain) % 4)).decode("utf-8")
    except (binascii.Error, ValueError):  # a long word or a link
        return None
    return said if said.isprintable() and " " in said else None
