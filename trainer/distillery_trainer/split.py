"""Splitting by near-duplicate group: the same news in other words never stands on both sides of a split."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "val", "calibration", "test"]

SHARES: dict[Split, float] = {"train": 0.60, "val": 0.15, "calibration": 0.10, "test": 0.15}
BANDS = 4
SPLIT_VERSION = 2  # of groups and split together; 1: near-duplicates by MinHash


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where one article went: `group` is the lowest id of its near-duplicate cluster."""

    id: str
    split: Split
    group: str


def split_by_group(
    ids: Sequence[str], groups: Sequence[str], overalls: NDArray[np.floating], seed: int
) -> list[Assignment]:
    """Gives every article a split, whole groups at a time, each split with about the same spread of overalls.

    Groups are taken band by band (quarters of the groups by highest overall), in an order that depends on the seed
    and the group's id alone, and each goes to the split that lacks most of its share so far.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    top = {group: max(float(overalls[i]) for i in places) for group, places in members.items()}
    ordered = sorted(members, key=lambda group: (-top[group], group))
    size = -(-len(ordered) // BANDS)
    chosen: dict[str, Split] = {}
    counts: dict[Split, int] = dict.fromkeys(SHARES, 0)
    for start in range(0, len(ordered), size):
        band = sorted(ordered[start : start + size], key=lambda group: shuffle_key(group, seed))
        for group in band:
            total = sum(counts.values()) + len(members[group])
            name = max(SHARES, key=lambda s: (SHARES[s] * total - counts[s], SHARES[s]))
            chosen[group] = name
            counts[name] += len(members[group])
    return [Assignment(article, chosen[group], group) for article, group in zip(ids, groups, strict=True)]


def limit_articles(ids: Sequence[str], limit: int, seed: int) -> list[int]:
    """The places of `limit` articles, chosen by seed and id alone, in file order."""
    order = sorted(range(len(ids)), key=lambda i: shuffle_key(ids[i], seed))
    return sorted(order[:limit])


def shuffle_key(name: str, seed: int) -> str:
    """What to sort by for an order that depends on the seed and the names alone."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
