"""Disguises undone: a text as words again that were spelled with other letters, apart, in digits or in a code.

A net, not a wall: each view undoes a disguise that is cheap to undo, alone.
"""

import base64
import binascii
import html
import re
import unicodedata
from collections.abc import Iterator

from distillery_runtime.articles.text import normalise
from distillery_runtime.spec.model import TextPolicy

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
