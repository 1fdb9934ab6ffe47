"""The text path: cleaning and joining."""

import html
import os
import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from distillery_runtime.articles import text as cleaning
from distillery_runtime.articles.article import Article
from distillery_runtime.articles.markup import strip_markup
from distillery_runtime.articles.text import INVISIBLE_CHARACTERS, MAX_MARKS, compose, normalise
from distillery_runtime.characters import INVISIBLE
from distillery_runtime.spec.model import TextPolicy

PLAIN = TextPolicy(strip_markup=False)
POLICY = TextPolicy()
PIECES = (
    '<|>|</|<b>|</b>|<b |<a href=|<p>|<!--|-->|<script>|</script>|<style |</style>|<![CDATA[|]]>|x=|="|"|\'|/|a|b| |!|?'
    "|[|script|<?xml ?>|<!DOCTYPE |List<Object>|o:p|\u0338|\u0301|\u00ad|\u200b|\u00a0|\n|&amp;|&lt;i&gt;|&#8203;|&"
)
MARKUP = st.sampled_from(PIECES.split("|"))


def test_title_and_content_are_joined_by_the_policys_separator() -> None:
    text = compose(Article("1", "Title", "Body"), TextPolicy(title_separator=" | "))

    assert text.joined == "Title | Body"


def test_an_empty_title_adds_no_separator() -> None:
    assert compose(Article("1", " ", "Body"), POLICY).joined == "Body"


def test_markup_and_entities_are_removed_when_asked() -> None:
    assert normalise("<p>Wind &amp; sun</p>", POLICY) == "Wind & sun"
    assert "<p>" in normalise("<p>Wind</p>", PLAIN)


@pytest.mark.parametrize("kind", INVISIBLE)
def test_invisible_characters_vanish_from_titles_and_texts(kind: str) -> None:
    hidden = [chr(code) for first, last in INVISIBLE[kind] for code in range(first, last + 1)]
    dirty = "".join(f"{one}gun{one}man{one} " for one in hidden)

    text = compose(Article("1", dirty, dirty), POLICY)

    assert text.title == text.content == " ".join(["gunman"] * len(hidden))


def test_all_that_unicode_lets_a_program_ignore_is_invisible() -> None:
    # Default_Ignorable_Code_Point of Unicode 14, as Perl 5.36 lists it (stable: later versions only assign within it)
    ranges = (
        "AD 34F 61C 115F-1160 17B4-17B5 180B-180F 200B-200F 202A-202E 2060-206F 3164 FE00-FE0F FEFF FFA0 FFF0-FFF8 "
        "1BCA0-1BCA3 1D173-1D17A E0000-E0FFF"
    )
    for one in ranges.split():
        first, _, last = one.partition("-")
        for code in range(int(first, 16), int(last or first, 16) + 1):
            assert normalise(f"a{chr(code)}b", PLAIN) == "ab", hex(code)


def test_of_all_format_characters_only_signs_that_are_seen_are_kept() -> None:
    seen = "600-605 6DD 70F 890-891 8E2 110BD 110CD"  # before numbers and verses
    kept = {c for one in seen.split() for c in range(int(one.split("-")[0], 16), int(one.split("-")[-1], 16) + 1)}
    formats = [code for code in range(0x110000) if unicodedata.category(chr(code)) == "Cf"]

    assert {code for code in formats if normalise(f"a{chr(code)}b", PLAIN) != "ab"} == kept


@pytest.mark.parametrize(
    "space", ["\t", "\n", "\x0b", "\x0c", "\r", "\x1c", "\x1f", "\x85", "\u00a0", "\u2003", "\u2028", "\u3000"]
)
def test_every_space_is_one_space(space: str) -> None:
    assert normalise(f"{space}a{space} {space}b", PLAIN) == "a b"


def test_characters_written_as_entities_are_cleaned_like_others() -> None:
    assert normalise("gun&shy;man &#8203;a&nbsp;&nbsp;b e&#x301;", POLICY) == "gunman a b \u00e9"


def test_a_character_number_beyond_all_reading_is_no_error() -> None:
    assert normalise("a&#" + "1" * 5000 + ";b", POLICY) == "a\ufffdb"


def test_letters_are_composed() -> None:
    assert normalise("e\u0301", POLICY) == "\u00e9"


ALL = st.characters(exclude_categories=["Cs"])
BASES = st.sampled_from("aeosnAK=\u0915\u0b47\u1100\u1161\u11a8\uac00\u09c7<> ")
SORTED = [chr(code) for code in range(0x20000) if unicodedata.combining(chr(code))]  # none beyond
MARKS = st.sampled_from(SORTED)
HIDDEN = st.sampled_from(
    [chr(code) for kind in INVISIBLE.values() for first, last in kind for code in range(first, last + 1)]
)
RUNS = st.builds(str.__mul__, BASES | MARKS | HIDDEN | ALL, st.sampled_from([1, 1, 1, 2, 16, 31]))
LONG = int(os.environ.get("TEXT_EXAMPLES", "30000"))  # of the slow properties; a million take about ten minutes


def is_clean(text: str, policy: TextPolicy) -> None:
    once = normalise(text, policy)

    assert normalise(once, policy) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == " ".join(once.split())
    assert INVISIBLE_CHARACTERS.search(once) is None


@given(st.lists(RUNS, max_size=24).map("".join))
def test_marks_and_invisible_characters_are_settled_by_cleaning_once(text: str) -> None:
    is_clean(text, PLAIN)


@given(st.lists(MARKUP, max_size=24).map("".join))
def test_markup_is_removed_by_cleaning_once(text: str) -> None:
    is_clean(text.replace("&", ""), POLICY)


@pytest.mark.slow
@given(st.lists(RUNS | MARKUP, max_size=60).map("".join))
@settings(max_examples=LONG, derandomize=False)
def test_any_text_is_clean_after_one_pass(text: str) -> None:
    is_clean(text, PLAIN)
    is_clean(text.replace("&", ""), POLICY)


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("cafe\u200b\u0301", "caf\u00e9"),
        ("cocai\u00ad\u0308ne", "coca\u00efne"),
        ("a" + "\u0323" * 30 + "\u200d" + "\u0323" * 30, "\u1ea1" + "\u0323" * 29),
        ("a" + "\u0344" * 30, "\u00e4" + "\u0301\u0308" * 15),
        ("e<b>\u0301</b>", "\u00e9"),
    ],
)
def test_what_stood_between_a_letter_and_its_mark_is_removed_before_composing(dirty: str, clean: str) -> None:
    assert normalise(dirty, POLICY) == clean


def test_every_mark_that_composing_would_sort_counts_as_a_mark() -> None:
    cleaned = normalise(" ".join("x" + mark * 99 for mark in SORTED), PLAIN)

    assert [hex(ord(word[-1])) for word in cleaned.split(" ") if len(word) > 1 + MAX_MARKS] == []


def test_ordinary_marks_are_kept() -> None:
    assert normalise("x" + "\u0301" * 30, PLAIN) == "x" + "\u0301" * 30


@given(st.lists(MARKUP | RUNS, max_size=30).map("".join))
def test_a_step_that_is_left_out_would_have_changed_nothing(text: str) -> None:
    def settle(part: str) -> str:
        part = cleaning._shorten_runs(INVISIBLE_CHARACTERS.sub("", part))
        return cleaning._shorten_runs(unicodedata.normalize("NFC", part))

    whole = settle(text)
    for _ in range(cleaning.MAX_NESTING):
        whole = settle(strip_markup(whole))
    assume(strip_markup(whole) == whole)

    assert normalise(text, POLICY) == " ".join(settle(html.unescape(whole)).split())
