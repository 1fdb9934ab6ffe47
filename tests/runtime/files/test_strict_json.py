"""Strict JSON: what it refuses, what it gives, and that everything reads through it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillery_runtime.files.strict_json import JsonError, RepeatedKeyError, parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(VALUES)
def test_what_json_carries_comes_back(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"a": 9.5, "a": 2}', "'a'"),
        ('{"labels": {"b": 1, "a": 1, "a": 1}}', "'a'"),
        ('[[{"x": {"\\u0061": 1, "a": 1}}]]', "'a'"),
        ('{"\\u001b[31m": 1, "\\u001b[31m": 2}', r"'\\x1b\[31m'"),
        ('{"": 1, "": 1}', "''"),
    ],
)
def test_a_key_given_twice_is_named(text: str, key: str) -> None:
    with pytest.raises(RepeatedKeyError, match=f"key {key} given twice"):
        parse_json(text)


def test_equal_keys_of_different_objects_are_no_repetition() -> None:
    assert parse_json('[{"a": 1}, {"a": {"a": 2}}]') == [{"a": 1}, {"a": {"a": 2}}]


@pytest.mark.parametrize(
    "text",
    ["", "{", "nul", "NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "[-1e999]", "1" * 5000, "[" * 100_000,
     '{"a":' * 100_000, '"a\x00b"', '"a\nb"', "{'a': 1}", "[1,]", "1 2", "\ufeff1"],
)  # fmt: skip
def test_what_is_no_strict_json_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(JsonError):
        parse_json(text)


@pytest.mark.parametrize("data", [b'"\xff"', '{"a": 1}'.encode("utf-16"), '{"a": 1}'.encode("utf-32")])
def test_only_utf_8_is_read(data: bytes) -> None:
    with pytest.raises(JsonError):
        parse_json(data)
