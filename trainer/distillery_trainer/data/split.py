"""Splits by near-duplicate group, which keep the same news on one side, and their file `splits.jsonl`."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.articles.jsonl import BadLine, read_again
from distillery_runtime.errors import InputError, Problem
from distillery_trainer.store.files import write_jsonl

Split = Literal["train", "val", "calibration", "test"]

SHARES: dict[Split, float] = {"train": 0.60, "val": 0.15, "calibration": 0.10, "test": 0.15}
FOLD = "fold-"
TUNING = 10  # one in so many groups of a round's training folds tunes
BANDS = 4
SPLIT_VERSION = 2  # of groups and split together; 1: near-duplicates by MinHash


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where one article went: `group` is the lowest id of its near-duplicate cluster."""

    id: str
    split: Split
    group: str


@dataclass(frozen=True, slots=True)
class Round:
    """Places of the articles that models learn from, are tuned on and are tested on."""

    train: list[int]
    val: list[int]
    test: list[int]

    def whole(self) -> "Round":
        """The same with nothing left to tune on: those articles teach too."""
        return Round(sorted([*self.train, *self.val]), [], self.test)


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


def folds_by_group(
    ids: Sequence[str], groups: Sequence[str], overalls: NDArray[np.floating], folds: int, seed: int
) -> list[Assignment]:
    """Gives every article a fold, whole groups at a time, each fold with about the same overalls.

    Groups are dealt by falling overall, one to each fold in turn, in an order that depends on the seed and the groups'
    ids alone: finds, which are few, are spread as evenly as can be.
    """
    top: dict[str, float] = {}
    for group, overall in zip(groups, overalls, strict=True):
        top[group] = max(top.get(group, 0.0), float(overall))
    ordered = sorted(top, key=lambda group: (-top[group], shuffle_key(group, seed)))
    chosen: dict[str, Split] = {}
    for start in range(0, len(ordered), folds):
        dealt = sorted(ordered[start : start + folds], key=lambda group: shuffle_key(group, seed + 1))
        chosen |= {group: fold_name(place) for place, group in enumerate(dealt)}
    return [Assignment(article, chosen[group], group) for article, group in zip(ids, groups, strict=True)]


def fold_name(number: int) -> Split:
    """The split of a fold's articles, counted from 0."""
    return cast(Split, f"{FOLD}{number}")


def is_fold(split: str) -> bool:
    """Whether a split is a fold."""
    return split.startswith(FOLD)


def fold_names(assigned: Iterable[Assignment]) -> tuple[str, ...]:
    """The names of the folds that articles are in; none where they are split into parts instead."""
    return tuple(sorted({row.split for row in assigned if is_fold(row.split)}))


def rounds_of(assigned: Sequence[Assignment], seed: int) -> list[Round]:
    """What is learnt from and judged in turn: each fold once, or the splits.

    Of a round of folds one tests; of the others' groups a tenth, by seed and name alone, tunes.
    """
    folds = fold_names(assigned)
    if not folds:
        names: tuple[Split, ...] = ("train", "val", "test")
        return [Round(*([place for place, row in enumerate(assigned) if row.split == name] for name in names))]
    return [_round(assigned, fold, seed) for fold in folds]


def _round(assigned: Sequence[Assignment], fold: str, seed: int) -> Round:
    others = [place for place, row in enumerate(assigned) if row.split != fold]
    groups = sorted({assigned[place].group for place in others}, key=lambda group: shuffle_key(group, seed))
    tuning = set(groups[: max(1, len(groups) // TUNING)])
    return Round(
        [place for place in others if assigned[place].group not in tuning],
        [place for place in others if assigned[place].group in tuning],
        [place for place, row in enumerate(assigned) if row.split == fold],
    )


def limit_articles(ids: Sequence[str], limit: int, seed: int) -> list[int]:
    """The places of `limit` articles, chosen by seed and id alone, in file order."""
    order = sorted(range(len(ids)), key=lambda i: shuffle_key(ids[i], seed))
    return sorted(order[:limit])


def shuffle_key(name: str, seed: int) -> str:
    """What to sort by for an order that depends on the seed and the names alone."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def write_splits(path: Path, assigned: Iterable[Assignment]) -> None:
    """Writes `splits.jsonl`: a row for each article, in file order."""
    write_jsonl(path, ({"id": a.id, "split": a.split, "group": a.group} for a in assigned))


def read_splits(path: Path, where: str = "splits") -> dict[str, Assignment]:
    """Where each article went, by its id, in file order.

    Args:
        path: a file that `trainer prepare` or a run wrote.
        where: the option that gave it, for messages.

    Raises:
        InputError: it is not readable, or holds something else.
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
        raise InputError(where, unread[:10])
    return known


def given_splits(path: Path, ids: Sequence[str], whole: bool = True) -> list[Assignment]:
    """A split that was made before, for these articles in this order.

    Raises:
        InputError: it is not readable, lacks an article, or (if it must be `whole`) lacks a part or divides a group.
    """
    known = read_splits(path, "--splits")
    own = [known[i] for i in ids if i in known]
    problems = [Problem(f"{path}: {i}", "missing", "every labelled article") for i in ids if i not in known][:10]
    folds = sorted({a.split for a in known.values()}) if own and all(is_fold(a.split) for a in own) else []
    names: Sequence[str] = folds or tuple(SHARES)
    wanted = f"{', '.join(SHARES)}, or {FOLD}0, {FOLD}1 ... for all"
    problems += [Problem(f"{path}: {a.id}", repr(a.split), wanted) for a in own if a.split not in names]
    faults = [Problem(f"{path}: {n}", "no article", "at least 1") for n in names if all(a.split != n for a in own)]
    faults += [Problem(f"{path}", "a single fold", "at least 2")] if len(folds) == 1 else []
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
