"""A reply is judged by its text: the word by which a provider ends it decides only what becomes of one that is none."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from oracle_server import Answer, completion

from distillery_trainer.filters.reply import parse_reply
from distillery_trainer.labelling.job import LabelJob
from distillery_trainer.labelling.labeller import LabellingResult
from distillery_trainer.labelling.ledger import Outcome, PastCall
from distillery_trainer.labelling.state import state_of
from distillery_trainer.oracle.protocol import OracleError, RefusedError, RetryError, TerminalError
from distillery_trainer.oracle.providers.openai_compatible import read_completion

Serve = Callable[..., Any]  # Any: OracleServer
Job = Callable[..., LabelJob]
Run = Callable[[LabelJob], LabellingResult]
Rows = Callable[[Path], list[dict[str, Any]]]
WORDS = ["stop", "eos", "eos_token", "STOP", "end_turn", "stop_sequence", "tool_calls", "length", "MAX_TOKENS",
         "filter", "SAFETY", "OTHER", "error", "abort", "insufficient_system_resource", "a-word-of-tomorrow", "",
         None]  # fmt: skip
URL = "http://nowhere/v1/chat/completions"


@pytest.mark.parametrize(("service", "is_batch"), [("vllm", False), ("gemini", False), ("gemini", True)])
def test_a_whole_valid_reply_is_a_reply_however_it_ended(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, rows: Rows, service: str, is_batch: bool
) -> None:
    server = serve(lambda ask: Answer(reply(ask.message), finish=WORDS[ask.number]))
    wanted = job(server, articles(len(WORDS)), service=service, is_batch=is_batch)

    done: Any = run(wanted).summary

    assert rows(wanted.dead) == []
    assert done["calls"]["by_outcome"] == {"reply": len(WORDS)}
    assert len(server.asks) == len(WORDS)  # none of them twice


@pytest.mark.parametrize("word", [
    "error", "abort", "insufficient_system_resource", "cancelled", "USER_CANCEL", "internal_error", "server_error",
    "timeout", "time_limit", "DEADLINE_EXCEEDED", "overloaded", "not_finished", "failed",
])  # fmt: skip
def test_a_reply_that_the_server_broke_off_is_asked_for_again(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, word: str
) -> None:
    server = serve(lambda ask: Answer('{"rel', finish=word) if ask.times == 1 else Answer(reply(ask.message)))

    done: Any = run(job(server, articles(3))).summary

    assert (done["articles"]["labelled"], len(server.asks)) == (3, 6)


@pytest.mark.parametrize("body", [
    {"error": {"code": 502, "message": "Provider returned error"}},
    {"error": {"message": "overloaded"}, "choices": []},
    {"error": {"code": "rate", "message": "slow down"}},
    {"choices": [{"finish_reason": "error", "message": {"content": ""}, "error": {"code": 500, "message": "m"}}]},
    {"choices": [{"finish_reason": "stop", "message": {"content": "{"}}], "error": {"code": 400, "message": "m"}},
])  # fmt: skip
def test_an_error_in_a_body_with_status_200_is_asked_about_again(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, body: Mapping[str, Any]
) -> None:
    failed = Answer(raw_body=json.dumps(body).encode())
    server = serve(lambda ask: failed if ask.times == 1 else Answer(reply(ask.message)))

    done: Any = run(job(server, articles(2))).summary

    assert (done["articles"]["labelled"], len(server.asks)) == (2, 4)
    assert done["calls"]["failed_by_reason"] == {"a fault of the server": 2}


def failure(**changes: Any) -> OracleError:  # Any: parts of a completion
    """What a chat completion with these changes of its choice is taken for."""
    choice = {"finish_reason": "stop", "message": {"content": ""}} | changes
    with pytest.raises(OracleError) as caught:
        read_completion({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}, "m", URL)
    return caught.value


@pytest.mark.parametrize(("changes", "reason"), [
    ({"finish_reason": "content_filter"}, "blocked by the provider"),
    ({"finish_reason": "length"}, "cut short"),
    ({"finish_reason": "stop"}, "an empty reply"),
    ({"finish_reason": "eos", "message": {"content": None}}, "an empty reply"),
    ({"finish_reason": "tool_calls", "message": {"tool_calls": [{}]}}, "an empty reply"),
    ({"message": {"content": " \n"}}, "an empty reply"),
    ({"message": {"content": None, "refusal": "I will not."}}, "refused by the model"),
    ({"finish_reason": "a-word-of-tomorrow", "message": {"content": '{"rel'}}, "cut short"),
    ({"finish_reason": "ERROR_LIMIT", "message": {"content": '{"rel'}}, "cut short"),
    ({"finish_reason": "token_limit", "message": {"content": '{"rel'}}, "cut short"),
    ({"finish_reason": "ERROR_TOXIC"}, "blocked by the provider"),
    ({"finish_reason": "guardrail_intervened"}, "blocked by the provider"),
])  # fmt: skip
def test_what_is_no_reply_says_why_with_what_was_paid(changes: dict[str, Any], reason: str) -> None:
    error = failure(**changes)

    assert isinstance(error, RefusedError)
    assert error.reason == reason
    assert error.usage is not None


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_without_an_answer_are_no_reply_and_say_what_to_change(name: str) -> None:
    error = failure(message={"content": "", name: '{"relevance": 5, "evidence_quality": 5}'})

    assert (error.reason, error.raw) == ("an empty reply", "")
    assert "--max-output-tokens" in error.detail


@pytest.mark.parametrize(("error", "kind"), [
    ({"code": 402, "message": "no credit"}, TerminalError),
    ({"code": 401, "message": "no key"}, TerminalError),
    ({"code": "insufficient_quota"}, TerminalError),
    ({"code": [], "message": None}, RetryError),
    ("Unexpected endpoint or method", RetryError),
    (None, RetryError),
])  # fmt: skip
def test_an_error_with_status_200_stops_only_where_no_call_can_succeed(error: object, kind: type[OracleError]) -> None:
    with pytest.raises(kind):
        read_completion({"error": error}, "m", URL)


@pytest.mark.parametrize(("content", "raw"), [
    ("{}", "{}"),
    ([{"type": "text", "text": '{"a": '}, {"type": "text", "text": "1}"}], '{"a": 1}'),
    ([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "{}"}], "{}"),
    ([{"type": "output_text", "text": "{}"}], "{}"),
    ([{"type": "image_url", "image_url": {}}, {"type": "text", "text": "{}"}],
     '[{"type": "image_url", "image_url": {}}, {"type": "text", "text": "{}"}]'),
    ([{"type": "refusal", "refusal": "No."}], '[{"type": "refusal", "refusal": "No."}]'),
    ({"a": 1}, '{"a": 1}'),
])  # fmt: skip
def test_content_in_parts_is_the_text_of_its_text_parts(content: object, raw: str) -> None:
    body = completion(Answer(), "m")
    body["choices"][0]["message"]["content"] = content

    assert read_completion(body, "m", URL).raw == raw


def test_a_ledger_of_before_that_refused_a_valid_reply_has_a_label(spec: Any, reply: Any) -> None:
    refused = Outcome("refused", 0.1, is_known=True, reason="cut short", detail="eos", raw=reply("an article"))

    state = state_of(PastCall(1, "key", "live", refused, 0.1), lambda raw: parse_reply(raw, spec))

    assert state.status == "labelled"
