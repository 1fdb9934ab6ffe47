"""Gemini's batch mode against a local server: a file of questions in, replies by key out."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from oracle_server import Answer, Ask

from distillery_trainer.oracle.protocol import (
    BatchResult,
    Call,
    OracleError,
    RefusedError,
    Reply,
    RetryError,
    Settings,
    TerminalError,
    Usage,
)
from distillery_trainer.oracle.providers.gemini import GeminiBatches, GeminiOracle

SCHEMA = {"type": "object", "properties": {"b": {"type": "number"}, "a": {"type": "number"}}}
CALLS = [Call(f"key-{i}", f"a{i}", "Score it.", f"Article {i}.") for i in range(3)]
Server = Any  # Any: OracleServer


def with_batches(server: Server, work: Callable[[GeminiBatches], Awaitable[Any]]) -> Any:  # Any: what the work gives
    async def run() -> Any:  # Any: as above
        batches = GeminiBatches(GeminiOracle("gemini-2.5-flash", Settings(), SCHEMA, "a-key", server.url, 5))
        try:
            return await work(batches)
        finally:
            await batches.close()

    return asyncio.run(run())


async def finished(batches: GeminiBatches) -> BatchResult:
    remote = await batches.submit("job-1", CALLS)
    for _ in range(10):
        if (result := await batches.fetch(remote)) is not None:
            return result
    raise AssertionError("the job does not end")


def number(ask: Ask) -> int:
    return int(ask.message[len("Article ") : -1])


def test_replies_are_matched_by_key_though_they_come_in_another_order(serve: Callable[..., Server]) -> None:
    server = serve(lambda ask: Answer(f'{{"a": {number(ask)}}}'), polls=3)

    result = with_batches(server, finished)

    assert list(result.replies) == ["key-2", "key-1", "key-0"]  # as the server wrote them
    assert result.replies["key-1"] == Reply('{"a": 1}', Usage(1000, 50), "gemini-2.5-flash-001")
    assert result.state == "succeeded"


def test_a_batch_asks_with_the_response_schema_that_batches_heed(serve: Callable[..., Server]) -> None:
    server = serve(Answer("{}"))

    with_batches(server, finished)

    config = server.asks[0].body["generationConfig"]
    assert "responseJsonSchema" not in config
    assert config["responseSchema"]["propertyOrdering"] == ["b", "a"]
    assert server.asks[0].instruction == "Score it."


def test_a_line_that_failed_says_why_and_the_others_are_there(serve: Callable[..., Server]) -> None:
    answers = [
        Answer(status=500, error={"code": 8, "message": "busy"}),
        Answer(status=400, error={"code": 3, "message": "too long"}),
        Answer('{"a": 1}'),
    ]
    server = serve(lambda ask: answers[number(ask)], batch_state="BATCH_STATE_PARTIALLY_SUCCEEDED")

    result = with_batches(server, finished)

    assert [type(result.replies[f"key-{i}"]) for i in range(3)] == [RetryError, RefusedError, Reply]


def test_a_line_that_is_missing_is_missing(serve: Callable[..., Server]) -> None:
    server = serve(lambda ask: Answer("{}", missing=number(ask) == 1))

    assert sorted(with_batches(server, finished).replies) == ["key-0", "key-2"]


def test_a_job_that_is_at_work_has_no_result(serve: Callable[..., Server]) -> None:
    server = serve(Answer("{}"), polls=5)

    async def poll_once(batches: GeminiBatches) -> BatchResult | None:
        return await batches.fetch(await batches.submit("job-1", CALLS))

    assert with_batches(server, poll_once) is None


def test_a_job_is_found_by_the_name_that_it_was_given(serve: Callable[..., Server]) -> None:
    server = serve(Answer("{}"))

    async def names(batches: GeminiBatches) -> tuple[str, str | None, str | None]:
        await batches.submit("job-0", CALLS)
        remote = await batches.submit("job-1", CALLS)
        return remote, await batches.find("job-1"), await batches.find("job-2")

    remote, found, missing = with_batches(server, names)

    assert (found, missing) == (remote, None)


def test_a_job_that_failed_has_no_replies_and_says_so(serve: Callable[..., Server]) -> None:
    server = serve(Answer("{}"), batch_state="BATCH_STATE_FAILED")

    assert with_batches(server, finished) == BatchResult({}, "failed")


@pytest.mark.parametrize(
    ("place", "status", "kind"),
    [("/upload/", 429, RetryError), (":batch", 503, RetryError), (":batch", 402, TerminalError), ("/upload/", 403,
     TerminalError)],
)  # fmt: skip
def test_a_job_that_cannot_be_started_says_what_to_do(
    serve: Callable[..., Server], place: str, status: int, kind: type[OracleError]
) -> None:
    server = serve(Answer("{}"))
    server.fail_next.append((place, Answer(status=status, error={"error": {"message": "no"}})))

    with pytest.raises(kind):
        with_batches(server, finished)

    assert server.asks == []
