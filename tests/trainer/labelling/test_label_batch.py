"""Labelling in batches against a local server: jobs within the budget, matched by key, found again after a kill."""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from label_worker import Worker
from oracle_server import Answer

from distillery_runtime.errors import InputError
from distillery_trainer.labelling.driver import BatchLimits, Pace, Patience
from distillery_trainer.labelling.job import LabelJob, Questions
from distillery_trainer.labelling.labeller import LabellingResult

PRICE = "input=1,cached=0.1,output=10,batch=0.5"
CALL_USD = 0.5 * (1000 * 1 + 50 * 10) / 1e6
SMALL = BatchLimits(max_calls=8, poll_s=0.01)
Serve = Callable[..., Any]  # Any: OracleServer
Script = Callable[[Any], Any]  # Any: Ask, Answer
Run = Callable[[LabelJob], LabellingResult]
Rows = Callable[[Path], list[dict[str, Any]]]


@pytest.fixture
def batch(job: Callable[..., LabelJob]) -> Callable[..., LabelJob]:
    """Makes a job in batch mode."""

    def make(server: Any, file: Path, size: BatchLimits = SMALL, **changes: Any) -> LabelJob:  # Any: OracleServer
        pace = Pace(patience=Patience(attempts=3, first_wait_s=0.01), batch_limits=size)
        return job(server, file, service="gemini", is_batch=True, pace=pace, **changes)

    return make


def test_every_article_is_labelled_by_jobs_of_limited_size_at_the_batch_price(
    serve: Serve, good: Script, articles: Any, batch: Any, run: Run, rows: Rows
) -> None:
    server = serve(good, polls=3)
    wanted = batch(server, articles(20))

    done: Any = run(wanted).summary

    assert len(server.jobs) == 3
    assert [row["id"] for row in rows(wanted.out)] == [f"a{i}" for i in range(20)]
    assert done["cost_usd"]["paid"] == pytest.approx(20 * CALL_USD)
    assert done["oracle"]["mode"] == "batch"


def test_labels_belong_to_their_articles_though_lines_come_in_another_order(
    serve: Serve, reply: Any, articles: Any, batch: Any, run: Run, rows: Rows
) -> None:
    server = serve(lambda ask: Answer(reply(ask.message, relevance=ask.number / 2)))
    wanted = batch(server, articles(16))

    run(wanted)

    assert [row["labels"]["relevance"] for row in rows(wanted.out)] == [i / 2 for i in range(16)]


def test_the_canary_is_a_job_of_its_own(serve: Serve, good: Script, articles: Any, batch: Any, run: Run) -> None:
    server = serve(good)

    run(batch(server, articles(50), BatchLimits(poll_s=0.01), questions=Questions()))

    sizes = [server.files[name].count(b"\n") for name in sorted(server.files) if name.startswith("files/in")]
    assert sizes == [20, 30]


def test_lines_that_failed_or_are_missing_are_asked_for_again_and_no_others(
    serve: Serve, reply: Any, articles: Any, batch: Any, run: Run, rows: Rows
) -> None:
    def script(ask: Any) -> Answer:  # Any: Ask
        if ask.times == 1 and ask.number == 3:
            return Answer(status=503, error={"code": 14, "message": "busy"})
        return Answer(reply(ask.message), missing=ask.times == 1 and ask.number == 5)

    server = serve(script)
    wanted = batch(server, articles(8))

    done: Any = run(wanted).summary

    assert len(server.asks) == 10
    assert len(rows(wanted.out)) == 8
    assert done["calls"]["failed_by_reason"] == {"a fault of the server": 1, "missing from the batch": 1}
    assert done["cost_usd"]["unsure"] > 0  # what is missing may have been paid


def test_a_batch_that_loses_half_of_its_lines_is_gone_on_with(
    serve: Serve, reply: Any, articles: Any, batch: Any, run: Run
) -> None:
    server = serve(lambda ask: Answer(reply(ask.message), missing=ask.times == 1 and ask.number < 60))

    done: Any = run(batch(server, articles(120), BatchLimits(poll_s=0.01)))

    assert done.stop is None
    assert done.summary["articles"]["labelled"] == 120


