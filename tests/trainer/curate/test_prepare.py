"""Preparing labelled articles: whole groups, the usual shares, enough finds held out; and a fit that keeps to it."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.cli.main import main
from distillery_trainer.curate.prepare import prepare
from distillery_trainer.data.labels import LabelledSet, read_labels
from distillery_trainer.data.split import divided_groups, given_splits

Make = Callable[..., LabelledSet]


@pytest.fixture
def labelled(
    write_rows: Callable[..., Path], topic_rows: Callable[[int], list[dict[str, Any]]], spec: FilterSpec
) -> Make:
    """Makes N articles of which the first `finds` are labelled high, and every tenth is told again in other words."""

    def make(count: int, finds: int) -> LabelledSet:
        rows = topic_rows(count)
        for place, row in enumerate(rows):
            row["labels"] = dict.fromkeys(row["labels"], 9.0 if place < finds else 1.0)
            if place % 10 == 9:
                row["text"] = rows[place - 1]["text"] + " once more"
        return read_labels([write_rows("labels.jsonl", rows)], spec)

    return make


def test_groups_stay_whole_and_the_shares_are_the_usual_ones(labelled: Make, spec: FilterSpec) -> None:
    prepared = prepare(labelled(200, 60), spec, 5, 0)

    sizes = Counter(one.split for one in prepared.assigned)
    assert divided_groups(prepared.assigned) == set()
    assert len({one.group for one in prepared.assigned}) == 180
    assert {n: sizes[n] / 200 for n in sizes} == pytest.approx(
        {"train": 0.6, "val": 0.15, "calibration": 0.1, "test": 0.15}, abs=0.03
    )


def test_rare_finds_are_held_out_in_every_part_without_changing_the_shares(labelled: Make, spec: FilterSpec) -> None:
    articles = labelled(200, 20)
    before, after = prepare(articles, spec, 0, 0), prepare(articles, spec, 5, 0)

    assert min(before.finds.values()) < 5
    assert after.finds == {"train": 5, "val": 5, "calibration": 5, "test": 5}
    assert after.short == ()
    sizes = [Counter(one.split for one in found.assigned) for found in (before, after)]
    assert all(abs(sizes[0][name] - sizes[1][name]) <= 1 for name in sizes[0])


def test_too_few_finds_are_reported_and_stay_in_training_as_far_as_the_floor(labelled: Make, spec: FilterSpec) -> None:
    prepared = prepare(labelled(200, 8), spec, 6, 0)

    assert prepared.short
    assert sum(prepared.finds.values()) == 8


def test_a_fit_keeps_to_the_split_that_was_prepared(
    labelled: Make, tmp_path: Path, new_filter: Path, spec: FilterSpec
) -> None:
    labelled(80, 30)
    labels, out, run = tmp_path / "labels.jsonl", tmp_path / "prepared", tmp_path / "run"
    given = ["--filter", str(new_filter), "--labels", str(labels)]

    assert main(["prepare", *given, "--floor", "3", "--out", str(out)]) == 0
    quick = ["--backend", "static", "--epochs", "1", "--set", "cascade.probe.training.epochs=1"]
    code = main(["fit", *given, "--splits", str(out / "splits.jsonl"), "--run-dir", str(run), *quick])

    assert code == 0
    assert (run / "splits.jsonl").read_text() == (out / "splits.jsonl").read_text()
    assert json.loads((run / "manifest.json").read_text())["splits"]["name"] == "splits.jsonl"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "a", "split": "train", "group": "a"}], "b: missing"),
        ([{"id": i, "split": "train", "group": i} for i in "ab"], "test: no article"),
        ([{"id": "a", "split": "half", "group": "a"}], "'half', expected train"),
        ([{"id": i, "split": s, "group": "g"} for i, s in (("a", "train"), ("b", "test"))], "group g: in several"),
        ([{"id": "a"}], "row 1: not an object with id, split and group"),
        ([{"id": "a", "split": "train", "group": "a"}, {"id": "a", "split": "test", "group": "a"}], "'a' given twice"),
    ],
)  # fmt: skip
def test_a_split_that_does_not_suit_is_refused(
    rows: list[dict[str, str]], said: str, write_rows: Callable[..., Path]
) -> None:
    with pytest.raises(InputError, match=said):
        given_splits(write_rows("splits.jsonl", rows), ["a", "b"])
