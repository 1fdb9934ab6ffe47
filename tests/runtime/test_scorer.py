"""The cascade: order, routes, batch invariance, and hostile input."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from distillery_runtime import Article, HybridScorer, ModelError, Score, decide
from distillery_runtime.stage import Stage, StageOutput

WORDS = [
    "solar",
    "wind",
    "heat",
    "pump",
    "ferry",
    "lake",
    "village",
    "council",
    "cards",
    "pancakes",
    "sunday",
    "measured",
    "cost",
    "dear",
    "cheap",
    "model",
    "win",
]


def articles(count: int, seed: int = 0) -> list[dict[str, str]]:
    generator = random.Random(seed)
    return [
        {
            "id": str(i),
            "title": " ".join(generator.choices(WORDS, k=4)),
            "text": " ".join(generator.choices(WORDS, k=generator.randrange(1, 90))),
        }
        for i in range(count)
    ]


def test_results_come_in_the_order_of_the_articles(scorer: HybridScorer) -> None:
    batch = articles(200)

    assert [score.id for score in scorer.score_batch(batch)] == [article["id"] for article in batch]


def test_both_stages_answer_and_the_probe_only_below_its_threshold(scorer: HybridScorer) -> None:
    scores = scorer.score_batch(articles(200))

    threshold = scorer.stages[0].threshold
    assert threshold is not None
    assert {score.stage for score in scores} == {"probe", "student"}
    assert all(score.overall < threshold for score in scores if score.stage == "probe")


def test_an_article_alone_scores_as_in_any_batch(scorer: HybridScorer) -> None:
    batch = articles(60)

    together = scorer.score_batch(batch)

    for article, score in zip(batch, together, strict=True):
        alone = scorer.score(article)
        assert alone.stage == score.stage
        assert alone.scores == pytest.approx(score.scores, abs=1e-4)


def test_a_result_describes_itself(scorer: HybridScorer) -> None:
    record = scorer.score(articles(1)[0]).to_record()

    assert list(record) == [
        "id",
        "status",
        "stage",
        "scores",
        "overall",
        "tier",
        "gatekeeper",
        "reason",
        "bundle",
        "tokens",
        "truncated",
    ]
    assert record["bundle"] == scorer.bundle
    json.dumps(record, allow_nan=False)


def test_a_verdict_can_be_recomputed_from_its_result(scorer: HybridScorer) -> None:
    for score in scorer.score_batch(articles(100)):
        assert score.scores is not None
        verdict = decide(np.array(list(score.scores.values())), scorer.spec)
        assert (verdict.overall, verdict.tier, verdict.gatekeeper) == (score.overall, score.tier, score.gatekeeper)


def test_truncation_and_tokens_are_those_of_the_deciding_stage(scorer: HybridScorer) -> None:
    long = scorer.score({"id": "1", "text": "solar " * 500})
    short = scorer.score({"id": "2", "text": "solar"})

    limits = {stage.name: stage.window.window.max_tokens for stage in scorer.stages}
    assert (long.truncated, long.tokens) == (True, limits[str(long.stage)])
    assert (short.truncated, short.tokens) == (False, 1)


def test_an_article_object_scores_as_its_record(scorer: HybridScorer) -> None:
    assert scorer.score(Article("1", "wind", "solar")) == scorer.score({"id": "1", "title": "wind", "text": "solar"})


def test_no_articles_give_no_results(scorer: HybridScorer) -> None:
    assert scorer.score_batch([]) == []


def test_a_model_that_answers_nonsense_raises_and_scores_nothing(scorer: HybridScorer) -> None:
    class Broken:
        """A stage whose graph gives NaN."""

        name, threshold, variant = "student", None, "cpu-fp32"
        window = scorer.stages[1].window

        def run(self, rows: list[object]) -> StageOutput:
            bad = np.full((len(rows), 2), np.nan, np.float32)
            return StageOutput(bad, bad)

    broken = HybridScorer(scorer.spec, [Broken()], "x")  # type: ignore[list-item]

    with pytest.raises(ModelError):
        broken.score({"id": "1", "text": "wind"})


def test_a_graph_that_gives_nan_is_an_error_of_the_stage(scorer: HybridScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    stage: Stage = scorer.stages[1]
    nothing = {"raw": np.full((1, 2), np.nan, np.float32), "scores": np.full((1, 2), np.nan, np.float32)}
    monkeypatch.setattr(stage, "_graphs", [type("Graph", (), {"run": lambda self, inputs: nothing})()])

    with pytest.raises(ModelError, match="not finite"):
        stage.run(stage.window.encode(["wind"]))


def test_ten_thousand_hostile_records_stop_nothing(scorer: HybridScorer) -> None:
    records = [hostile(random.Random(i)) for i in range(10_000)]

    scores = scorer.score_batch(records)

    assert len(scores) == len(records)
    for score in scores:
        assert isinstance(score, Score)
        if score.status == "invalid":
            assert score.reason
            assert score.scores is None
        elif score.status == "scored":
            assert score.scores is not None
            assert all(math.isfinite(v) and 0 <= v <= 10 for v in [*score.scores.values(), score.overall or 0.0])
        json.dumps(score.to_record(), allow_nan=False).encode("utf-8")
    assert {score.status for score in scores} == {"invalid", "scored", "blocked"}


VALUES = (
    *(
        None,
        "",
        " ",
        "wind",
        "casino",
        0,
        -1,
        1.5,
        float("nan"),
        float("inf"),
        True,
        [],
        {},
        ["wind"],
        {"a": 1},
        b"wind",
    ),
    *("\ud800", "a\udfffb", "\x00", "\u200b", "<p>", "<script>x</script>", "\u202e" * 50, "[UNK]", "solar " * 300),
    *("\U0001f600" * 40, "&#x110000;", "&lt;b&gt;", "\ufffe", "e" + "\u0301" * 500, 10**400, object(), Path()),
    *("9" * 999, "\n\r\t", "wind\x00solar"),
)


def hostile(generator: random.Random) -> object:
    """A record that is wrong in one of many ways, or barely right."""
    if generator.random() < 0.1:
        return generator.choice(VALUES)
    keys = ("id", "title", "text", "content", "labels", "\ud800")
    return {key: generator.choice(VALUES) for key in keys if generator.random() < 0.8}


def test_fifty_megabytes_of_text_are_invalid(scorer: HybridScorer) -> None:
    score = scorer.score({"id": "big", "text": "x" * 50_000_000})

    assert (score.status, score.id) == ("invalid", "big")
    assert "at most 1000000" in str(score.reason)
