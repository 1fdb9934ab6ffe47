"""Exact and near duplicates: every pair of texts whose 3-word shingles overlap by half, none missed, in groups.

Splits, guards, audits and pools all use this finder. Case and punctuation do not count. The join is exact: an inverted
index of each set's rarest shingles, sets in order of size (the prefix and size filters of Bayardo, Ma and Srikant,
"Scaling up all pairs similarity search", WWW 2007), and the positional filter of Xiao, Wang, Lin and Yu, "Efficient
similarity joins for near duplicate detection", WWW 2008.
"""

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.errors import InputError, Problem

JACCARD = 0.5
MOST_PAIRS = 1_000_000
SHINGLE = 30  # three words of ten units
WORD_UNITS, IDEOGRAPH_UNITS, UNSPACED_LETTER_UNITS = 10, 6, 3

# Scripts written without spaces: each character is a token. Three words are about five ideographs or kana, and ten
# letters of an alphabet; shorter shingles would make long texts alike that share nothing but their language.
IDEOGRAPHS = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
UNSPACED_LETTERS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf"
UNSPACED = IDEOGRAPHS + UNSPACED_LETTERS

_UNITS = 15  # the bits of a token's number that hold its units
_KEPT_TOKENS, _KEPT_CHARACTERS = 1 << 18, 64
_ONE_UNSPACED, _ONE_IDEOGRAPH = re.compile(f"[{UNSPACED}]"), re.compile(f"[{IDEOGRAPHS}]")

Numbers = NDArray[np.uint64]


def near_duplicate_groups(ids: Sequence[str], texts: Sequence[str], jaccard: float = JACCARD) -> list[str]:
    """For each text the lowest id of its group; texts of a pair are in one group (single linkage).

    The groups and their names are the same whatever the order of the texts.
    """
    join = _Join(texts, jaccard)
    links = Links(len(join.sets))
    for one, other in join.pairs(links):
        links.join(one, other)
    roots = [links.root(number) for number in join.set_of]
    names: dict[int, str] = {}
    for article, root in zip(ids, roots, strict=True):
        names[root] = min(names.get(root, article), article)
    return [names[root] for root in roots]


def near_duplicate_pairs(texts: Sequence[str], jaccard: float = JACCARD) -> list[tuple[int, int]]:
    """All pairs (i, j), i < j, of texts whose shingles have a Jaccard index of `jaccard` or more, in order.

    Raises:
        InputError: there are more than a million.
    """
    join = _Join(texts, jaccard)
    members: list[list[int]] = [[] for _ in join.sets]
    for place, number in enumerate(join.set_of):
        members[number].append(place)
    found: list[tuple[int, int]] = []
    for one, other in _same_or_alike(join, members):
        for i in members[one]:
            found += [(min(i, j), max(i, j)) for j in members[other] if one != other or i < j]
            if len(found) > MOST_PAIRS:
                what = f"more than {MOST_PAIRS:,} pairs among {len(texts):,} texts"
                cure = "fewer (`trainer guard` keeps one article of each group)"
                raise InputError("articles", [Problem("near-duplicates", what, cure)])
    return sorted(found)


def representatives(groups: Sequence[str], texts: Sequence[str]) -> dict[str, int]:
    """The place of each group's article to keep: its longest text, the first of equals."""
    chosen: dict[str, int] = {}
    for place, group in enumerate(groups):
        if group not in chosen or len(texts[place]) > len(texts[chosen[group]]):
            chosen[group] = place
    return chosen


def new_texts(texts: Sequence[str], known: Sequence[str]) -> list[str]:
    """The texts that are no near-duplicates of a known one, nor of one another."""
    taken, groups = _known_groups(texts, known)
    kept = []
    for text, group in zip(texts, groups, strict=True):
        if group not in taken:
            taken.add(group)
            kept.append(text)
    return kept


def unlike(texts: Sequence[str], known: Sequence[str]) -> list[int]:
    """The places of the texts that are no near-duplicates of a known one."""
    taken, groups = _known_groups(texts, known)
    return [place for place, group in enumerate(groups) if group not in taken]


