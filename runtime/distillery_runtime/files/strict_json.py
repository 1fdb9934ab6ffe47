"""Strict JSON: UTF-8 without a key given twice, NaN, a number out of range, or nesting without end."""

import json
from collections import Counter

from distillery_runtime.errors import DistilleryError

MAX_SHOWN_KEY = 80


class JsonError(DistilleryError, ValueError):
    """A text is not strict JSON; the message says why. `position`: where, in characters, if one place is at fault."""

    def __init__(self, reason: str, position: int | None = None) -> None:
        super().__init__(reason)
        self.position = position


class RepeatedKeyError(JsonError):
    """An object has a key twice, so that nobody can say which value is meant."""


def parse_json(data: bytes | str) -> object:
    """Parses one JSON value and refuses what `json.loads` lets through.

    Raises:
        RepeatedKeyError: an object has a key twice (`json.loads` keeps the last value and drops the others).
        JsonError: not UTF-8 or not JSON; a number is NaN, infinite, out of a float's range, or an integer of thousands
            of digits; values are nested too deep for the parser.
    """
    try:
        return _decode(data if isinstance(data, str) else data.decode("utf-8"))
    except JsonError:
        raise
    except json.JSONDecodeError as error:
        raise JsonError(str(error), error.pos) from error
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise JsonError("nested too deep") from error
    except ValueError as error:  # of int(), for the decoder's own are above
        raise JsonError("an integer of thousands of digits") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise RepeatedKeyError(f"key {twice[:MAX_SHOWN_KEY]!r} given twice")
    return found


def _constant(name: str) -> object:
    raise JsonError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise JsonError(f"{digits[:MAX_SHOWN_KEY]} is out of a number's range")
    return value


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite).decode
