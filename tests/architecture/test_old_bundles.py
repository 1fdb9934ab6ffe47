"""Bundles of every format ever released go on to load and to answer as they did where they were made."""

from pathlib import Path

import pytest

from distillery_runtime import load
from distillery_runtime.bundles.golden import replay
from distillery_runtime.bundles.load import open_bundle, open_stages
from distillery_runtime.format.manifest import FORMAT_VERSION

FIXTURES = Path(__file__).parents[1] / "fixtures"
BUNDLES = sorted(FIXTURES.glob("bundle-v*/"))


def test_there_is_a_bundle_of_every_format() -> None:
    expected = {f"bundle-v{version}" for version in range(1, FORMAT_VERSION + 1)}

    assert expected - {folder.name for folder in BUNDLES} == set()


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: folder.name)
def test_an_old_bundle_replays_all_its_golden_articles(folder: Path) -> None:
    bundle = open_bundle(folder)

    problems = replay(open_stages(bundle, "cpu", 1), bundle.calibration, bundle.goldens, bundle.spec.text)

    assert problems == []


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: folder.name)
def test_an_old_bundle_scores(folder: Path) -> None:
    articles = [golden.article for golden in open_bundle(folder).goldens]

    results = load(folder, provider="cpu", threads=1).score_batch(articles)

    assert [result.status for result in results if result.status == "invalid"] == []
    assert [result.id for result in results] == [article.id for article in articles]
