"""The tokens that a reply used, as its provider counted them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call: `cached_tokens` are part of the input, `thinking_tokens` part of the output."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    thinking_tokens: int = 0


def count(record: Mapping[str, object], *path: str) -> int | None:
    """A count at a path of nested objects, or None where there is no whole number of at least 0."""
    value: object = record
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return value
