"""Reading JSON lines from files nobody has checked: every line gives one record or one reason, memory stays bounded."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

MAX_LINE_BYTES = 16 << 20


class Lines(Protocol):
    """What lines are read from: a binary file, for example."""

    def readline(self, limit: int, /) -> bytes:
        """The next line, at most `limit` bytes of it; empty at the end."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that holds no JSON object; `reason` says where and why."""

    reason: str


def read_jsonl(stream: Lines) -> Iterator[Mapping[str, object] | BadLine]:
    """Gives each line's object, or a `BadLine` in its place. Blank lines are passed over.

    A line above 16 MiB is skipped without being held in memory. `NaN` and `Infinity`, which JSON does not have, are
    refused.
    """
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE_BYTES)
            yield BadLine(f"line {number}: longer than {MAX_LINE_BYTES} bytes")
        elif line.strip(b" \t\r\n"):
            yield _parse(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, number)


def _parse(line: bytes, number: int) -> Mapping[str, object] | BadLine:
    try:
        record = json.loads(line.decode("utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        return BadLine(f"line {number}: not UTF-8 at byte {error.start}")
    except (ValueError, RecursionError) as error:
        return BadLine(f"line {number}: not JSON ({error})")
    if not isinstance(record, dict):
        return BadLine(f"line {number}: must be a JSON object, found {type(record).__name__}")
    return record


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not a JSON number")
