"""Splits: whole near-duplicate groups, shares kept, the best articles everywhere, chosen by seed and id."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillery_runtime.errors import InputError
from distillery_trainer.data.split import (
    SHARES,
    Assignment,
    folds_by_group,
    given_splits,
    limit_articles,
    split_by_group,
    write_splits,
)
from distillery_trainer.runs.fit import MIN_ARTICLES

RNG = np.random.default_rng(5)
IDS = [f"a{i}" for i in range(1000)]
OVERALLS = np.round(RNG.gamma(1.5, 1.5, size=1000).clip(0, 10), 4)
FEW = settings(derandomize=True, max_examples=20, deadline=None)


def splits(assigned: list[Assignment]) -> dict[str, str]:
    return {one.id: one.split for one in assigned}


@FEW
@given(st.lists(st.integers(0, 25), min_size=1, max_size=120), st.integers(0, 5))
def test_a_group_never_stands_in_two_splits(groups: list[int], seed: int) -> None:
    ids = [str(place) for place in range(len(groups))]
    overalls = np.random.default_rng(seed).uniform(0, 10, len(groups))

    assigned = split_by_group(ids, [f"g{group}" for group in groups], overalls, seed)

    where = defaultdict(set)
    for one in assigned:
        where[one.group].add(one.split)
    assert all(len(found) == 1 for found in where.values())


@FEW
@given(st.lists(st.integers(0, 25), min_size=1, max_size=120), st.integers(0, 5))
def test_every_article_gets_one_split_in_its_place(groups: list[int], seed: int) -> None:
    ids = [str(place) for place in range(len(groups))]

    assigned = split_by_group(ids, [f"g{group}" for group in groups], np.zeros(len(groups)), seed)

    assert [(one.id, one.group) for one in assigned] == [(i, f"g{g}") for i, g in zip(ids, groups, strict=True)]


@pytest.mark.parametrize("seed", range(3))
def test_of_1000_articles_each_split_gets_its_share_within_half_a_percent(seed: int) -> None:
    counts = Counter(one.split for one in split_by_group(IDS, IDS, OVERALLS, seed))

    assert {name: counts[name] / 1000 for name in SHARES} == pytest.approx(SHARES, abs=0.005)


@pytest.mark.parametrize("seed", range(3))
def test_with_groups_of_up_to_five_the_shares_still_hold_within_two_percent(seed: int) -> None:
    groups = [f"g{i}" for i in np.repeat(np.arange(400), np.random.default_rng(seed).integers(1, 6, 400))[:1000]]

    counts = Counter(one.split for one in split_by_group(IDS[: len(groups)], groups, OVERALLS[: len(groups)], seed))

    assert {name: counts[name] / len(groups) for name in SHARES} == pytest.approx(SHARES, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_every_split_gets_its_share_of_the_highest_quarter(seed: int) -> None:
    highest = {IDS[i] for i in np.argsort(-OVERALLS, kind="stable")[:250]}

    assigned = [one.split for one in split_by_group(IDS, IDS, OVERALLS, seed) if one.id in highest]

    assert {name: assigned.count(name) / 250 for name in SHARES} == pytest.approx(SHARES, abs=0.01)


def test_twelve_good_articles_among_a_thousand_poor_ones_reach_training_and_test() -> None:
    overalls = np.where(np.arange(1000) < 12, 9.0, 1.0)

    found = splits(split_by_group(IDS, IDS, overalls, 0))

    assert {"train", "test"} <= {found[name] for name in IDS[:12]}


@FEW
@given(st.permutations(range(40)), st.integers(0, 3))
def test_an_articles_split_does_not_depend_on_the_order_of_articles(order: list[int], seed: int) -> None:
    ids, overalls = IDS[:40], OVERALLS[:40]
    shuffled = [ids[i] for i in order]

    assert splits(split_by_group(ids, ids, overalls, seed)) == splits(
        split_by_group(shuffled, shuffled, overalls[order], seed)
    )


def test_another_seed_gives_another_split_and_the_same_seed_the_same() -> None:
    first, again, other = (splits(split_by_group(IDS, IDS, OVERALLS, seed)) for seed in (1, 1, 2))

    assert first == again
    assert sum(first[name] != other[name] for name in IDS) > 300


@pytest.mark.parametrize("count", range(MIN_ARTICLES, MIN_ARTICLES + 12))
def test_the_fewest_articles_that_a_fit_takes_reach_all_four_splits(count: int) -> None:
    found = {one.split for one in split_by_group(IDS[:count], IDS[:count], OVERALLS[:count], 0)}

    assert found == set(SHARES)


@FEW
@given(st.permutations(range(30)), st.integers(1, 40), st.integers(0, 3))
def test_a_limit_chooses_the_same_articles_in_whatever_order_they_come(order: list[int], limit: int, seed: int) -> None:
    shuffled = [IDS[i] for i in order]

    first, second = limit_articles(IDS[:30], limit, seed), limit_articles(shuffled, limit, seed)

    assert {IDS[i] for i in first} == {shuffled[i] for i in second}


@FEW
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3))
def test_a_larger_limit_keeps_the_articles_of_a_smaller_one(one: int, other: int, seed: int) -> None:
    small, large = sorted((one, other))

    assert set(limit_articles(IDS[:30], small, seed)) <= set(limit_articles(IDS[:30], large, seed))


def test_a_limit_gives_so_many_articles_in_file_order() -> None:
    chosen = limit_articles(IDS, 100, 0)

    assert chosen == sorted(set(chosen))
    assert len(chosen) == 100


@FEW
@given(st.lists(st.integers(0, 25), min_size=8, max_size=120), st.integers(2, 5), st.integers(0, 5))
def test_folds_never_divide_a_group_and_name_every_article_in_its_place(
    groups: list[int], folds: int, seed: int
) -> None:
    ids, names = [str(place) for place in range(len(groups))], [f"g{group}" for group in groups]

    assigned = folds_by_group(ids, names, np.random.default_rng(seed).uniform(0, 10, len(groups)), folds, seed)

    assert [(one.id, one.group) for one in assigned] == list(zip(ids, names, strict=True))
    assert len({(one.group, one.split) for one in assigned}) == len(set(names))
    assert len({one.split for one in assigned}) == min(folds, len(set(names)))


@FEW
@given(st.integers(0, 1000), st.integers(2, 6), st.floats(1, 9))
def test_finds_are_spread_over_folds_as_evenly_as_can_be(seed: int, folds: int, operating: float) -> None:
    overalls = np.random.default_rng(seed).gamma(1.5, 1.5, size=90).clip(0, 10)

    assigned = folds_by_group(IDS[:90], IDS[:90], overalls, folds, seed)

    finds, sizes = Counter(), Counter(one.split for one in assigned)
    finds.update(one.split for one, overall in zip(assigned, overalls, strict=True) if overall >= operating)
    for counts in ([finds[fold] for fold in sizes], list(sizes.values())):
        assert max(counts) - min(counts) <= 1


def test_folds_depend_on_the_seed_and_not_on_the_order_of_articles() -> None:
    first, again, other = (splits(folds_by_group(IDS, IDS, OVERALLS, 5, seed)) for seed in (1, 1, 2))
    turned = splits(folds_by_group(IDS[::-1], IDS[::-1], OVERALLS[::-1], 5, 1))

    assert first == again == turned != other


def test_a_file_of_folds_is_read_and_one_of_folds_and_parts_is_refused(tmp_path: Path) -> None:
    assigned = folds_by_group(IDS[:30], IDS[:30], OVERALLS[:30], 3, 0)
    write_splits(tmp_path / "folds.jsonl", assigned)
    write_splits(tmp_path / "mixed.jsonl", [*assigned[:-1], Assignment(IDS[29], "test", IDS[29])])
    write_splits(tmp_path / "one.jsonl", folds_by_group(IDS[:30], IDS[:30], OVERALLS[:30], 1, 0))

    assert given_splits(tmp_path / "folds.jsonl", IDS[:30]) == assigned
    for name in ("mixed", "one"):
        with pytest.raises(InputError):
            given_splits(tmp_path / f"{name}.jsonl", IDS[:30])
