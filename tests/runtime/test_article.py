"""Articles: what is one, and what is refused with which reason."""

import pytest

from distillery_runtime.article import MAX_CONTENT_CHARS, Article, ArticleError, id_of, parse_article


def test_an_article_is_read_from_text_or_content() -> None:
    by_text = parse_article({"id": "a", "title": "T", "text": "body"})
    by_content = parse_article({"id": "a", "title": "T", "content": "body"})

    assert by_text == by_content == Article("a", "T", "body")


def test_a_missing_title_is_empty_and_an_integer_id_is_a_string() -> None:
    assert parse_article({"id": 7, "text": "body"}) == Article("7", "", "body")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (None, "a record must be an object, found NoneType"),
        ([1], "a record must be an object, found list"),
        ({"text": "x"}, "id: missing"),
        ({"id": True, "text": "x"}, "id: must be a string, found bool"),
        ({"id": float("nan"), "text": "x"}, "id: must be a string, found float"),
        ({"id": "", "text": "x"}, "id: empty"),
        ({"id": 10**5000, "text": "x"}, "id: an integer of more than 1000 digits"),
        ({"id": "a"}, "text: missing"),
        ({"id": "a", "text": None, "content": None}, "text: missing"),
        ({"id": "a", "text": " \n\t"}, "text: empty"),
        ({"id": "a", "text": b"bytes"}, "text: must be a string, found bytes"),
        ({"id": "a", "text": "x", "title": 3.5}, "title: must be a string, found float"),
        ({"id": "a", "text": "broken \ud800 half"}, "text: lone surrogate at character 7, not valid Unicode"),
        ({"id": "\udfff", "text": "x"}, "id: lone surrogate at character 0, not valid Unicode"),
        ({"id": "a", "text": "x" * (MAX_CONTENT_CHARS + 1)}, "text: 1000001 characters, at most 1000000"),
    ],
)
def test_a_record_that_is_no_article_is_refused_with_its_reason(record: object, reason: str) -> None:
    with pytest.raises(ArticleError) as caught:
        parse_article(record)

    assert str(caught.value) == reason


@pytest.mark.parametrize(("record", "expected"), [({"id": "a"}, "a"), ({"id": 3}, "3"), ({}, None), (None, None)])
def test_the_id_of_a_bad_record_is_given_where_there_is_one(record: object, expected: str | None) -> None:
    assert id_of(record) == expected


def test_an_id_of_thousands_of_digits_is_no_id() -> None:
    assert id_of({"id": 10**9000}) is None
