"""The starter: a shipped bundle that scores the demonstration's articles as it always did."""

import json
from pathlib import Path

import pytest

from distillery_runtime import load

STARTER = "starter/distillery_starter/sustainability_technology-3"
# Written by `distillery score --bundle STARTER docs/demo-articles.jsonl` on an x86 CPU with AVX-512, threads 2.
EXPECTED = "tests/fixtures/starter-scores.jsonl"
ROUNDING = 1e-3  # points: scores have four decimals, and processors order a model's sums differently


def test_the_starter_scores_the_demonstration_as_ever(repository: Path) -> None:
    scorer = load(repository / STARTER, provider="cpu")
    articles = [json.loads(line) for line in (repository / "docs" / "demo-articles.jsonl").open(encoding="utf-8")]
    expected = [json.loads(line) for line in (repository / EXPECTED).open(encoding="utf-8")]

    found = [score.to_record() for score in scorer.score_batch(articles)]

    assert len(found) == len(expected) == len(articles)
    for one, golden in zip(found, expected, strict=True):
        same = {name: one[name] for name in golden if name not in ("scores", "overall")}
        assert same == {name: golden[name] for name in same}
        assert one["overall"] == pytest.approx(golden["overall"], abs=ROUNDING)
        assert one["scores"] == pytest.approx(golden["scores"], abs=ROUNDING)
