"""Characters that a reader does not see: what cleaning removes, and what messages show escaped."""

import re
from collections.abc import Sequence

# What a reader does not see and a tokenizer does, by kind, as ranges of code points: Unicode's property
# Default_Ignorable_Code_Point (DerivedCoreProperties.txt, reserved ones included), interlinear annotations, the object
# sign, joiners of hieroglyphs, noncharacters, empty glyphs (of Braille, of notes, of Khitan), and controls that are no
# whitespace.
INVISIBLE: dict[str, tuple[tuple[int, int], ...]] = {
    "soft_hyphen": ((0xAD, 0xAD),),
    "zero_width": ((0x34F, 0x34F), (0x180E, 0x180E), (0x200B, 0x200D), (0x2060, 0x2065), (0xFEFF, 0xFEFF)),
    "direction": ((0x61C, 0x61C), (0x200E, 0x200F), (0x202A, 0x202E), (0x2066, 0x206F)),
    "filler": (
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x2800, 0x2800),
        (0x3164, 0x3164),
        (0xFFA0, 0xFFA0),
        (0x16FE4, 0x16FE4),
        (0x1D159, 0x1D159),
    ),
    "variation": ((0x180B, 0x180D), (0x180F, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF)),
    "tag": ((0xE0000, 0xE00FF), (0xE01F0, 0xE0FFF)),
    "format": ((0xFFF0, 0xFFFC), (0x13430, 0x1343F), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A)),
    "noncharacter": ((0xFDD0, 0xFDEF), *((plane + 0xFFFE, plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000))),
    "control": ((0x00, 0x08), (0x0E, 0x1B), (0x7F, 0x84), (0x86, 0x9F)),
}
INVISIBLE_RANGES = tuple(one for ranges in INVISIBLE.values() for one in ranges)


def character_class(ranges: Sequence[tuple[int, int]]) -> str:
    """The ranges as a character class, for `re` and for RE2."""
    return "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges) + "]"


# Beside those that cleaning removes: all controls, separators of lines and paragraphs, surrogates, and the controls of
# Egyptian hieroglyphs.
_MORE = ((0x00, 0x1F), (0x7F, 0x9F), (0x2028, 0x2029), (0xD800, 0xDFFF), (0x13430, 0x1345F))
_HIDDEN = re.compile(character_class([*_MORE, *INVISIBLE_RANGES]))


def shown(text: str) -> str:
    r"""A text as one line without hidden characters: each becomes its escape, `\n` or `\u202e` for example."""
    return _HIDDEN.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
