"""Filters hold data and nothing else, and the examples that ship with one are fit to learn and to be tested on."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.data.labels import LabelledSet, read_labels
from distillery_trainer.filters.find import load_filter
from distillery_trainer.filters.lint import lint_filter

ROOT = Path(__file__).parents[2]
DATA_SUFFIXES = {".yaml", ".md", ".jsonl", ".json"}
FOLDERS = sorted(path.parent for path in ROOT.glob("filters/*/v*/config.yaml"))
EXAMPLES = ROOT / "filters" / "sustainability_technology" / "v3"
FAR_OFF = 2.0  # an overall below this is far off the topic


@pytest.fixture(scope="module")
def spec() -> FilterSpec:
    return load_filter(EXAMPLES)


@pytest.fixture(scope="module")
def records() -> list[dict[str, object]]:
    lines = [line for path in files() for line in path.read_text(encoding="utf-8").splitlines()]
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def examples(spec: FilterSpec) -> LabelledSet:
    return read_labels(files(), spec)


def files() -> list[Path]:
    return sorted((EXAMPLES / "examples").glob("*.jsonl"))


def test_there_is_nothing_but_data_under_filters() -> None:
    wrong = [
        str(p)
        for p in (ROOT / "filters").rglob("*")
        if p.is_symlink() or (p.is_file() and p.suffix not in DATA_SUFFIXES)
    ]

    assert wrong == []


def test_no_file_under_filters_can_be_run() -> None:
    assert [str(p) for p in (ROOT / "filters").rglob("*") if p.is_file() and p.stat().st_mode & 0o111] == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_every_filter_passes_the_lint(folder: Path) -> None:
    assert [str(problem) for problem in lint_filter(folder)] == []


def test_there_are_at_least_150_examples_with_ids_of_their_own(examples: LabelledSet) -> None:
    ids = [article.id for article in examples.articles]

    assert len(ids) >= 150
    assert [name for name, count in Counter(ids).items() if count > 1] == []


def test_examples_have_80_to_300_words(records: list[dict[str, object]]) -> None:
    words = {str(record["id"]): len(str(record["text"]).split()) for record in records}

    assert {name: count for name, count in words.items() if not 80 <= count <= 300} == {}


def test_examples_are_labelled_in_half_points(examples: LabelledSet) -> None:
    labels = examples.labels()

    assert np.array_equal(labels * 2, np.round(labels * 2))


def test_examples_cover_each_dimension_from_low_to_high(examples: LabelledSet, spec: FilterSpec) -> None:
    labels = examples.labels()

    narrow = [
        n for n, column in zip(spec.dimension_names, labels.T, strict=True) if column.min() > 1 or column.max() < 9
    ]

    assert narrow == []


def test_at_least_a_fifth_of_the_examples_is_far_off_the_topic(examples: LabelledSet, spec: FilterSpec) -> None:
    share = float(np.mean(overalls(examples.labels(), spec) < FAR_OFF))

    assert share >= 0.2


def test_every_tier_has_examples(examples: LabelledSet, spec: FilterSpec) -> None:
    overall = overalls(examples.labels(), spec)

    assert all(np.any(overall >= tier.min_overall) for tier in spec.tiers)


def test_examples_are_in_at_least_four_languages(records: list[dict[str, object]]) -> None:
    assert len({record["language"] for record in records}) >= 4
