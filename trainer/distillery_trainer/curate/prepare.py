"""What `trainer prepare` does: one split of labelled articles for good, by group, with finds in every part."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.data.duplicates import near_duplicate_groups
from distillery_trainer.data.labels import LabelledSet, files_digest, read_labels
from distillery_trainer.data.split import SHARES, Assignment, Split, shuffle_key, split_by_group, write_splits
from distillery_trainer.store.files import write_json

HELD_OUT: tuple[Split, ...] = ("test", "calibration", "val")  # in the order in which they need finds
FLOOR = 20


@dataclass(frozen=True, slots=True)
class Prepared:
    """The split of N articles in file order, their overalls, and which parts have fewer finds than the floor."""

    assigned: tuple[Assignment, ...]
    overalls: NDArray[np.float64]
    finds: Mapping[str, int]
    short: tuple[str, ...]


def prepare_files(files: Sequence[Path], spec: FilterSpec, out: Path, floor: int, seed: int) -> Prepared:
    """Writes `splits.jsonl` and `prepared.json` into the folder `out`.

    Raises:
        InputError: a labels file is not usable, or a part would have no article.
    """
    prepared = prepare(read_labels(files, spec), spec, floor, seed)
    write_splits(out / "splits.jsonl", prepared.assigned)
    write_json(out / "prepared.json", _record(prepared, files, spec, floor, seed))
    return prepared


def prepare(labelled: LabelledSet, spec: FilterSpec, floor: int, seed: int) -> Prepared:
    """Splits labelled articles: as `split_by_group`, but with rare finds where they count.

    A part of the held-out ones with fewer than `floor` articles at or above the operating tier gets groups with such
    from training, for as many articles without; training keeps as many for itself.

    Raises:
        InputError: a part has no article.
    """
    ids = [article.id for article in labelled.articles]
    values = overalls(labelled.labels(), spec)
    groups = near_duplicate_groups(ids, labelled.texts)
    split = {a.group: a.split for a in split_by_group(ids, groups, values, seed)}
    empty = [name for name in SHARES if name not in split.values()]
    if empty:
        found = f"{len(ids)} articles in {len(split)} near-duplicate groups"
        raise InputError("--labels", [Problem(f"split {name}", found, "enough for each split") for name in empty])
    found_by = _Finds(groups, values >= spec.operating_overall, split, seed)
    for name in HELD_OUT:
        found_by.raise_to(floor, name)
    counts: dict[str, int] = {name: found_by.count(name) for name in SHARES}
    short = tuple(name for name, count in counts.items() if count < floor)
    assigned = [Assignment(i, found_by.split[group], group) for i, group in zip(ids, groups, strict=True)]
    return Prepared(tuple(assigned), values, counts, short)


class _Finds:
    """Which groups hold articles to be found, and in which part they are; moves groups until a part has enough."""

    def __init__(self, groups: Sequence[str], wanted: NDArray[np.bool_], split: Mapping[str, Split], seed: int) -> None:
        self.split = dict(split)
        self._size: dict[str, int] = defaultdict(int)
        self._finds: dict[str, int] = defaultdict(int)
        for group, is_find in zip(groups, wanted.tolist(), strict=True):
            self._size[group] += 1
            self._finds[group] += is_find
        self._order = sorted(self.split, key=lambda group: shuffle_key(group, seed))

    def count(self, name: str) -> int:
        """How many articles to be found a part has."""
        return sum(self._finds[group] for group, own in self.split.items() if own == name)

    def raise_to(self, floor: int, name: Split) -> None:
        """Moves groups with finds from training into a part, and groups without back, until it has `floor`."""
        spare = self.count("train") - floor
        for group in [g for g in self._order if self.split[g] == "train" and self._finds[g]]:
            if self.count(name) >= floor:
                return
            if self._finds[group] <= spare:
                spare -= self._finds[group]
                self.split[group] = name
                self._give_back(self._size[group], name)

    def _give_back(self, articles: int, name: Split) -> None:
        for group in self._order:
            if self.split[group] == name and not self._finds[group] and self._size[group] <= articles:
                self.split[group] = "train"
                articles -= self._size[group]
            if not articles:
                return


def _record(prepared: Prepared, files: Sequence[Path], spec: FilterSpec, floor: int, seed: int) -> dict[str, object]:
    """The content of `prepared.json`."""
    parts = {
        name: {
            "articles": int(np.sum(places := np.array([a.split == name for a in prepared.assigned]))),
            "groups": len({a.group for a in prepared.assigned if a.split == name}),
            "finds": prepared.finds[name],
            "mean_overall": round(float(prepared.overalls[places].mean()), 4),
        }
        for name in SHARES
    }
    return {
        "schema_version": 1,
        "filter": spec.label,
        "labels": files_digest(files),
        "seed": seed,
        "floor": floor,
        "operating_overall": spec.operating_overall,
        "parts": parts,
        "below_floor": list(prepared.short),
    }
