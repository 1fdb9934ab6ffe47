"""The oracle's reply, read strictly: exactly the schema's keys, booleans and half points, and no repair of any kind.

What servers and models are known to put around a whole reply is taken off first: white space and a byte order mark,
thoughts before a single `</think>`, one fence of Markdown around all of it. Any other text beside the object makes it
no reply.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from distillery_runtime.errors import DistilleryError
from distillery_runtime.files.strict_json import JsonError, RepeatedKeyError, parse_json
from distillery_runtime.spec.model import FilterSpec

MAX_SCORE = 10.0
MAX_SHOWN = 200
_THOUGHTS = re.compile(r"(?:<think>)?(?:(?!</?think>).)*</think>", re.DOTALL)
_FENCE = re.compile(r"```(?:json)?(.*)```", re.DOTALL | re.IGNORECASE)


class ReplyError(DistilleryError):
    """A raw reply is not exactly of the schema; `reason` says where and why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """What an oracle said: scores in spec.dimensions order, before any cap, and the flags that it raised."""

    scores: tuple[float, ...]
    flags: frozenset[str]


def parse_reply(raw: str, spec: FilterSpec) -> ParsedReply:
    """Reads a raw reply.

    Raises:
        ReplyError: it is not strict JSON, or not exactly of the schema.
    """
    bare = unwrapped(raw)
    if not bare:
        raise ReplyError("an empty reply")
    try:
        reply = parse_json(bare)
    except JsonError as error:
        raise ReplyError(str(error) if isinstance(error, RepeatedKeyError) else f"not JSON: {error}") from error
    if not isinstance(reply, dict):
        raise ReplyError(f"{type(reply).__name__}, expected an object")
    names = (*spec.flag_names, *spec.dimension_names)
    missing = [name for name in names if name not in reply]
    unknown = [str(name) for name in reply if name not in names]
    if missing or unknown:
        raise ReplyError(f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown)[:200] or 'none'}")
    flags = frozenset(name for name in spec.flag_names if _is_raised(name, reply[name]))
    return ParsedReply(tuple(_score(name, reply[name]) for name in spec.dimension_names), flags)


def unwrapped(raw: str) -> str:
    """A raw reply without what is known to stand around a whole one."""
    bare = raw.strip().removeprefix("\ufeff").strip()
    if thoughts := _THOUGHTS.match(bare):
        bare = bare[thoughts.end() :].strip()
    fenced = _FENCE.fullmatch(bare)
    return fenced[1].strip() if fenced else bare


def applied(parsed: ParsedReply, spec: FilterSpec) -> tuple[float, ...]:
    """The scores after the caps of the flags that were raised."""
    caps = lowest_caps(parsed.flags, spec)
    return tuple(min(score, caps[name]) for name, score in zip(spec.dimension_names, parsed.scores, strict=True))


def lowest_caps(flags: Iterable[str], spec: FilterSpec) -> dict[str, float]:
    """The highest score that each dimension may have under some flags."""
    raised = [flag.caps for flag in spec.flags if flag.name in set(flags)]
    return {
        name: min((caps.get(name, MAX_SCORE) for caps in raised), default=MAX_SCORE) for name in spec.dimension_names
    }


def _is_raised(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ReplyError(f"{name}: {_shown(value)}, expected true or false")
    return value


def _score(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10 or value * 2 % 1:
        raise ReplyError(f"{name}: {_shown(value)}, expected a half point from 0 to 10")
    return float(value) + 0.0  # of minus zero, zero


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
