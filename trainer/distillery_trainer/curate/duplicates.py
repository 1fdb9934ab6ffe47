"""Exact and near duplicates: every pair of texts whose 3-word shingles overlap by half, none missed, in groups."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from distillery_trainer.split import JACCARD, linked, shingles

CHUNK = 512

Shingles = Sequence[frozenset[bytes]]


def near_duplicate_pairs(texts: Sequence[str], jaccard: float = JACCARD) -> list[tuple[int, int]]:
    """All pairs (i, j), i < j, of texts whose shingles have a Jaccard index of `jaccard` or more, in order.

    Exact: two such sets must share one of their rarest shingles (the prefix filter of Chaudhuri, Ganti and Kaushik,
    "A primitive operator for similarity joins in data cleaning", ICDE 2006), and each pair that does is compared.
    """
    sets = [frozenset(shingles(text)) for text in texts]
    return [(i, j) for i, j in _candidates(sets, jaccard) if _jaccard(sets[i], sets[j]) >= jaccard]


def duplicate_groups(ids: Sequence[str], texts: Sequence[str], jaccard: float = JACCARD) -> list[str]:
    """For each text the id of the first member of its group; texts of a pair are in one group (single linkage)."""
    return [ids[first] for first in linked(len(ids), near_duplicate_pairs(texts, jaccard))]


def representatives(groups: Sequence[str], texts: Sequence[str]) -> dict[str, int]:
    """The place of each group's article to keep: its longest text, the first of equals."""
    chosen: dict[str, int] = {}
    for place, group in enumerate(groups):
        if group not in chosen or len(texts[place]) > len(texts[chosen[group]]):
            chosen[group] = place
    return chosen


def _candidates(sets: Shingles, jaccard: float) -> Iterator[tuple[int, int]]:
    """The pairs that share a shingle of both prefixes."""
    counts = Counter(shingle for own in sets for shingle in own)
    numbers = {shingle: number for number, shingle in enumerate(sorted(counts, key=counts.__getitem__))}
    rows, columns = [], []
    for place, own in enumerate(sets):
        order = sorted(numbers[shingle] for shingle in own)
        prefix = order[: len(order) - int(np.ceil(jaccard * len(order) - 1e-9)) + 1]
        rows += [place] * len(prefix)
        columns += prefix
    matrix = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(sets), max(len(numbers), 1)))
    transposed = matrix.T.tocsr()
    for start in range(0, len(sets), CHUNK):
        product = (matrix[start : start + CHUNK] @ transposed).tocoo()
        yield from _above_diagonal(product.row + start, product.col)


def _above_diagonal(rows: NDArray[np.int32], columns: NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    upper = rows < columns
    yield from sorted(zip(rows[upper].tolist(), columns[upper].tolist(), strict=True))


def _jaccard(one: frozenset[bytes], other: frozenset[bytes]) -> float:
    common = len(one & other)
    return common / (len(one) + len(other) - common)
