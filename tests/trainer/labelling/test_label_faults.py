"""Labelling against a local server that fails: what is tried again, what is given up, what becomes a dead letter."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from oracle_server import Answer

from distillery_trainer.labelling.driver import Pace, Patience
from distillery_trainer.labelling.job import LabelJob
from distillery_trainer.labelling.labeller import LabellingResult

SHORT_WAITS = Pace(patience=Patience(first_wait_s=0.001))
CALL_USD = (1000 * 1 + 50 * 10) / 1e6
Serve = Callable[..., Any]  # Any: OracleServer
Script = Callable[[Any], Any]  # Any: Ask, Answer
Job = Callable[..., LabelJob]
Run = Callable[[LabelJob], LabellingResult]
Rows = Callable[[Path], list[dict[str, Any]]]


def test_half_a_character_in_a_reply_is_a_dead_letter_like_another(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, rows: Rows
) -> None:
    server = serve(lambda ask: Answer('"\ud83d"' if ask.number == 2 else reply(ask.message)))
    wanted = job(server, articles(5))

    run(wanted)

    assert [letter["id"] for letter in rows(wanted.dead)] == ["a2"]
    assert len(rows(wanted.out)) == 4


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"raw": '{"relevance": 5'}, "not JSON"),
        ({"raw": "Here is the JSON: {}"}, "not JSON"),
        ({"raw": "[]"}, "list"),
        ({"relevance": 11}, "relevance"),
        ({"relevance": 5.3}, "relevance"),
        ({"relevance": "5"}, "relevance"),
        ({"tier": "high"}, "tier"),
    ],
)
def test_a_reply_that_is_not_of_the_schema_is_a_dead_letter_with_its_raw_text(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, rows: Rows, changes: dict[str, Any], detail: str
) -> None:
    def bad(ask: Any) -> str:  # Any: Ask
        return str(changes.get("raw") or reply(ask.message, **changes))

    server = serve(lambda ask: Answer(bad(ask) if ask.number == 2 else reply(ask.message)))
    wanted = job(server, articles(4))

    done: Any = run(wanted).summary

    (letter,) = rows(wanted.dead)
    assert (letter["id"], letter["reason"]) == ("a2", "not of the schema")
    assert detail in letter["detail"]
    assert letter["raw"] == bad(next(ask for ask in server.asks if ask.number == 2))
    assert letter["cost_usd"] == pytest.approx(CALL_USD)
    assert len(server.asks) == 4  # nothing is paid twice
    assert done["articles"]["labelled"] == 3


def test_dead_letters_are_asked_about_again_only_when_told(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, rows: Rows
) -> None:
    server = serve(lambda ask: Answer("no" if ask.number == 2 and ask.times == 1 else reply(ask.message)))
    wanted = job(server, articles(4))
    run(wanted)
    run(wanted)
    assert len(server.asks) == 4

    done = run(replace(wanted, questions=replace(wanted.questions, asks_dead_again=True)))

    assert len(server.asks) == 5
    assert done.stop is None
    assert rows(wanted.dead) == []
    assert rows(wanted.out)[2]["cost_usd"] == pytest.approx(2 * CALL_USD)


def test_passing_faults_are_waited_out_and_cost_nothing(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run
) -> None:
    def script(ask: Any) -> Answer:  # Any: Ask
        if ask.times == 1 and ask.number % 3 == 0:
            return Answer(status=503, error={"error": {"message": "busy"}})
        if ask.times == 1 and ask.number % 3 == 1:
            return Answer(status=429, error={"error": {"message": "slow"}}, headers={"Retry-After": "0.05"})
        return Answer(reply(ask.message))

    server = serve(script)

    done: Any = run(job(server, articles(12))).summary

    assert done["articles"]["labelled"] == 12
    assert done["calls"]["by_outcome"] == {"failed": 8, "reply": 12}
    assert done["cost_usd"] == done["cost_usd"] | {"paid": pytest.approx(12 * CALL_USD), "unsure": 0}


def test_a_server_that_asks_to_wait_is_left_alone_by_all(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run
) -> None:
    times: list[float] = []

    def script(ask: Any) -> Answer:  # Any: Ask
        times.append(time.monotonic())
        if len(times) == 1:
            return Answer(status=429, headers={"Retry-After": "0.4"})
        return Answer(reply(ask.message), delay_s=0.05)

    run(job(serve(script), articles(8), pace=Pace(concurrency=3)))

    assert len(times) == 9
    assert min(times[3:]) - times[0] >= 0.4  # three were under way at once


def test_what_gets_no_answer_at_all_is_a_dead_letter_and_asked_about_next_time(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, rows: Rows
) -> None:
    heals = False

    def script(ask: Any) -> Answer:  # Any: Ask
        return Answer(status=500) if ask.number == 1 and not heals else Answer(reply(ask.message))

    wanted = job(serve(script), articles(3), pace=Pace(patience=Patience(attempts=2, first_wait_s=0.01)))
    run(wanted)
    (letter,) = rows(wanted.dead)
    heals = True

    done: Any = run(wanted).summary

    assert (letter["id"], letter["reason"], letter["calls"], letter["cost_usd"]) == (
        "a1",
        "a fault of the server",
        6,
        0,
    )
    assert done["articles"]["labelled"] == 3


def test_a_server_that_answers_nothing_is_given_up(serve: Serve, articles: Any, job: Job, run: Run) -> None:
    server = serve(Answer(status=500))
    patience = Patience(attempts=3, first_wait_s=0.001, fruitless=20)

    done = run(job(server, articles(300), pace=Pace(concurrency=2, patience=patience)))

    assert done.stop is not None
    assert done.stop.reason == "no answers"
    assert 20 <= len(server.asks) <= 21


class Nowhere:
    """A server that is not there: nobody listens on the discard port, and no name ends in `.invalid`."""

    def __init__(self, url: str) -> None:
        self.url = url


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://oracle.invalid"])
@pytest.mark.parametrize("service", ["vllm", "gemini"])
def test_a_server_that_is_not_there_is_given_up_after_three_calls(
    articles: Any, job: Job, run: Run, url: str, service: str
) -> None:
    done: Any = run(job(Nowhere(url), articles(30), service=service, pace=SHORT_WAITS))

    assert done.stop.reason == "no answers"
    assert url.removeprefix("http://") in done.stop.detail
    assert done.summary["calls"]["by_outcome"] == {"failed": 3}


@pytest.mark.parametrize("answer", [
    Answer(drop=True), Answer(raw_body=b"<html>Welcome</html>"), Answer(raw_body=b"[]"), Answer(raw_body=b"{}"),
    Answer(raw_body=b'{"error": "Unexpected endpoint or method. (POST /chat/completions)"}'),
])  # fmt: skip
def test_a_server_that_is_no_oracle_is_given_up_after_three_calls(
    serve: Serve, articles: Any, job: Job, run: Run, answer: Answer
) -> None:
    server = serve(answer)

    done = run(job(server, articles(30), pace=SHORT_WAITS))

    assert done.stop is not None
    assert server.url in done.stop.detail
    assert len(server.asks) == 3


def test_a_plain_server_asked_by_tls_is_given_up_after_three_calls(
    serve: Serve, articles: Any, job: Job, run: Run
) -> None:
    url = serve(Answer("{}")).url.replace("http:", "https:")

    done: Any = run(job(Nowhere(url), articles(30), pace=SHORT_WAITS))

    assert url in done.stop.detail
    assert done.summary["calls"]["by_outcome"] == {"failed": 3}


@pytest.mark.parametrize("fault", [Answer(drop=True), Answer(raw_body=b"<html>busy</html>")])
def test_an_oracle_that_has_answered_may_be_away_for_a_while(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, fault: Answer
) -> None:
    server = serve(lambda ask: fault if 3 <= len(server.asks) <= 12 else Answer(reply(ask.message)))

    done: Any = run(job(server, articles(20))).summary

    assert done["articles"]["labelled"] == 20


def test_an_oracle_that_begins_to_talk_nonsense_is_stopped(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run
) -> None:
    server = serve(lambda ask: Answer(reply(ask.message) if ask.number < 60 else "So be it."))

    done = run(job(server, articles(300), pace=Pace(concurrency=2, patience=Patience(window=20))))

    assert done.stop is not None
    assert done.stop.reason == "unusable replies"
    assert len(server.asks) <= 60 + 20


def test_no_more_calls_are_under_way_than_allowed(serve: Serve, reply: Any, articles: Any, job: Job, run: Run) -> None:
    now, most = 0, 0

    def script(ask: Any) -> Answer:  # Any: Ask
        nonlocal now, most
        now += 1
        most = max(most, now)
        time.sleep(0.01)
        now -= 1
        return Answer(reply(ask.message))

    run(job(serve(script), articles(40), pace=Pace(concurrency=5)))

    assert 2 <= most <= 5


@pytest.mark.parametrize("body", [b"[" * 100_000, b"null", b"[]", b'{"choices": 1}', b"\xff\xfe", b""])
@pytest.mark.parametrize("status", [200, 400])
def test_no_body_of_a_response_ends_in_a_traceback(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, body: bytes, status: int
) -> None:
    odd = Answer(status=status, raw_body=body)
    server = serve(lambda ask: odd if ask.number == 1 else Answer(reply(ask.message)))

    done: Any = run(job(server, articles(3), pace=Pace(patience=Patience(attempts=2, first_wait_s=0.001)))).summary

    assert done["articles"]["labelled"] == 2


def test_calls_under_way_are_brought_in_though_one_ends_in_a_fault_of_ours(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distillery_trainer.labelling.driver import CircuitBreaker

    server = serve(lambda ask: Answer(reply(ask.message), delay_s=0.3))
    wanted = job(server, articles(8), pace=Pace(concurrency=8))
    note = CircuitBreaker.note

    def faulty(self: Any, outcomes: Any) -> Any:  # Any: those of `note`
        noted.append(outcomes)
        if len(noted) == 2:  # the first call goes alone, the other seven together
            raise ZeroDivisionError
        return note(self, outcomes)

    noted: list[Any] = []
    monkeypatch.setattr(CircuitBreaker, "note", faulty)
    with pytest.raises(ZeroDivisionError):
        run(wanted)
    asked = len(server.asks)

    done: Any = run(wanted).summary

    assert done["articles"]["labelled"] == 8
    assert len(server.asks) == asked == 8