def test_a_batch_without_any_reply_is_the_last_one(serve: Serve, articles: Any, batch: Any, run: Run) -> None:
    server = serve(Answer("{}", missing=True))

    done: Any = run(batch(server, articles(40)))

    assert done.stop.reason == "no answers"
    assert len(server.jobs) == 1


def test_a_line_that_is_refused_is_a_dead_letter(
    serve: Serve, reply: Any, articles: Any, batch: Any, run: Run, rows: Rows
) -> None:
    def script(ask: Any) -> Answer:  # Any: Ask
        if ask.number == 2:
            return Answer(status=400, error={"code": 3, "message": "too long"})
        return Answer(reply(ask.message)[:-4] if ask.number == 4 else reply(ask.message))

    server = serve(script)
    wanted = batch(server, articles(8))

    run(wanted)

    assert [(row["id"], row["reason"]) for row in rows(wanted.dead)] == [
        ("a2", "the request was not accepted"),
        ("a4", "not of the schema"),
    ]


def test_jobs_never_overshoot_the_budget(serve: Serve, good: Script, articles: Any, batch: Any, run: Run) -> None:
    server = serve(good)

    done = run(batch(server, articles(100), BatchLimits(poll_s=0.01), max_usd=0.05))

    assert done.stop is not None
    assert done.stop.reason == "budget"
    assert 0.05 - 0.01 <= len(server.asks) * CALL_USD <= 0.05


@pytest.mark.parametrize("status", [402, 400])
def test_a_job_that_is_refused_stops_all(
    serve: Serve, good: Script, articles: Any, batch: Any, run: Run, status: int
) -> None:
    server = serve(good)
    server.fail_next.append((":batchGenerateContent", Answer(status=status, error={"error": {"message": "no"}})))

    done: Any = run(batch(server, articles(20)))

    assert done.stop.reason == "refused by the provider"
    assert server.asks == []
    assert done.summary["cost_usd"]["unsure"] == 0


def test_a_job_that_fails_as_a_whole_stops_all_and_costs_nothing(
    serve: Serve, good: Script, articles: Any, batch: Any, run: Run
) -> None:
    done: Any = run(batch(serve(good, batch_state="BATCH_STATE_FAILED"), articles(20)))

    assert done.stop.reason == "refused by the provider"
    assert len(done.summary["calls"]["by_outcome"]) == 1
    assert (done.summary["cost_usd"]["paid"], done.summary["cost_usd"]["unsure"]) == (0, 0)


@pytest.mark.parametrize("place", ["/upload/", ":batchGenerateContent", "/v1beta/batches/", ":download"])
def test_faults_on_the_way_are_waited_out_and_no_job_is_started_twice(
    serve: Serve, good: Script, articles: Any, batch: Any, run: Run, place: str
) -> None:
    server = serve(good)
    server.fail_next.append((place, Answer(status=503, error={"error": {"message": "busy"}})))

    done: Any = run(batch(server, articles(8))).summary

    assert done["articles"]["labelled"] == 8
    assert len(server.asks) == 8


def test_a_job_whose_start_was_not_confirmed_is_not_started_again(
    serve: Serve, reply: Any, articles: Any, batch: Any, run: Run
) -> None:
    """The server works the request off, and the connection breaks before its answer."""

    def script(ask: Any) -> Answer:  # Any: Ask
        server.break_reply = True
        return Answer(reply(ask.message))

    server = serve(script)

    done: Any = run(batch(server, articles(8))).summary

    assert done["articles"]["labelled"] == 8
    assert len(server.asks) == 8


