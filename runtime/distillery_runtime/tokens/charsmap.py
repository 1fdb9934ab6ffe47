"""Checks the compiled table of a `Precompiled` normaliser: a double-array trie and the texts that its leaves point to.

The table is what sentencepiece writes: the trie's size in bytes, its units of four bytes each, and texts that end with
a zero byte. `tokenizers` follows its offsets unchecked and takes memory for the size it states.
"""

import base64

import numpy as np
from numpy.typing import NDArray

MAX_TRIE_BYTES = 4 << 20  # that of XLM-R has a quarter of a megabyte

_BYTES = np.arange(1, 256, dtype=np.uint32)
_LABEL = np.uint32(0x800000FF)
_VALUE = np.uint32(0x7FFFFFFF)
_LEAF = np.uint32(1 << 8)
_AT_ONCE = 4096  # units whose children are looked at together

Units = NDArray[np.uint32]


def longest_replacement(text: str) -> int:
    """The length of the longest text in a table, in characters; 0 for an empty table.

    Args:
        text: the table in base64, as a tokenizer.json has it.

    Raises:
        ValueError: a size or an offset of the table points outside of it.
    """
    data = base64.b64decode(text, validate=True)
    if not data:
        return 0
    size = int.from_bytes(data[:4], "little")
    if size % 4 or not 0 < size <= min(len(data) - 4, MAX_TRIE_BYTES):
        raise ValueError(f"charsmap: a trie of {size} bytes in a table of {len(data)}")
    texts = data[4 + size :]
    _check_trie(np.frombuffer(data[4 : 4 + size], dtype="<u4"), np.frombuffer(texts, dtype=np.uint8))
    return max(map(len, texts.decode("utf-8").split("\0")))


def _check_trie(units: Units, texts: NDArray[np.uint8]) -> None:
    """Visits every unit that a text can lead to."""
    seen = np.zeros(len(units), dtype=bool)
    waiting = [_offset(units[:1])]
    while waiting:
        bases = waiting.pop()
        if len(bases) > _AT_ONCE:
            waiting.append(bases[_AT_ONCE:])
            bases = bases[:_AT_ONCE]
        found = _children(units, bases)
        found = found[~seen[found]]
        seen[found] = True
        if not len(found):
            continue
        bases = found ^ _offset(units[found])
        _expect_inside(units, bases)
        leaves = units[bases[(units[found] & _LEAF) != 0]] & _VALUE
        if np.any(leaves >= len(texts)) or np.any((texts[leaves] & 0xC0) == 0x80):
            raise ValueError("charsmap: a leaf that points to no text")
        waiting.append(bases)


def _children(units: Units, bases: Units) -> Units:
    """The places of the units that one more byte of a text can lead to from these."""
    _expect_inside(units, bases)
    places = bases[:, None] ^ _BYTES
    return np.unique(places[(units[places] & _LABEL) == _BYTES])


def _expect_inside(units: Units, bases: Units) -> None:
    """Sees that a base and all that a byte can make of it are places in the trie."""
    if int(bases.max()) | 0xFF >= len(units):
        raise ValueError("charsmap: an offset that leaves the trie")


def _offset(units: Units) -> Units:
    """How far a unit's children are from it, in the form of darts-clone."""
    return (units >> np.uint32(10)) << ((units & np.uint32(1 << 9)) >> np.uint32(6))
