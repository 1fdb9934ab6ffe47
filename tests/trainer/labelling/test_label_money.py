"""Labelling against a local server: no reply is paid twice, the budget holds, and a run goes on where it stopped."""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from oracle_server import Answer

from distillery_runtime.errors import InputError
from distillery_trainer.labelling.driver import Pace, Patience
from distillery_trainer.labelling.job import LabelJob, Money
from distillery_trainer.labelling.labeller import LabellingResult

CALL_USD = (1000 * 1 + 50 * 10) / 1e6
Serve = Callable[..., Any]  # Any: OracleServer
Script = Callable[[Any], Any]  # Any: Ask, Answer
Job = Callable[..., LabelJob]
Run = Callable[[LabelJob], LabellingResult]
Rows = Callable[[Path], list[dict[str, Any]]]


def test_the_cost_is_computed_from_each_replys_own_tokens(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, rows: Rows
) -> None:
    server = serve(lambda ask: Answer(reply(ask.message), 1000 + ask.number, 50, 400, 30))
    wanted = job(server, articles(5))

    done: Any = run(wanted).summary

    expected = [(600 + i + 0.1 * 400 + 10 * 80) / 1e6 for i in range(5)]
    assert [row["cost_usd"] for row in rows(wanted.out)] == pytest.approx(expected)
    assert done["cost_usd"]["paid"] == pytest.approx(sum(expected), abs=1e-6)
    assert done["calls"]["thinking_tokens"] == 150


def test_running_again_asks_nothing_and_writes_the_same(
    serve: Serve, good: Script, articles: Any, job: Job, run: Run
) -> None:
    server = serve(good)
    wanted = job(server, articles(12))
    run(wanted)
    first = wanted.out.read_bytes()

    done: Any = run(wanted).summary

    assert len(server.asks) == 12
    assert wanted.out.read_bytes() == first
    assert done["cost_usd"]["paid_now"] == 0
    assert done["cost_usd"]["paid"] == pytest.approx(12 * CALL_USD)


def test_more_articles_cost_only_themselves(serve: Serve, good: Script, articles: Any, job: Job, run: Run) -> None:
    server = serve(good)
    run(job(server, articles(8)))

    run(job(server, articles(11)))

    assert sorted(ask.number for ask in server.asks) == list(range(11))


@pytest.mark.parametrize("change", ["prompt", "settings"])
def test_another_prompt_or_setting_is_another_question(
    serve: Serve, good: Script, articles: Any, job: Job, run: Run, change: str
) -> None:
    server = serve(good)
    wanted = job(server, articles(4))
    run(wanted)

    if change == "prompt":
        prompt = wanted.filter_folder / "prompt.md"
        prompt.write_text(f"Be strict.\n{prompt.read_text()}")
    else:
        settings = replace(wanted.access.settings, temperature=0.5)
        wanted = replace(wanted, access=replace(wanted.access, settings=settings))
    run(wanted)

    assert len(server.asks) == 8


def test_the_same_text_under_two_ids_is_paid_once_and_labelled_twice(
    serve: Serve, good: Script, tmp_path: Path, job: Job, run: Run, rows: Rows
) -> None:
    file = tmp_path / "twins.jsonl"
    file.write_text("".join(json.dumps({"id": i, "text": "The same text."}) + "\n" for i in ("one", "two")))
    server = serve(good)
    wanted = job(server, file)

    run(wanted)

    one, two = rows(wanted.out)
    assert len(server.asks) == 1
    assert one["labels"] == two["labels"]
    assert (one["cost_usd"], two["cost_usd"]) == (pytest.approx(CALL_USD), 0)


def test_a_call_without_an_answer_in_time_counts_at_the_most_it_can_have_cost(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run
) -> None:
    server = serve(lambda ask: Answer(reply(ask.message), delay_s=60 if ask.times == 1 else 0))
    pace = Pace(timeout_s=1, patience=Patience(first_wait_s=0.01))

    done: Any = run(job(server, articles(1), pace=pace)).summary

    assert done["articles"]["labelled"] == 1
    assert done["calls"]["failed_by_reason"] == {"no answer in time": 1}
    assert done["cost_usd"]["unsure"] > 10 * 1024 / 1e6  # the whole output allowed


