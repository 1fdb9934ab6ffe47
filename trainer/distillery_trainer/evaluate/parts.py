"""The parts of the test articles that are reported by themselves: the config's slices, text length, cut or whole."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.model import Slice

TOTAL = "total"
SHORT, LONG = 300, 1500  # characters
MIN_PART = 10

Parts = dict[str, list[int]]


def all_parts(
    slices: Sequence[Slice],
    fields: Sequence[Mapping[str, str]] | None,
    characters: Sequence[int],
    truncated: Sequence[bool],
) -> Parts:
    """The places of each part's articles, in file order: the total, and every other part with at least 10 of them.

    Names with a colon are those of parts that every filter has; a slice's name has none.

    Args:
        slices: the config's.
        fields: what they read of each article, or None where it is not known: the slices are then left out.
        characters: how long each text is.
        truncated: whether the student's window cut it.
    """
    known = fields or ()
    found = {s.name: [i for i, own in enumerate(known) if in_slice(s, own)] for s in slices}
    found |= _by_length(np.asarray(characters)) | _by_window(np.asarray(truncated, dtype=bool))
    return {TOTAL: list(range(len(characters)))} | {n: places for n, places in found.items() if len(places) >= MIN_PART}


def in_slice(part: Slice, fields: Mapping[str, str]) -> bool:
    """Whether an article with these fields belongs to a slice."""
    value = fields[part.field]
    return part.includes in value and (part.excludes is None or part.excludes not in value)


def _by_length(characters: NDArray[np.int64]) -> Parts:
    short, long = characters < SHORT, characters > LONG
    return {
        f"length:under_{SHORT}": _places(short),
        f"length:{SHORT}_to_{LONG}": _places(~short & ~long),
        f"length:over_{LONG}": _places(long),
    }


def _by_window(truncated: NDArray[np.bool_]) -> Parts:
    return {"window:whole": _places(~truncated), "window:truncated": _places(truncated)}


def _places(chosen: NDArray[np.bool_]) -> list[int]:
    return [int(place) for place in np.flatnonzero(chosen)]
