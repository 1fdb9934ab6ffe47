"""Checks a tokenizer.json before the library `tokenizers` parses it: known parts, bounded growth, harmless patterns.

`tokenizers` is written for files that one trusts. A charsmap with a wrong length ends the process, replacements that
follow one another multiply a text, and a pattern that backtracks never ends. Nothing of the kind gets through; the
tokenizers of models in use do (BERT, XLM-R, Gemma, Llama, GPT-2 and their like).
"""

import base64
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import re2
from numpy.typing import NDArray

from distillery_runtime.files.strict_json import parse_json
from distillery_runtime.spec.patterns import quiet_options

MAX_STEPS = 64  # of a normaliser or pre-tokenizer, nested ones included
MAX_GROWTH = 64.0  # how many times as long a normaliser may make a text; NFKC alone: 18 times, for one character
MAX_PIECE_CHARS = 1024
MAX_WORD_CHARS = 1000  # of WordPiece, whose cost grows with the square of a word's length
MAX_PATTERN_CHARS = 2000
MAX_ALTERNATIVE_CHARS = 400

MODELS = {"BPE", "Unigram", "WordLevel", "WordPiece"}
# The parts of a tokenizer.json, and which types each may have. A Sequence holds others of its kind under the key named.
# fmt: off
PARTS: Mapping[str, tuple[str, frozenset[str]]] = {
    "normalizer": ("normalizers", frozenset({
        "BertNormalizer", "ByteLevel", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend",
        "Replace", "Strip", "StripAccents",
    })),
    "pre_tokenizer": ("pretokenizers", frozenset({
        "BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "Metaspace", "Punctuation", "Split",
        "UnicodeScripts", "Whitespace", "WhitespaceSplit",
    })),
    "post_processor": ("processors", frozenset({
        "BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing",
    })),
    "decoder": ("decoders", frozenset({
        "BPEDecoder", "ByteFallback", "ByteLevel", "CTC", "Fuse", "Metaspace", "Replace", "Strip", "WordPiece",
    })),
}
# fmt: on
_KEYS = {"version", "truncation", "padding", "added_tokens", "model", *PARTS}

# A pattern is harmless if each of its alternatives is a short row of characters and classes whose first repetition
# without an end is followed by nothing that could fail, or is one of those below, which tokenizers in use have.
_ESCAPE = r"\\(?:[sSdDwWrntvf]|[pP]\{\^?[A-Za-z_]+\}|x\{[0-9A-Fa-f]+\}|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|[^A-Za-z0-9])"
_ATOM = rf"(?:{_ESCAPE}|\[\^?(?:{_ESCAPE}|[^\[\]\\])+\]|[^\\\[\](){{}}|?*+^$])"
_WORDS = r"\(\?i?:[^()\\*+?{}\[\]]+\)"
_FEW = rf"{_ATOM}(?:\?\+?|\{{[0-9](?:,[0-9])?\}})"
_ENDLESS = rf"{_ATOM}(?:[*+]\+?|\{{[0-9],\}})(?:{_ATOM}[*?]\+?)*"
_HARMLESS = re2.compile(rf"\^?{_ATOM}*(?:{_WORDS})?{_ATOM}*(?:{_FEW}{_ATOM}*){{0,3}}(?:{_ENDLESS})?(?:{_WORDS}\?)?")
_KNOWN = {
    r"\s*[\r\n]+",
    r"\s*[\r\n]",
    r"\s*[\r\n/]+",
    r"\s+(?!\S)",
    r"\s+$",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    r"(?i:[sdmt]|ll|ve|re)",
    r"'(?i:[sdmt]|ll|ve|re)",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
}

Part = Mapping[str, Any]  # Any: unchecked JSON

_sound: set[str] = set()  # digests of files that passed: bundles often hold one tokenizer several times

# What sentencepiece writes as the table of a `Precompiled` normaliser (a charsmap): the size in bytes of a double-array
# trie, its units of four bytes each, and the texts that its leaves point to, each with a zero byte at its end.
# `tokenizers` follows its offsets unchecked and takes memory for the size it states.
MAX_TRIE_BYTES = 4 << 20  # that of XLM-R has a quarter of a megabyte

_BYTES = np.arange(1, 256, dtype=np.uint32)
_LABEL = np.uint32(0x800000FF)
_VALUE = np.uint32(0x7FFFFFFF)
_LEAF = np.uint32(1 << 8)
_AT_ONCE = 4096  # units whose children are looked at together

Units = NDArray[np.uint32]