def _known_groups(texts: Sequence[str], known: Sequence[str]) -> tuple[set[str], list[str]]:
    """The groups that hold a known text, and the group of each other one."""
    every = [*known, *texts]
    groups = near_duplicate_groups([str(i) for i in range(len(every))], every)
    return set(groups[: len(known)]), groups[len(known) :]


class Links:
    """Disjoint sets of `count` places, joined by pairs (single linkage)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def root(self, place: int) -> int:
        """The first place of the set that holds this one."""
        parent = self._parent
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    def join(self, one: int, other: int) -> None:
        """Joins the sets of two places."""
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low


def linked(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """For each of `count` places the first one of its set, joined by pairs (single linkage)."""
    links = Links(count)
    for one, other in pairs:
        links.join(one, other)
    return [links.root(place) for place in range(count)]


def shingles(text: str) -> Numbers:
    """The text's different runs of three words as numbers of 64 bits, in order; of a shorter text the whole.

    Two runs have one number with a chance of 2^-64.
    """
    numbers = [_TOKENS[token] for token in tokens(text)]
    if not numbers:  # no letter and no digit: like nothing but itself
        numbers = [_TOKENS["\n" + " ".join(text.split())]]
    row = np.array(numbers, np.uint64)
    total = np.cumsum((row & np.uint64(_UNITS)).astype(np.int64))
    last = np.searchsorted(total, np.concatenate([[0], total[:-1]]) + SHINGLE)  # the token that makes three words full
    starts = np.flatnonzero(last < len(row))
    if not len(starts):
        starts, last = np.zeros(1, np.int64), np.full(1, len(row) - 1)
    ends = last[starts]
    runs = np.zeros(len(starts), np.uint64)
    for step in range(int((ends - starts).max()) + 1):
        own = np.minimum(starts + step, ends)
        runs = np.where(starts + step <= ends, _mixed(runs + row[own]), runs)
    return np.unique(runs)


def tokens(text: str) -> list[str]:
    """The words in lower case, of letters, digits and marks; in scripts without spaces each character."""
    lowered = text.casefold().replace("_", " ")
    return _word().findall(lowered if lowered.isascii() else _ONE_UNSPACED.sub(r" \g<0> ", lowered))


@cache
def _word() -> re.Pattern[str]:
    marks = [chr(code) for code in range(0x300, 0xFFFF) if unicodedata.category(chr(code)).startswith("M")]
    return re.compile(rf"[\w{''.join(marks)}]+")  # above U+FFFF a class is slow, and such marks are rare


class _Tokens(dict[str, int]):
    """A number of 64 bits for each token, the last four its units; keeps short ones, until they are many."""

    def __missing__(self, token: str) -> int:
        digest = hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "big") & ~_UNITS | _units(token)
        if len(token) <= _KEPT_CHARACTERS:
            if len(self) >= _KEPT_TOKENS:
                self.clear()
            self[token] = number
        return number


_TOKENS = _Tokens()


def _units(token: str) -> int:
    if not _ONE_UNSPACED.fullmatch(token):
        return WORD_UNITS
    return IDEOGRAPH_UNITS if _ONE_IDEOGRAPH.fullmatch(token) else UNSPACED_LETTER_UNITS


def _mixed(numbers: Numbers) -> Numbers:
    """Numbers whose bits all depend on all bits (the finaliser of splitmix64)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Numbers = numbers ^ (numbers >> np.uint64(31))
    return mixed


