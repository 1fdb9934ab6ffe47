"""The text path: cleaning and joining."""

import html
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillery_runtime import text as cleaning
from distillery_runtime.article import Article
from distillery_runtime.spec import TextPolicy
from distillery_runtime.text import compose, normalise

PLAIN = TextPolicy(strip_markup=False)
POLICY = TextPolicy()


def test_title_and_content_are_joined_by_the_policys_separator() -> None:
    text = compose(Article("1", "Title", "Body"), TextPolicy(title_separator=" | "))

    assert text.joined == "Title | Body"


def test_an_empty_title_adds_no_separator() -> None:
    assert compose(Article("1", " ", "Body"), POLICY).joined == "Body"


def test_markup_scripts_and_entities_are_removed_when_asked() -> None:
    dirty = "<p class='x'>Wind &amp; <b>sun</b></p><script>evil('<b>')</script><!-- note -->!"

    assert normalise(dirty, POLICY) == "Wind & sun !"
    assert "<b>" in normalise(dirty, PLAIN)


def test_comparisons_are_no_markup() -> None:
    assert normalise("1 < 2 and 3 > 2", POLICY) == "1 < 2 and 3 > 2"


def test_invisible_characters_vanish_and_space_is_one_space() -> None:
    assert normalise("a\u200bb\u00ad\ufeff \u00a0\n\tc\u202e", POLICY) == "ab c"


def test_letters_are_composed() -> None:
    assert normalise("e\u0301", POLICY) == "\u00e9"


@given(st.text(st.characters(codec="utf-8"), max_size=200))
@settings(max_examples=200)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once = normalise(text, PLAIN)

    assert normalise(once, PLAIN) == once


@given(st.text(st.characters(codec="utf-8"), max_size=200))
@settings(max_examples=200)
def test_a_cleaned_text_has_no_outer_or_double_space(text: str) -> None:
    cleaned = normalise(text, POLICY)

    assert cleaned == " ".join(cleaned.split())


@pytest.mark.parametrize(
    "hostile", ["a" + "\u0301\u0323" * 250_000, "<!--<b>" * 70_000, "<" * 500_000, "<script>" * 60_000]
)
def test_hostile_texts_are_cleaned_in_linear_time(hostile: str) -> None:
    start = time.perf_counter()

    normalise(hostile, POLICY)

    assert time.perf_counter() - start < 20  # a quadratic pass would need hours


def test_ordinary_marks_are_kept() -> None:
    assert normalise("x" + "\u0301" * 30, PLAIN) == "x" + "\u0301" * 30


PIECES = st.sampled_from(
    [
        *(
            "a",
            "e\u0301",
            "\u0301" * 40,
            " ",
            "\n",
            "\t",
            "\r",
            "\u00a0",
            "\u0085",
            "\x0b",
            "\x1c",
            "\x00",
            "\x7f",
            "\u200b",
        ),
        *(
            "\u00ad",
            "\ufeff",
            "\u2028",
            "\u202e",
            "<b>",
            "</b>",
            "<",
            ">",
            "<!--",
            "-->",
            "<script>",
            "</script>",
            "&amp;",
        ),
        *("&lt;i&gt;", "&#8203;", "&", "\u65e5", "\U0001f600", "\ufffa", "fi"),
    ]
)


@given(st.lists(PIECES | st.characters(exclude_categories=["Cs"]), max_size=30).map("".join))
@settings(max_examples=1500)
def test_a_step_that_is_left_out_would_have_changed_nothing(text: str) -> None:
    whole = text
    for pattern in (cleaning._HIDDEN_ELEMENT, cleaning._COMMENT, cleaning._TAG):
        whole = pattern.sub(" ", whole)
    whole = unicodedata.normalize("NFC", cleaning._MARKS.sub(r"\1", html.unescape(whole)))
    whole = " ".join(cleaning._INVISIBLE.sub("", whole).split())

    assert normalise(text, POLICY) == whole
