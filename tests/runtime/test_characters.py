"""What others have written is shown as one line in which nothing is hidden."""

import logging
import sys
import unicodedata

import pytest

from distillery_runtime.characters import shown
from distillery_runtime.cli.command import print_lines
from distillery_runtime.errors import BundleError, InputError, Problem

# Signs before numbers and verses: of the category Cf, but to be seen.
VISIBLE = {0x0600, 0x0601, 0x0602, 0x0603, 0x0604, 0x0605, 0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2, 0x110BD, 0x110CD}
FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180e\u2800\u3164\ufe0f\uffa0\U000e0100"


def test_every_control_mark_and_half_character_is_escaped() -> None:
    hidden = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and ord(character) not in VISIBLE
    ]

    assert [hex(ord(c)) for c in [*hidden, *FILLERS] if shown(c) == c] == []
    assert all(shown(c).isascii() and shown(c).isprintable() for c in [*hidden, *FILLERS])


def test_what_can_be_read_stays_as_it_is_and_showing_twice_changes_nothing() -> None:
    text = "Zoë's 東京 עברית हिन्दी C:\\new 'x' \u00a0"

    assert shown(text) == text
    assert shown(shown("a\x1b[2J\u202eb\n")) == shown("a\x1b[2J\u202eb\n") == "a\\x1b[2J\\u202eb\\n"


@pytest.mark.parametrize(
    "error",
    [
        InputError("a\nb", [Problem("x\n70", "\x1b[31mfound", "y\u202e")]),
        BundleError("folder\nverified: sound\x1b[2K"),
        InputError("a", [Problem("x", "one", "y"), Problem("x\r", "two", "y")]),
        BundleError("one", "two"),
    ],
)
def test_a_message_has_the_lines_that_we_gave_it(error: Exception) -> None:
    lines = str(error).split("\n")

    assert len(lines) == (2 if "two" in lines[-1] else 1)
    assert all(line.isprintable() for line in lines)


def test_a_line_is_printed_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines("name\nrelevance 9.9\x1b]0;title\x07", "two")

    assert capsys.readouterr().out == "name\\nrelevance 9.9\\x1b]0;title\\x07\ntwo\n"


def test_a_log_record_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    from distillery_runtime.cli.command import _OneLine

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_OneLine("%(levelname)s: %(message)s"))
    logger = logging.getLogger("escaping")
    logger.propagate = False
    logger.addHandler(handler)

    logger.warning("file %s", "a\nERROR: forged\x1b[1m")

    assert capsys.readouterr().out == "WARNING: file a\\nERROR: forged\\x1b[1m\n"