class _Join:
    """The self-join of texts: their different sets of shingles by size, and the set of each text."""

    def __init__(self, texts: Sequence[str], jaccard: float) -> None:
        self._jaccard = jaccard
        numbers: dict[bytes, int] = {}
        found: list[Numbers] = []
        of_texts = []
        for text in texts:
            own = shingles(text)
            number = numbers.setdefault(hashlib.blake2b(own.tobytes(), digest_size=16).digest(), len(found))
            if number == len(found):
                found.append(own)
            of_texts.append(number)
        order = sorted(range(len(found)), key=lambda number: len(found[number]))
        ranks = {number: rank for rank, number in enumerate(order)}
        self.sets = [found[number] for number in order]
        self.set_of = [ranks[number] for number in of_texts]

    def pairs(self, links: Links | None = None) -> Iterator[tuple[int, int]]:
        """Pairs of sets, the larger first: all of them; with `links`, those that are not linked yet.

        The caller links each pair before it asks for the next one. So a large group costs no more than other sets.
        """
        index: dict[int, list[list[_Entry]]] = {}
        for own, (numbers, places) in enumerate(self._rarest()):
            for other in self._matches(own, zip(numbers, places, strict=True), index, links):
                yield own, other
            size = len(self.sets[own])
            indexed = size - _at_least(2 * self._jaccard / (1 + self._jaccard) * size) + 1
            for number, place in zip(numbers, places, strict=True):
                if place < indexed:
                    _add(index.setdefault(number, []), (own, place), links)

    def _matches(
        self, own: int, rarest: Iterable[tuple[int, int]], index: Mapping[int, list[list["_Entry"]]],
        links: Links | None,
    ) -> Iterator[int]:  # fmt: skip
        """The sets of the index that match one which is no smaller; with `links` at most one of each group."""
        size, tried = len(self.sets[own]), set()
        least = _at_least(self._jaccard * size)
        for number, place in rarest:
            for entries in index.get(number, ()):
                for other, there in reversed(entries):
                    theirs = len(self.sets[other])
                    if theirs < least or (links and links.root(own) == links.root(other)):
                        break
                    if other in tried:
                        continue
                    tried.add(other)  # this is their first common shingle
                    needed = _at_least(self._jaccard / (1 + self._jaccard) * (size + theirs))
                    if min(size - place, theirs - there) >= needed and self._match(own, other):
                        yield other

    def _match(self, one: int, other: int) -> bool:
        a, b = self.sets[one], self.sets[other]
        common = len(np.intersect1d(a, b, assume_unique=True))
        return bool(common / (len(a) + len(b) - common) >= self._jaccard)

    def _rarest(self) -> Iterator[tuple[list[int], list[int]]]:
        """Of each set the shingles that a match may share first, and their places when sorted from rare to common."""
        shift = np.uint64(64 - max(8, sum(map(len, self.sets)).bit_length()))
        common = _counted(self.sets, shift)
        prefixes = []
        for own in self.sets:
            order = np.lexsort((own, common[own >> shift]))
            prefixes.append(own[order[: len(own) - _at_least(self._jaccard * len(own)) + 1]])
        shared = _repeated(prefixes)
        for prefix in prefixes:
            places = np.flatnonzero(shared[np.searchsorted(shared, prefix)] == prefix)
            yield prefix[places].tolist(), places.tolist()


_Entry = tuple[int, int]  # a set, and a shingle's place in it


def _add(groups: list[list[_Entry]], entry: _Entry, links: Links | None) -> None:
    """Adds an entry to the list of its group, lists of one group made one; without `links` there is one list."""
    own: list[_Entry] = []
    others = []
    for entries in groups:
        same = links is None or links.root(entries[0][0]) == links.root(entry[0])
        if same:
            own = sorted([*own, *entries]) if own else entries
        else:
            others.append(entries)
    own.append(entry)
    groups[:] = [*others, own]


def _counted(sets: Iterable[Numbers], shift: np.uint64) -> NDArray[np.uint32]:
    """About how many sets have a shingle, by the first bits of its number: never fewer."""
    counts = np.zeros(1 << (64 - int(shift)), np.uint32)
    for own in sets:
        counts[own >> shift] += 1
    return counts


def _repeated(sets: Sequence[Numbers]) -> Numbers:
    """The shingles of more than one set, in order, and a last one that is above all."""
    every = np.sort(np.concatenate([*sets, np.zeros(0, np.uint64)]))
    return np.append(np.unique(every[1:][every[1:] == every[:-1]]), np.uint64(2**64 - 1))


def _at_least(share: float) -> int:
    """The least whole number that is no less, but for rounding."""
    return math.ceil(share - 1e-9)


def _same_or_alike(join: _Join, members: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    yield from ((number, number) for number, own in enumerate(members) if len(own) > 1)
    yield from join.pairs()
