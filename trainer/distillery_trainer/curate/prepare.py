"""What `trainer prepare` does: one split of labelled articles for good, by group, with finds in every part."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.articles.jsonl import BadLine, read_again
from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.curate.duplicates import near_duplicate_groups
from distillery_trainer.files import write_json, write_jsonl
from distillery_trainer.labels import LabelledSet, files_digest, read_labels
from distillery_trainer.split import SHARES, Assignment, Split, shuffle_key, split_by_group

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
    write_jsonl(out / "splits.jsonl", ({"id": a.id, "split": a.split, "group": a.group} for a in prepared.assigned))
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


def read_splits(path: Path, ids: Sequence[str], whole: bool = True) -> list[Assignment]:
    """A split that `trainer prepare` wrote, for these articles in this order.

    Raises:
        InputError: it is not readable, lacks an article, or (if it must be `whole`) lacks a part or divides a group.
    """
    known: dict[str, Assignment] = {}
    unread = []
    for number, row in enumerate(read_again(path), start=1):
        found = row.reason if isinstance(row, BadLine) else _assignment(row)
        if isinstance(found, str) or found.id in known:
            what = found if isinstance(found, str) else f"id {found.id!r} given twice"
            unread.append(Problem(f"{path}: row {number}", what, "a row as `trainer prepare` writes it"))
        else:
            known[found.id] = found
    if unread:
        raise InputError("--splits", unread[:10])
    own = [known[i] for i in ids if i in known]
    problems = [Problem(f"{path}: {i}", "missing", "every labelled article") for i in ids if i not in known][:10]
    problems += [Problem(f"{path}: {a.id}", repr(a.split), ", ".join(SHARES)) for a in own if a.split not in SHARES]
    faults = [Problem(f"{path}: {n}", "no article", "at least 1") for n in SHARES if all(a.split != n for a in own)]
    faults += [Problem(f"{path}: group {g}", "in several splits", "in one") for g in sorted(divided_groups(own))]
    if problems or (whole and faults):
        raise InputError("--splits", [*problems, *(faults if whole else ())])
    return own


def _assignment(row: Mapping[str, object]) -> Assignment | str:
    """The row's content, or what is wrong with it."""
    values = [row.get(name) for name in ("id", "split", "group")]
    article, split, group = values
    if not all(isinstance(value, str) for value in values):
        return "not an object with id, split and group"
    return Assignment(str(article), cast(Split, split), str(group))  # cast: its name is checked by the caller


def divided_groups(assigned: Sequence[Assignment]) -> set[str]:
    """The groups whose articles are in more than one part."""
    parts: dict[str, set[str]] = defaultdict(set)
    for one in assigned:
        parts[one.group].add(one.split)
    return {group for group, names in parts.items() if len(names) > 1}


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
