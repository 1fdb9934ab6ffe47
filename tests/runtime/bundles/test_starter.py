"""The starter: shipped bundles that score the demonstration's articles as they always did."""

import json
from pathlib import Path

import pytest

from distillery_runtime import load, load_panel

STARTER = "starter/distillery_starter"
FIRST = "sustainability_technology-4"
# Written by `distillery score --filters all docs/demo-articles.jsonl` on an x86 CPU with AVX-512, threads 2.
EXPECTED = "tests/fixtures/starter-scores.jsonl"
ROUNDING = 1e-3  # points: scores have four decimals, and processors order a model's sums differently
NUMBERS = ("overall", "expected_overall", "chance")
VECTORS = ("scores", "expected")


@pytest.fixture(scope="module")
def folders(repository: Path) -> list[Path]:
    found = sorted(path.parent for path in (repository / STARTER).glob("*/bundle.json"))
    return sorted(found, key=lambda folder: folder.name != FIRST)


def test_the_starter_scores_the_demonstration_as_ever(repository: Path, folders: list[Path]) -> None:
    panel = load_panel(folders, provider="cpu")
    articles = [json.loads(line) for line in (repository / "docs" / "demo-articles.jsonl").open(encoding="utf-8")]
    expected = [json.loads(line) for line in (repository / EXPECTED).open(encoding="utf-8")]

    found = [score.to_record() for scores in panel.score_batch(articles) for score in scores]

    assert len(found) == len(expected) == 4 * len(articles)
    for one, golden in zip(found, expected, strict=True):
        same = {name: value for name, value in golden.items() if name not in (*NUMBERS, *VECTORS)}
        assert {name: one[name] for name in same} == same
        for name in (*NUMBERS, *VECTORS):
            assert one[name] == (None if golden[name] is None else pytest.approx(golden[name], abs=ROUNDING))


def test_each_filter_of_the_starter_opens_alone_and_scores_as_in_the_panel(
    repository: Path, folders: list[Path]
) -> None:
    articles = [json.loads(line) for line in (repository / "docs" / "demo-articles.jsonl").open(encoding="utf-8")]
    together = load_panel(folders, provider="cpu").score_batch(articles)

    alone = [load(folder, provider="cpu").score_batch(articles) for folder in folders]

    assert [list(scores) for scores in zip(*alone, strict=True)] == [list(scores) for scores in together]
