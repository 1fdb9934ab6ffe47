"""Text from others made safe to show: what a reader cannot see, or what moves a terminal's cursor, is spelt out."""

import re

# Controls; soft hyphen and joiners; marks of direction; fillers that show as nothing; line and paragraph separators;
# variation selectors; half characters; notes and tags that are invisible.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001345f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def shown(text: str) -> str:
    r"""A text as one line without hidden characters: each becomes its escape, `\n` or `\u202e` for example."""
    return _HIDDEN.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
