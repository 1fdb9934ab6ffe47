"""The cascade: order, routes, batch invariance, and hostile input."""

import collections
import io
import itertools
import json
import math
import random
import threading
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from distillery_runtime import Article, HybridScorer, ModelError, Score, decide, load
from distillery_runtime.articles.admission import CHUNK_CHARS, chunked
from distillery_runtime.articles.jsonl import read_jsonl
from distillery_runtime.models.session import Graph
from distillery_runtime.scoring.engine import CHUNK_ARTICLES
from distillery_runtime.scoring.timings import Timings

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

    threshold = scorer.stages[0].routing.threshold
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
        *("id", "status", "stage", "selected", "chance", "selected_from", "scores", "overall", "tier", "gatekeeper"),
        *("expected", "expected_overall", "reason", "bundle", "tokens", "truncated", "degraded", "detectors"),
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


@pytest.mark.parametrize("value", [float("nan"), 10.5, -0.5])
def test_a_model_that_answers_nonsense_raises_and_scores_nothing(bundle: Path, value: float) -> None:
    scorer = load(bundle)
    answer_with(scorer.stages[1].graphs[0], value)

    with pytest.raises(ModelError):
        scorer.score_batch(articles(50))
    with pytest.raises(ModelError):
        list(scorer.score_stream(articles(50)))


def answer_with(graph: Graph, value: float) -> None:
    """Makes a graph give one value for everything."""

    def run(inputs: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.float32]]:
        answer = np.full((len(inputs["input_ids"]), 2), value, np.float32)
        return {"raw": answer, "scores": answer}

    graph.run = run  # type: ignore[method-assign, assignment]


def test_a_stream_gives_what_a_batch_gives_in_order(scorer: HybridScorer) -> None:
    records = [hostile(random.Random(i)) if i % 3 == 0 else article for i, article in enumerate(articles(700))]

    streamed = list(scorer.score_stream(iter(records)))

    batch = scorer.score_batch(records)
    assert len(records) > 3 * CHUNK_ARTICLES["cpu"]
    assert [(s.id, s.status, s.reason) for s in streamed] == [(s.id, s.status, s.reason) for s in batch]
    for one, other in zip(streamed, batch, strict=True):
        assert one.stage == other.stage
        assert one.scores == (None if other.scores is None else pytest.approx(other.scores, abs=1e-4))


def test_a_stream_reads_no_further_ahead_than_a_few_chunks(scorer: HybridScorer) -> None:
    read = 0

    def endless() -> Iterator[object]:
        nonlocal read
        for article in itertools.cycle(articles(100)):
            read += 1
            yield article

    most = 8 * CHUNK_ARTICLES["cpu"]
    with closing(scorer.score_stream(endless())) as stream:
        ahead = [read - given for given, _ in enumerate(itertools.islice(stream, 5000))]

    assert max(ahead) <= most


def test_long_articles_make_small_chunks() -> None:
    long = {"id": "1", "text": "x" * (CHUNK_CHARS // 3), "junk": ["x"]}

    chunks = list(chunked([long] * 7, 100))

    assert [len(chunk) for chunk in chunks] == [4, 3]
    assert chunks[0][0] == Article("1", "", str(long["text"]))


@pytest.mark.parametrize("count", [0, 1, CHUNK_ARTICLES["cpu"], 300])
def test_what_the_articles_raise_comes_after_the_results_of_those_before(scorer: HybridScorer, count: int) -> None:
    def broken_off() -> Iterator[object]:
        yield from articles(count)
        raise OSError("the disk is gone")

    given: list[str | None] = []
    with pytest.raises(OSError, match="the disk is gone") as caught:
        collections.deque((given.append(score.id) for score in scorer.score_stream(broken_off())), maxlen=0)

    assert given == [str(i) for i in range(count)]
    assert "broken_off" in "".join(traceback.format_tb(caught.value.__traceback__))


def test_a_stream_that_is_left_early_leaves_no_thread(scorer: HybridScorer) -> None:
    for _ in scorer.score_stream(itertools.cycle(articles(10))):
        break

    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("distillery")] == []


def test_a_bad_line_becomes_an_invalid_result_in_its_place(scorer: HybridScorer) -> None:
    lines = io.BytesIO(b'{"id": "1", "text": "wind"}\nnot json\n{"id": "3", "text": "wind"}\n')

    scores = list(scorer.score_stream(read_jsonl(lines)))

    assert [(score.id, score.status) for score in scores] == [("1", "scored"), (None, "invalid"), ("3", "scored")]
    assert str(scores[1].reason).startswith("line 2: not JSON")


def test_many_streams_run_on_one_scorer_at_the_same_time(scorer: HybridScorer) -> None:
    records = articles(150)
    expected = list(scorer.score_stream(records))

    with ThreadPoolExecutor(6) as pool:
        streams = list(pool.map(lambda _: list(scorer.score_stream(records)), range(6)))

    assert streams == [expected] * 6


def test_steps_add_up_their_time_and_articles(scorer: HybridScorer) -> None:
    timings = Timings()

    batch = scorer.score_batch(articles(100), timings=timings)
    for _ in scorer.score_stream(articles(200), timings=timings):
        pass

    onward = sum(score.stage == "student" for score in batch)
    steps = timings.steps
    assert list(steps)[:2] == ["parse", "clean"]
    assert (steps["parse"].articles, steps["clean"].articles, steps["probe model"].articles) == (100, 300, 300)
    assert onward < steps["student model"].articles < 300
    assert all(step.seconds > 0 for step in steps.values())


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
