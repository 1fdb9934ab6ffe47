"""Articles: what is one, and what is refused with which reason."""

from collections.abc import Iterator, Mapping

import pytest

from distillery_runtime.articles.admission import Refused, read_entry
from distillery_runtime.articles.article import MAX_CONTENT_CHARS, Article, ArticleError, id_of, parse_article
from distillery_runtime.scoring.scorer import HybridScorer


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


@pytest.mark.parametrize("blank", ["", " \n\t", "\u00a0\u2003"])
def test_the_one_that_is_filled_is_read_of_text_and_content(blank: str) -> None:
    assert parse_article({"id": "a", "text": blank, "content": "body"}).content == "body"
    assert parse_article({"id": "a", "text": "body", "content": blank}).content == "body"
    assert parse_article({"id": "a", "text": "body", "content": "other"}).content == "body"
    assert parse_article({"id": "a", "text": "body", "content": 7}).content == "body"
    assert parse_article({"id": "a", "text": None, "content": "body"}).content == "body"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"text": " ", "content": ""}, "text and content: both empty"),
        ({"content": ""}, "content: empty"),
        ({"text": "", "content": 3}, "content: must be a string, found int"),
        ({"text": [], "content": "body"}, "text: must be a string, found list"),
    ],
)
def test_a_text_that_is_not_there_is_named_by_its_field(record: dict[str, object], reason: str) -> None:
    with pytest.raises(ArticleError) as caught:
        parse_article({"id": "a", **record})

    assert str(caught.value) == reason


class Odd(str):
    """A string whose methods do what they want."""

    __slots__ = ()

    def strip(self, *_: object) -> str:
        raise RuntimeError

    encode = strip
    __len__ = __str__ = __eq__ = __hash__ = strip


class OddDict(dict[str, object]):
    """A dictionary whose `get` gives something else each time, and then raises."""

    def get(self, key: str, _default: object = None) -> object:
        raise KeyError(key)


class Claims:
    """Claims to be a string."""

    @property
    def __class__(self) -> type:
        return str


class Number(int):
    """An integer that will not be spelt."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __index__ = __str__


class Endless(Mapping[str, object]):
    """A mapping without an end to its depth."""

    def __getitem__(self, key: str) -> object:
        return self[key]

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class NoFields(Article):
    """An article whose fields cannot be read."""

    @property
    def id(self) -> str:
        raise OSError

    def __init__(self) -> None:
        pass


ODD_RECORDS = [
    OddDict(id="a", text="x"),
    Endless(),
    NoFields(),
    {"id": Claims(), "text": "x"},
    {"id": "a", "text": Claims()},
    {"id": "a", "title": Claims(), "text": "x"},
    Claims(),
    object(),
    float("nan"),
    {"id": "a", "text": memoryview(b"x")},
]


def test_records_of_any_kind_are_refused_one_by_one() -> None:
    entries = [read_entry(record) for record in ODD_RECORDS]

    assert all(isinstance(entry, Refused) and entry.reason for entry in entries)


def test_a_string_or_number_of_another_class_is_read_for_what_it_holds() -> None:
    entry = read_entry({"id": Number(7), "title": Odd("T"), "text": Odd("wind")})

    assert isinstance(entry, Article)
    assert [type(value) for value in (entry.id, entry.title, entry.content)] == [str, str, str]
    assert entry == Article("7", "T", "wind")


def test_odd_records_do_not_stop_the_others(scorer: HybridScorer) -> None:
    records = [*ODD_RECORDS, {"id": "1", "text": "solar wind"}]

    scores = scorer.score_batch(records)

    assert [score.status for score in scores] == ["invalid"] * len(ODD_RECORDS) + ["scored"]
    assert [score.status for score in scorer.score_stream(records)] == [score.status for score in scores]
