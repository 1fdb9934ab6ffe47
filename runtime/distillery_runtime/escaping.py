"""Text from others made safe to show: what a reader cannot see, or what moves a terminal's cursor, is spelt out."""

import re

from distillery_runtime.invisible import INVISIBLE_RANGES, character_class

# Beside those that cleaning removes: all controls, separators of lines and paragraphs, surrogates, and the controls of
# Egyptian hieroglyphs.
_MORE = ((0x00, 0x1F), (0x7F, 0x9F), (0x2028, 0x2029), (0xD800, 0xDFFF), (0x13430, 0x1345F))
_HIDDEN = re.compile(character_class([*_MORE, *INVISIBLE_RANGES]))


def shown(text: str) -> str:
    r"""A text as one line without hidden characters: each becomes its escape, `\n` or `\u202e` for example."""
    return _HIDDEN.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