def check_tokenizer(data: bytes) -> None:
    """Reads a tokenizer.json.

    Raises:
        ValueError: it is no strict JSON, or holds something that is not known to be harmless.
    """
    digest = hashlib.sha256(data).hexdigest()
    if digest in _sound:
        return
    content = parse_json(data)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise ValueError("no model, expected that of a tokenizer")
    _expect_known("key", content, _KEYS)
    _check_model(content["model"])
    for token in content.get("added_tokens") or ():
        _check_pieces([token["content"]])
    for name in PARTS:
        steps = list(_steps(name, content.get(name)))
        if len(steps) > MAX_STEPS:
            raise ValueError(f"{name}: more than {MAX_STEPS} steps")
        growth = 1.0
        for step in steps:
            growth *= _growth(name, step)
        if growth > MAX_GROWTH:
            raise ValueError(f"{name}: may make a text {growth:,.0f} times as long, expected at most {MAX_GROWTH:g}")
    _sound.add(digest)


def _expect_known(what: str, found: Iterable[object], known: Collection[object]) -> None:
    unknown = [item for item in found if item not in known]
    if unknown:
        raise ValueError(f"{what} {unknown[0]!r}, expected one of {', '.join(sorted(map(str, known)))}")


def _check_model(model: Part) -> None:
    if "type" in model:  # early files leave it out
        _expect_known("model", [model["type"]], MODELS)
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, list):  # of a Unigram: pairs of piece and score
        _check_pieces(entry[0] for entry in vocabulary)
    elif isinstance(vocabulary, dict):
        _check_pieces(vocabulary)
    else:
        raise ValueError("a model without a vocabulary")
    if not model.get("max_input_chars_per_word", 0) <= MAX_WORD_CHARS:
        raise ValueError(
            f"max_input_chars_per_word {model['max_input_chars_per_word']}, expected at most {MAX_WORD_CHARS}"
        )


def _check_pieces(pieces: Iterable[str]) -> None:
    longest = max(map(len, pieces), default=0)
    if longest > MAX_PIECE_CHARS:
        raise ValueError(f"a piece of {longest:,} characters, expected at most {MAX_PIECE_CHARS:,}")


def _steps(name: str, part: Part | None) -> Iterator[Part]:
    """The steps of a part, those of its sequences one by one; each of a known type."""
    if part is None:
        return
    inner, types = PARTS[name]
    if part.get("type") == "Sequence":
        for item in part[inner]:
            yield from _steps(name, item)
        return
    _expect_known(name, [part.get("type")], types)
    yield part


def _growth(name: str, step: Part) -> float:
    """How many times as long a step may make a text, in characters."""
    kind = step["type"]
    if kind == "Precompiled":
        return _longest_replacement(step["precompiled_charsmap"])
    if kind == "ByteLevel" and name in ("normalizer", "pre_tokenizer"):
        return 4.0  # a character of four bytes becomes four characters
    if kind in ("Replace", "Split"):
        shortest = _shortest_match(name, step["pattern"])
        if kind == "Replace":
            return max(1.0, len(step["content"]) / shortest) if shortest else 1.0 + len(step["content"])
    if kind == "Prepend":
        _check_pieces([step["prepend"]])
    return 1.0


def _shortest_match(name: str, pattern: Mapping[str, str]) -> int:
    """The length of the shortest text that a pattern finds, as far as that is known: 0 or more."""
    ((kind, text),) = pattern.items()
    if not text or len(text) > MAX_PATTERN_CHARS:
        raise ValueError(f"{name}: a pattern of {len(text)} characters, expected 1 to {MAX_PATTERN_CHARS:,}")
    if kind == "String":
        return len(text)
    for alternative in _alternatives(text.replace("\r", r"\r").replace("\n", r"\n")):
        if alternative not in _KNOWN and not _is_harmless(alternative):
            raise ValueError(f"{name}: the pattern {alternative[:80]!r} is not known to end in linear time")
    return 1 if _finds_something(text) else 0


def _is_harmless(alternative: str) -> bool:
    short = len(alternative) <= MAX_ALTERNATIVE_CHARS
    return short and "&&" not in alternative and _HARMLESS.fullmatch(alternative) is not None


def _finds_something(pattern: str) -> bool:
    """Whether a pattern never finds the empty text; of one that RE2 does not know that is not known."""
    try:
        return re2.compile(pattern, quiet_options()).fullmatch("") is None
    except re2.error:
        return False


def _alternatives(pattern: str) -> Iterator[str]:
    """The alternatives of a pattern at its top level."""
    depth, inside, begin, at = 0, False, 0, 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 1
        elif inside:
            inside = character != "]"
        elif character == "[":
            inside = True
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "|" and not depth:
            yield pattern[begin:at]
            begin = at + 1
        at += 1
    yield pattern[begin:]


def _longest_replacement(text: str) -> int:
    """The length of the longest text in a charsmap, in characters; 0 for an empty table.

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