def test_a_time_out_of_a_server_in_between_may_have_been_paid(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run
) -> None:
    server = serve(lambda ask: Answer(reply(ask.message), status=504 if ask.times == 1 else 200))

    done: Any = run(job(server, articles(1), pace=Pace(patience=Patience(first_wait_s=0.01)))).summary

    assert done["articles"]["labelled"] == 1
    assert done["cost_usd"]["unsure"] > 10 * 1024 / 1e6  # as above
    assert done["cost_usd"]["unsure_likely"] == pytest.approx(CALL_USD)


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (Answer(status=402, error={"error": {"message": "Insufficient Balance"}}), "no credit"),
        (Answer(status=401, error={"error": {"message": "no"}}), "the key is not accepted"),
        (Answer(status=429, error={"error": {"code": "insufficient_quota"}}), "the quota is used up"),
    ],
)
def test_what_ends_all_stops_at_once(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, rows: Rows, answer: Answer, detail: str
) -> None:
    def script(ask: Any) -> Answer:  # Any: Ask
        return answer if ask.number >= 20 else Answer(reply(ask.message), delay_s=0.01)

    server = serve(script)
    wanted = job(server, articles(200), pace=Pace(concurrency=4))

    done = run(wanted)

    assert done.stop is not None
    assert done.stop.reason == "refused by the provider"
    assert detail in done.stop.detail
    assert len(server.asks) <= 20 + 4
    assert [row["id"] for row in rows(wanted.out)] == [f"a{i}" for i in range(20)]
    assert rows(wanted.dead) == []  # no article is to blame
    assert done.summary["state"] == "stopped"


def test_a_run_that_was_stopped_goes_on_where_it_was(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run
) -> None:
    has_credit = False

    def script(ask: Any) -> Answer:  # Any: Ask
        return Answer(reply(ask.message)) if has_credit or ask.number < 10 else Answer(status=402)

    server = serve(script)
    wanted = job(server, articles(30), pace=Pace(concurrency=2))
    run(wanted)
    before = len(server.asks)
    has_credit = True

    done: Any = run(wanted).summary

    assert done["articles"]["labelled"] == 30
    assert len(server.asks) == before + 20


@pytest.mark.parametrize("concurrency", [1, 16])
@pytest.mark.parametrize("output_tokens", [50, 1024])
def test_the_budget_is_never_overshot(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, concurrency: int, output_tokens: int
) -> None:
    """Not even where every call uses all the output that it is allowed, and many are under way when money ends."""
    call_usd = (1000 * 1 + output_tokens * 10) / 1e6
    server = serve(lambda ask: Answer(reply(ask.message), 1000, output_tokens, delay_s=0.02))
    wanted = job(server, articles(200), max_usd=0.1, pace=Pace(concurrency=concurrency))

    done = run(wanted)

    assert done.stop is not None
    assert done.stop.reason == "budget"
    assert 0.1 - 0.015 <= len(server.asks) * call_usd <= 0.1  # less than what one call can cost at most is left


def test_a_larger_budget_goes_on_and_the_old_one_counts_what_was_paid(
    serve: Serve, good: Script, articles: Any, job: Job, run: Run
) -> None:
    server = serve(good)
    run(job(server, articles(60), max_usd=0.05))
    before = len(server.asks)

    stopped = run(job(server, articles(60), max_usd=0.05))
    assert (stopped.stop is not None, len(server.asks)) == (True, before)
    done = run(job(server, articles(60), max_usd=0.2))

    assert done.stop is None
    assert len(server.asks) == 60


def test_two_processes_never_pay_from_one_ledger_at_once(
    serve: Serve, good: Script, articles: Any, job: Job, run: Run
) -> None:
    from distillery_trainer.labelling.ledger import open_ledger

    wanted = job(serve(good), articles(2))

    with open_ledger(wanted.ledger), pytest.raises(InputError, match="another process is labelling"):
        run(wanted)


@pytest.mark.parametrize("service", ["gemini", "vllm"])
def test_the_key_is_in_no_file(
    serve: Serve, articles: Any, job: Job, run: Run, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "a-key-that-nobody-may-see"
    monkeypatch.setenv("VLLM_API_KEY", key)
    server = serve(lambda ask: Answer(status=401, error={"error": {"message": f"{key} is wrong", "status": key}}))

    run(job(server, articles(3), service=service))

    assert any(key in str(ask.headers) for ask in server.asks)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in written if key.encode() in path.read_bytes()] == []


def test_the_ledger_tells_what_was_asked_and_refuses_to_be_changed(
    serve: Serve, good: Script, articles: Any, job: Job, run: Run
) -> None:
    wanted = job(serve(good), articles(3))
    run(wanted)

    with sqlite3.connect(wanted.ledger) as connection:
        ((record,),) = connection.execute("SELECT record FROM askings").fetchall()
        for table in ("calls", "outcomes", "askings", "jobs", "about"):
            for change in (f"DELETE FROM {table}", f"UPDATE {table} SET rowid = rowid + 1"):
                rows = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                if rows:
                    with pytest.raises(sqlite3.IntegrityError, match="only added to"):
                        connection.execute(change)
    assert json.loads(record)["model"] == "a-model"
    assert "{{" not in json.loads(record)["instruction"]


def test_what_is_free_needs_no_budget_though_the_ledger_has_paid_before(
    serve: Serve, good: Script, articles: Any, job: Job, run: Run
) -> None:
    server = serve(good)
    run(job(server, articles(3)))

    free = replace(job(server, articles(5), max_usd=0), money=Money(0.0, "input=0,output=0"))

    assert run(free).stop is None
    assert len(server.asks) == 5
