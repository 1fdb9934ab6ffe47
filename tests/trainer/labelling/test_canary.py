"""The canary: twenty replies by the same endpoint and mode, before the money is spent."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from oracle_server import Answer

from distillery_trainer.labelling.driver import Pace, Patience
from distillery_trainer.labelling.job import LabelJob, Questions, prepare
from distillery_trainer.labelling.labeller import LabellingResult, label

Serve = Callable[..., Any]  # Any: OracleServer
Script = Callable[[Any], Any]  # Any: Ask, Answer
Job = Callable[..., LabelJob]
Run = Callable[[LabelJob], LabellingResult]
Rows = Callable[[Path], list[dict[str, Any]]]
WITH_CANARY = Questions()


def test_a_canary_of_twenty_goes_first_and_its_labels_count(
    serve: Serve, good: Script, articles: Any, job: Job, run: Run
) -> None:
    server = serve(good)

    done: Any = run(job(server, articles(50), questions=WITH_CANARY)).summary

    assert done["canary"] == {"replies": 20, "valid": 20, "distinct": 20, "passed": True, "failure": None}
    assert done["articles"]["labelled"] == len(server.asks) == 50


@pytest.mark.parametrize(("service", "is_batch"), [("vllm", False), ("gemini", False), ("gemini", True)])
def test_an_endpoint_that_ignores_the_schema_costs_twenty_calls(
    serve: Serve, articles: Any, job: Job, run: Run, rows: Rows, service: str, is_batch: bool
) -> None:
    server = serve(Answer(json.dumps({"scores": {"relevance": 7}, "comment": "as you wish"})))
    wanted = job(server, articles(200), service=service, is_batch=is_batch, questions=WITH_CANARY)

    done = run(wanted)

    assert done.stop is not None
    assert done.stop.reason == "canary"
    assert "0 of 20 replies were usable" in done.stop.detail
    assert len(server.asks) == 20
    assert not wanted.out.exists()
    assert len(rows(wanted.dead)) == 20


def test_a_batch_that_ignores_the_schema_is_caught_though_live_calls_heed_it(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run
) -> None:
    server = serve(lambda ask: Answer("{}" if ask.kind == "batch" else reply(ask.message)))
    wanted = job(server, articles(30), service="gemini", questions=WITH_CANARY)
    run(wanted)

    done = run(replace(job(server, articles(100), service="gemini", questions=WITH_CANARY), is_batch=True))

    assert done.stop is not None
    assert done.stop.reason == "canary"
    assert [ask.kind for ask in server.asks].count("batch") == 20


def test_a_failed_canary_fails_again_at_no_cost(serve: Serve, articles: Any, job: Job, run: Run) -> None:
    server = serve(Answer("{}"))
    wanted = job(server, articles(50), questions=WITH_CANARY)
    run(wanted)

    done = run(wanted)

    assert done.stop is not None
    assert done.stop.reason == "canary"
    assert len(server.asks) == 20


def test_a_canary_that_failed_vouches_for_no_labels_though_nothing_is_left_to_ask(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run
) -> None:
    server = serve(lambda ask: Answer(reply(ask.message) if len(server.asks) > 5 else "{}"))
    wanted = job(server, articles(20), questions=WITH_CANARY, pace=Pace(concurrency=1))

    first, second = run(wanted), run(wanted)

    assert first.stop == second.stop
    assert not wanted.out.exists()


def test_a_mended_endpoint_is_asked_about_the_dead_canary_again(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run
) -> None:
    server = serve(lambda ask: Answer(reply(ask.message) if ask.times > 1 else "{}"))
    wanted = job(server, articles(20), questions=WITH_CANARY)
    run(wanted)

    done: Any = run(replace(wanted, questions=replace(WITH_CANARY, asks_dead_again=True)))

    assert done.stop is None
    assert done.summary["articles"]["labelled"] == 20
    assert len(server.asks) == 40


def test_an_oracle_that_answers_all_articles_alike_is_caught(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run
) -> None:
    server = serve(Answer(reply("always the same")))

    done = run(job(server, articles(50), questions=WITH_CANARY))

    assert done.stop is not None
    assert "all 20 replies were the same" in done.stop.detail
    assert len(server.asks) == 20


@pytest.mark.parametrize(("bad", "passes"), [(2, True), (3, False)])
def test_nine_in_ten_must_be_usable(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, bad: int, passes: bool
) -> None:
    spoilt: set[str] = set()

    def script(ask: Any) -> Answer:  # Any: Ask
        if len(spoilt) < bad:
            spoilt.add(ask.message)
        return Answer("{}" if ask.message in spoilt else reply(ask.message))

    done = run(job(serve(script), articles(40), questions=WITH_CANARY, pace=Pace(concurrency=1)))

    assert (done.stop is None) is passes


def test_few_articles_make_a_small_canary(serve: Serve, good: Script, articles: Any, job: Job, run: Run) -> None:
    done: Any = run(job(serve(good), articles(3), questions=WITH_CANARY)).summary

    assert done["canary"]["replies"] == 3
    assert done["articles"]["labelled"] == 3


def test_a_canary_that_was_interrupted_goes_on_and_never_grows(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run
) -> None:
    has_credit = False

    def script(ask: Any) -> Answer:  # Any: Ask
        return Answer(reply(ask.message)) if has_credit or len(server.asks) <= 7 else Answer(status=402)

    server = serve(script)
    wanted = job(server, articles(50), questions=WITH_CANARY, pace=Pace(concurrency=1))
    run(wanted)
    has_credit = True
    said: list[str] = []

    done: Any = label(prepare(wanted), said.append).summary

    assert done["canary"]["replies"] == 20
    assert any("canary of 13" in line for line in said)
    assert len(server.asks) == 51  # one without credit


def test_a_canary_that_cannot_be_paid_stops_for_the_budget(
    serve: Serve, good: Script, articles: Any, job: Job, run: Run
) -> None:
    done = run(job(serve(good), articles(50), questions=WITH_CANARY, max_usd=0.02))

    assert done.stop is not None
    assert done.stop.reason == "budget"


def test_a_canary_without_any_answer_stops_the_run(serve: Serve, articles: Any, job: Job, run: Run) -> None:
    patience = Patience(attempts=2, first_wait_s=0.001, fruitless=10)

    done = run(job(serve(Answer(status=500)), articles(50), questions=WITH_CANARY, pace=Pace(patience=patience)))

    assert done.stop is not None
    assert done.stop.reason == "no answers"