def test_a_job_that_may_have_begun_is_not_given_up_where_the_look_for_it_is_refused(
    serve: Serve, reply: Any, articles: Any, batch: Any, run: Run
) -> None:
    def script(ask: Any) -> Answer:  # Any: Ask
        if ask.number == 0:
            server.break_reply = True
            server.fail_next.append(("/v1beta/batches", Answer(status=401, error={"error": {"message": "no"}})))
        return Answer(reply(ask.message))

    server = serve(script)
    wanted = batch(server, articles(8))
    first = run(wanted)

    done: Any = run(wanted).summary

    assert first.stop is not None
    assert done["articles"]["labelled"] == 8
    assert len(server.asks) == 8


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker({"GEMINI_API_KEY": "a-key"}) as worker:
        yield worker


def begun(worker: Worker, server: Any, wanted: LabelJob, when: str) -> int:  # Any: OracleServer
    """Runs a job in a process of its own until the server gets a request of this kind, and gives its process id."""
    files = ["--articles", str(wanted.articles[0]), "--out", str(wanted.out)]
    oracle = ["--oracle", "gemini", "--model", "a-model", "--base-url", server.url, "--price", PRICE, "--batch"]
    settings = ["--thinking-tokens", "auto", "--canary", "0", "--max-usd", "5"]
    pid = worker.start(["label", "--filter", str(wanted.filter_folder), *files, *oracle, *settings])
    for _ in range(2000):
        if any(when in request for request in server.requests):
            return pid
        time.sleep(0.005)
    raise AssertionError(f"no {when}")


@pytest.mark.parametrize("when", ["POST /upload/", ":batchGenerateContent", "GET /v1beta/batches/job0"])
def test_a_kill_loses_no_job(
    serve: Serve, reply: Any, articles: Any, batch: Any, run: Run, rows: Rows, worker: Worker, when: str
) -> None:
    server = serve(lambda ask: Answer(reply(ask.message)), polls=4)
    wanted = batch(server, articles(8))
    assert worker.kill(begun(worker, server, wanted, when)) == -signal.SIGKILL

    done: Any = run(wanted)

    assert done.stop is None
    assert len(rows(wanted.out)) == 8
    assert len(server.asks) == 8
    assert done.summary["cost_usd"]["unsure"] == 0


def test_a_job_whose_replies_are_gone_ends_as_perhaps_paid_and_its_questions_are_asked_again(
    serve: Serve, reply: Any, articles: Any, batch: Any, run: Run, rows: Rows, worker: Worker
) -> None:
    server = serve(lambda ask: Answer(reply(ask.message)), polls=4)
    wanted = batch(server, articles(8))
    worker.kill(begun(worker, server, wanted, "GET /v1beta/batches/job0"))
    del server.files["files/out0"]  # a provider keeps them for some days

    first: Any = run(wanted)
    done: Any = run(wanted).summary

    assert first.stop.reason == "no answers"
    assert "keeps no longer" in first.stop.detail
    assert len(rows(wanted.out)) == 8
    assert len(server.asks) == 16
    assert done["cost_usd"]["unsure"] > 0


def test_a_job_under_way_is_not_asked_live_too(
    serve: Serve, good: Script, articles: Any, batch: Any, run: Run, worker: Worker
) -> None:
    server = serve(good, polls=10**9)
    wanted = batch(server, articles(8))
    worker.kill(begun(worker, server, wanted, "GET /v1beta/batches/job0"))

    with pytest.raises(InputError, match="a batch with these questions is under way"):
        run(replace(wanted, is_batch=False))


@pytest.mark.slow  # test_label_kills has the same with live calls
def test_ctrl_c_leaves_a_job_at_work_which_the_same_command_brings_in(
    serve: Serve, good: Script, articles: Any, batch: Any, run: Run, rows: Rows, worker: Worker
) -> None:
    server = serve(good, polls=10**9)
    wanted = batch(server, articles(8))
    pid = begun(worker, server, wanted, "GET /v1beta/batches/job0")

    start = time.monotonic()
    code = worker.kill(pid, signal.SIGINT)
    server.polls = 1
    run(wanted)

    assert code == 130
    assert time.monotonic() - start < 10  # between two looks at a job lie thirty seconds
    assert (len(rows(wanted.out)), len(server.asks)) == (8, 8)
