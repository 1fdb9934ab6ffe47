"""Labelling against a local server: what is written of which articles."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oracle_server import Answer

from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.data.labels import read_labels
from distillery_trainer.labelling.job import LabelJob, Questions
from distillery_trainer.labelling.labeller import LabellingResult

CALL_USD = (1000 * 1 + 50 * 10) / 1e6
Serve = Callable[..., Any]  # Any: OracleServer
Script = Callable[[Any], Any]  # Any: Ask, Answer
Job = Callable[..., LabelJob]
Run = Callable[[LabelJob], LabellingResult]
Rows = Callable[[Path], list[dict[str, Any]]]


def test_every_article_is_labelled_once_in_a_file_that_fit_reads(
    serve: Serve, good: Script, articles: Any, job: Job, run: Run, spec: FilterSpec
) -> None:
    server = serve(good)
    wanted = job(server, articles(30))

    done = run(wanted)

    labelled = read_labels([wanted.out], spec)
    assert [article.id for article in labelled.articles] == [f"a{i}" for i in range(30)]
    assert labelled.oracles == "a-model"
    assert len(server.asks) == 30
    assert done.stop is None


def test_labels_are_what_the_oracle_said_of_that_article(
    serve: Serve, good: Script, reply: Any, articles: Any, job: Job, run: Run, rows: Rows
) -> None:
    server = serve(good)
    wanted = job(server, articles(10))

    run(wanted)

    said = {ask.number: json.loads(reply(ask.message)) for ask in server.asks}
    for place, row in enumerate(rows(wanted.out)):
        assert row["labels"] == {name: said[place][name] for name in row["labels"]}


def test_the_records_own_fields_are_carried_over_and_old_labels_are_not(
    serve: Serve, good: Script, articles: Any, job: Job, run: Run, rows: Rows
) -> None:
    old = {"labels": {"x": 1}, "oracle": "old", "repeats": [1], "flags": ["old"]}
    wanted = job(serve(good), articles(3, inclusion_probability=0.25, source="a feed", **old))

    run(wanted)

    (first, *_) = rows(wanted.out)
    assert (first["inclusion_probability"], first["source"], first["oracle"]) == (0.25, "a feed", "a-model")
    assert "repeats" not in first
    assert "x" not in first["labels"]


def test_a_share_of_the_articles_is_asked_about_several_times(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, rows: Rows
) -> None:
    server = serve(lambda ask: Answer(reply(ask.message, relevance=4 + ask.times)))
    wanted = job(server, articles(60), questions=Questions(repeats=3, repeat_share=0.3, canary=0))

    done: Any = run(wanted).summary

    several = [row for row in rows(wanted.out) if "repeats" in row]
    assert len(server.asks) == 60 + 2 * len(several)
    assert 10 <= len(several) <= 26
    for row in several:
        assert sorted(answer["relevance"] for answer in row["repeats"]) == [5, 6, 7]
        assert row["labels"]["relevance"] == 6
        assert row["cost_usd"] == pytest.approx(3 * CALL_USD)
    assert done["oracle_noise"]["dimensions"] == {"relevance": pytest.approx(4 / 3, abs=1e-6), "evidence_quality": 0}


def test_what_cannot_be_asked_about_is_counted_by_reason(
    serve: Serve, good: Script, tmp_path: Path, job: Job, run: Run
) -> None:
    file = tmp_path / "mixed.jsonl"
    lines = [
        '{"id": "a", "text": "A text."}', '{"id": "a", "text": "Another."}', '{"id": "b", "text": " "}', "nonsense",
        '{"id": "c", "text": "<p> </p>"}', json.dumps({"id": "d", "text": "x" * 50_000}),
        '{"id": "e", "text": "A text of e.", "url": "\\ud800"}', '{"id": "f", "text": "A text of f.", "score": 1e999}',
    ]  # fmt: skip
    file.write_text("\n".join(lines))

    done: Any = run(job(serve(good), file)).summary

    assert done["articles"]["labelled"] == 1
    assert done["articles"]["passed_over"] == {
        "an id used before": 1,
        "no id, title and text": 1,
        "not a JSON object": 2,
        "no text left after cleaning": 1,
        "longer than 40000 characters": 1,
        "a field that JSON cannot hold": 1,
    }
