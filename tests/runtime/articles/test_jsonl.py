"""Reading lines nobody has checked."""

import io

import pytest

from distillery_runtime.articles.jsonl import MAX_LINE_BYTES, BadLine, read_jsonl


def read(data: bytes) -> list[object]:
    return list(read_jsonl(io.BytesIO(data)))


def test_objects_come_out_in_order_and_blank_lines_are_passed_over() -> None:
    assert read(b'{"a": 1}\n\n  \r\n{"a": 2}') == [{"a": 1}, {"a": 2}]


def test_a_byte_order_mark_is_no_content() -> None:
    assert read(b'\xef\xbb\xbf{"a": 1}\n') == [{"a": 1}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "line 2: not JSON"),
        (b'{"a": NaN}', "line 2: not JSON (NaN is not a JSON number)"),
        (b'{"a": -Infinity}', "line 2: not JSON (-Infinity"),
        (b'{"a": "\xff"}', "line 2: not UTF-8 at byte 7"),
        (b"[1, 2]", "line 2: must be a JSON object, found list"),
        (b'"text"', "line 2: must be a JSON object, found str"),
        (b"[" * 100_000, "line 2: not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "line 2: not JSON"),
    ],
)
def test_a_bad_line_gives_its_number_and_reason_and_the_next_is_read(line: bytes, reason: str) -> None:
    first, bad, last = read(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')

    assert isinstance(bad, BadLine)
    assert bad.reason.startswith(reason)
    assert (first, last) == ({"a": 1}, {"a": 2})


def test_a_line_above_the_limit_is_skipped_without_being_held() -> None:
    long = b'{"id": "x", "text": "' + b"y" * (2 * MAX_LINE_BYTES) + b'"}'

    found = read(long + b'\n{"a": 2}\n')

    assert found == [BadLine(f"line 1: longer than {MAX_LINE_BYTES} bytes"), {"a": 2}]
