"""Progress lines of labelling: every few seconds, from the canary on, live and in batches, whatever stderr is."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from oracle_server import Answer

from distillery_trainer.labelling.driver import BatchLimits, Pace, progress_line, reporting
from distillery_trainer.labelling.job import LabelJob, Questions, prepare
from distillery_trainer.labelling.labeller import label

LONGEST_S = 10
WAIT_S = 20  # of a server for a line that does not come
Serve = Callable[..., Any]  # Any: OracleServer
Job = Callable[..., LabelJob]


def test_a_line_is_said_each_time_that_the_clock_has_gone_round() -> None:
    waited: list[float] = []
    said: list[str] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) > 3:
            done.set()
            await asyncio.Event().wait()

    async def work() -> None:
        async with reporting(lambda: f"line {len(said)}", said.append, 7.0, sleep):
            await done.wait()

    done = asyncio.Event()
    asyncio.run(work())

    assert said == ["line 0", "line 1", "line 2"]
    assert set(waited) == {7.0}


def test_lines_come_at_least_every_ten_seconds() -> None:
    assert Pace().news_s < LONGEST_S


def test_a_line_tells_rate_and_time_left_as_soon_as_something_is_done() -> None:
    first, later = progress_line(0, 2000, 8, 0.0, 16), progress_line(500, 2000, 8, 0.25, 600)

    assert "a minute" not in first
    assert "50 a minute" in later
    assert "30 min left" in later


@pytest.mark.parametrize(("mode", "expected"), [
    ("canary", "canary: 0 of 5 questions, 1 calls under way"),
    ("live", "0 of 5 questions, 1 calls under way"),
    ("batch", "questions, $0.0000 paid; batch distillery-"),
])  # fmt: skip
def test_nobody_waits_for_an_answer_without_a_line(
    serve: Serve, reply: Any, articles: Any, job: Job, monkeypatch: pytest.MonkeyPatch, mode: str, expected: str
) -> None:
    """The server does not answer before a line was said."""
    monkeypatch.setenv("GEMINI_API_KEY", "a-key")
    said: list[str] = []
    heard = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        if expected in line:
            heard.set()

    def script(ask: Any) -> Answer:  # Any: Ask
        if mode != "batch":
            heard.wait(WAIT_S)
        return Answer(reply(ask.message))

    server = serve(script, polls=3)
    pace = Pace(news_s=0.01, batch_limits=BatchLimits(poll_s=0.1))
    wanted = job(
        server, articles(5), service="gemini" if mode == "batch" else "vllm", pace=pace, is_batch=mode == "batch"
    )
    wanted = replace(wanted, questions=Questions(canary=5 if mode == "canary" else 0))

    label(prepare(wanted), say)

    assert heard.is_set(), said
