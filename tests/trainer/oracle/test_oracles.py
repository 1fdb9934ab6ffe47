"""Both clients against a local server: what they send, what they make of each way of answering."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from oracle_server import Answer

from distillery_runtime.spec.reading import parse_spec
from distillery_trainer.filters.prompt import reply_schema
from distillery_trainer.filters.scaffold import CONFIG
from distillery_trainer.oracle.protocol import (
    Call,
    OracleError,
    RefusedError,
    Reply,
    RetryError,
    Settings,
    TerminalError,
    Usage,
)
from distillery_trainer.oracle.providers.gemini import GeminiOracle
from distillery_trainer.oracle.providers.openai_compatible import ChatOracle
from distillery_trainer.oracle.reply_schema import plain_schema
from distillery_trainer.oracle.services import CHAT_SERVICES, Access, address_and_body

KEY = "a-key-that-nobody-may-see"
CALL = Call("key-1", "a1", "Score it.", "An article.")
SCHEMA = {
    "type": "object",
    "properties": {
        "relevance": {"type": "number", "minimum": 0, "maximum": 10, "multipleOf": 0.5},
        "flags": {"type": "array", "items": {"type": "string", "enum": ["advert", "rumour"]}},
    },
    "required": ["relevance", "flags"],
    "additionalProperties": False,
}
GOOGLE_ERROR = {"code": 0, "status": "", "message": "said by the server"}
Server = Any  # Any: OracleServer


OFF = Settings(thinking_tokens=0)
PLAIN = Settings()


def gemini(server: Server, settings: Settings = OFF, timeout_s: float = 5) -> GeminiOracle:
    return GeminiOracle("gemini-2.5-flash", settings, SCHEMA, KEY, server.url, timeout_s)


def chat(server: Server, settings: Settings = PLAIN, timeout_s: float = 5) -> ChatOracle:
    return ChatOracle("a-model", settings, SCHEMA, KEY, f"{server.url}/v1", timeout_s=timeout_s)


BOTH = pytest.mark.parametrize("client", [gemini, chat], ids=["gemini", "openai"])


def ask(oracle: GeminiOracle | ChatOracle, *calls: Call) -> list[Reply]:
    async def all_of_them() -> list[Reply]:
        try:
            return [await oracle.ask(call) for call in calls or (CALL,)]
        finally:
            await oracle.close()

    return asyncio.run(all_of_them())


def failure(oracle: GeminiOracle | ChatOracle) -> OracleError:
    with pytest.raises(OracleError) as caught:
        ask(oracle)
    return caught.value


@BOTH
def test_a_reply_comes_with_its_text_and_all_its_tokens(serve: Callable[..., Server], client: Any) -> None:
    server = serve(Answer('{"relevance": 5}', 1200, 40, cached_tokens=900, thinking_tokens=7))

    (reply,) = ask(client(server))

    assert reply.raw == '{"relevance": 5}'
    assert reply.usage == Usage(input_tokens=1200, output_tokens=47, cached_tokens=900, thinking_tokens=7)
    assert reply.model.endswith("-001")


@BOTH
def test_the_instruction_is_apart_from_the_article_and_goes_first(serve: Callable[..., Server], client: Any) -> None:
    server = serve(Answer("{}"))

    ask(client(server))

    assert [(a.instruction, a.message) for a in server.asks] == [("Score it.", "An article.")]


def test_gemini_is_sent_a_response_schema_with_the_order_of_its_properties(serve: Callable[..., Server]) -> None:
    server = serve(Answer("{}"))

    ask(gemini(server, Settings(temperature=0.5, max_output_tokens=300, thinking_tokens=128)))

    config = server.asks[0].body["generationConfig"]
    assert "responseJsonSchema" not in config
    assert config["responseSchema"]["type"] == "OBJECT"
    assert config["responseSchema"]["property_ordering"] == ["relevance", "flags"]
    assert config["responseSchema"]["properties"]["flags"]["items"] == {"type": "STRING", "enum": ["advert", "rumour"]}
    assert (config["temperature"], config["maxOutputTokens"]) == (0.5, 428)
    assert config["thinkingConfig"] == {"thinking_budget": 128}


def test_gemini_chooses_how_much_to_think_where_no_budget_is_given(serve: Callable[..., Server]) -> None:
    server = serve(Answer("{}"))

    ask(gemini(server, Settings(thinking_tokens=None)))

    assert "thinkingConfig" not in server.asks[0].body["generationConfig"]


@BOTH
@pytest.mark.parametrize(("temperature", "sent"), [(0.0, True), (None, False)])
def test_a_temperature_is_sent_unless_there_is_none(
    serve: Callable[..., Server], client: Any, temperature: float | None, sent: bool
) -> None:
    server = serve(Answer("{}"))

    ask(client(server, Settings(temperature=temperature)))

    assert ("temperature" in json.dumps(server.asks[0].body)) is sent


def test_a_chat_is_sent_a_strict_schema_and_the_extra_fields(serve: Callable[..., Server]) -> None:
    server = serve(Answer("{}"))

    ask(chat(server, Settings(max_output_tokens=300, extra={"chat_template_kwargs": {"enable_thinking": False}})))

    body = server.asks[0].body
    assert body["response_format"]["json_schema"]["strict"] is True
    assert "multipleOf" not in json.dumps(body)
    assert body["max_tokens"] == 300
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize("service", [name for name, s in CHAT_SERVICES.items() if s.reply_format == "json_schema"])
def test_a_server_with_a_grammar_is_sent_every_half_point_and_no_bounds(service: str) -> None:
    spec = parse_spec(yaml.safe_load(CONFIG.format(name="topic")), "config.yaml")

    _, body = address_and_body(Access(service, "m", PLAIN), reply_schema(spec), CALL)

    format_: Any = body["response_format"]  # Any: nested JSON
    scores = format_["json_schema"]["schema"]["properties"].values()
    assert [score["enum"] for score in scores] == [[half / 2 for half in range(21)]] * 2
    assert "imum" not in json.dumps(body["response_format"])


def test_as_many_scores_as_a_filter_can_have_are_within_what_openai_takes() -> None:
    names = [f"dimension_{place}" for place in range(32)]
    score = {"type": "number", "minimum": 0, "maximum": 10, "multipleOf": 0.5}

    properties: Any = plain_schema({"type": "object", "properties": dict.fromkeys(names, score)})["properties"]

    assert sum(len(part["enum"]) for part in properties.values()) <= 1000


def test_a_server_without_schemas_is_asked_for_json(serve: Callable[..., Server]) -> None:
    server = serve(Answer("{}"))

    ask(ChatOracle("a-model", Settings(), SCHEMA, None, f"{server.url}/v1", "json_object"))

    assert server.asks[0].body["response_format"] == {"type": "json_object"}
    assert "Authorization" not in server.asks[0].headers


@BOTH
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RefusedError), (401, TerminalError), (402, TerminalError), (403, TerminalError), (404, TerminalError),
        (408, RetryError), (413, RefusedError), (429, RetryError), (500, RetryError), (502, RetryError),
        (503, RetryError), (504, RetryError), (529, RetryError), (307, TerminalError),
    ],
)  # fmt: skip
def test_the_status_says_what_to_do_next(
    serve: Callable[..., Server], client: Any, status: int, kind: type[OracleError]
) -> None:
    error = failure(client(serve(Answer(status=status, error={"error": GOOGLE_ERROR}))))

    assert type(error) is kind
    assert "said by the server" in error.detail


@BOTH
def test_one_call_is_one_request_whatever_the_server_says(serve: Callable[..., Server], client: Any) -> None:
    server = serve(Answer(status=503, error={"error": GOOGLE_ERROR}))

    failure(client(server))

    assert len(server.requests) == 1


@BOTH
def test_the_time_that_a_server_asks_to_wait_is_kept(serve: Callable[..., Server], client: Any) -> None:
    error = failure(client(serve(Answer(status=429, error={"error": GOOGLE_ERROR}, headers={"Retry-After": "17"}))))

    assert isinstance(error, RetryError)
    assert (error.after_s, error.may_be_paid) == (17.0, False)


def test_gemini_says_in_the_body_how_long_to_wait(serve: Callable[..., Server]) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2.5s"}]

    error = failure(gemini(serve(Answer(status=429, error={"error": GOOGLE_ERROR | {"details": details}}))))

    assert isinstance(error, RetryError)
    assert error.after_s == 2.5


@pytest.mark.parametrize(("period", "kind"), [("PerDay", TerminalError), ("PerMinute", RetryError)])
def test_a_daily_quota_of_gemini_is_not_waited_for(
    serve: Callable[..., Server], period: str, kind: type[OracleError]
) -> None:
    violations = [{"quotaId": f"GenerateRequests{period}PerProjectPerModel-FreeTier"}]
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}]

    error = failure(gemini(serve(Answer(status=429, error={"error": GOOGLE_ERROR | {"details": details}}))))

    assert type(error) is kind


def test_a_wrong_key_of_gemini_ends_all_though_its_status_is_400(serve: Callable[..., Server]) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]

    error = failure(gemini(serve(Answer(status=400, error={"error": GOOGLE_ERROR | {"details": details}}))))

    assert type(error) is TerminalError


def test_a_used_up_quota_of_openai_ends_all_though_its_status_is_429(serve: Callable[..., Server]) -> None:
    error = failure(chat(serve(Answer(status=429, error={"error": {"code": "insufficient_quota", "message": "m"}}))))

    assert type(error) is TerminalError


@BOTH
def test_words_of_a_message_decide_nothing(serve: Callable[..., Server], client: Any) -> None:
    message = "the author's authorization of quota and billing is API_KEY_INVALID"

    error = failure(client(serve(Answer(status=400, error={"error": {"message": message}}))))

    assert type(error) is RefusedError


@BOTH
@pytest.mark.parametrize(("finish", "reason"), [("length", "cut short"), ("filter", "blocked by the provider")])
def test_a_reply_that_did_not_end_by_itself_is_refused_with_what_was_paid(
    serve: Callable[..., Server], client: Any, finish: str, reason: str
) -> None:
    error = failure(client(serve(Answer('{"relev', 100, 9, finish=finish))))

    assert isinstance(error, RefusedError)
    assert (error.reason, error.raw, error.usage) == (reason, '{"relev', Usage(100, 9))


@pytest.mark.parametrize(
    ("finish", "kind"), [("insufficient_system_resource", RetryError), ("a-reason-of-tomorrow", RefusedError)]
)
def test_a_chat_reply_that_ended_in_another_way_is_none(
    serve: Callable[..., Server], finish: str, kind: type[Exception]
) -> None:
    assert type(failure(chat(serve(Answer('{"relev', finish=finish))))) is kind


@BOTH
@pytest.mark.parametrize("body", [b"<html>busy</html>", b'{"candidates": [{"cont', b"", b"[1]", b"{}"])
def test_a_body_that_is_no_response_is_asked_for_again_and_may_be_paid(
    serve: Callable[..., Server], client: Any, body: bytes
) -> None:
    error = failure(client(serve(Answer(raw_body=body))))

    assert isinstance(error, RetryError)
    assert error.may_be_paid


@BOTH
def test_a_hanging_server_is_left_in_time_and_may_be_paid(serve: Callable[..., Server], client: Any) -> None:
    server = serve(Answer("{}", delay_s=60))
    start = time.monotonic()

    error = failure(client(server, timeout_s=0.1))

    assert time.monotonic() - start < 30
    assert isinstance(error, RetryError)
    assert (error.reason, error.may_be_paid) == ("no answer in time", True)


@BOTH
def test_a_dropped_connection_is_tried_again_and_may_be_paid(serve: Callable[..., Server], client: Any) -> None:
    error = failure(client(serve(Answer(drop=True))))

    assert isinstance(error, RetryError)
    assert error.may_be_paid


@BOTH
def test_a_server_that_is_not_there_costs_nothing(serve: Callable[..., Server], client: Any) -> None:
    class Nowhere:
        url = "http://127.0.0.1:9"  # the discard port, on which nobody listens

    error = failure(client(Nowhere()))

    assert isinstance(error, RetryError)
    assert not error.may_be_paid
    assert (error.reason, "127.0.0.1:9" in error.detail, "refused" in error.detail) == ("cannot connect", True, True)


def test_a_server_on_this_machine_is_reached_without_the_environments_proxy(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    (reply,) = ask(chat(serve(Answer("{}"))))

    assert reply.raw == "{}"


def test_a_connection_by_a_proxy_names_its_variable_and_not_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere:
        url = "http://oracle.invalid"

    monkeypatch.setenv("HTTP_PROXY", "http://somebody:secret@127.0.0.1:9")

    error = failure(chat(Elsewhere()))

    assert error.reason == "cannot connect"
    assert "HTTP_PROXY" in error.detail
    assert "secret" not in error.detail


@pytest.mark.parametrize("status", [404, 405])
def test_a_path_that_is_not_there_is_named(serve: Callable[..., Server], status: int) -> None:
    server = serve(Answer(status=status, error={"detail": "Not Found"}))

    error = failure(chat(server))

    assert isinstance(error, TerminalError)
    assert f"{server.url}/v1/chat/completions" in error.detail


@BOTH
@pytest.mark.parametrize("answer", [
    Answer(status=401, error={"error": {"message": f"the key {KEY} is wrong", "code": KEY}}),
    Answer(raw_body=f"<html>{KEY}</html>".encode()),
    Answer(raw_body=f"<html>{KEY}</html>".encode(), status=500),
])  # fmt: skip
def test_the_key_is_in_no_error_even_if_the_server_repeats_it(
    serve: Callable[..., Server], client: Any, answer: Answer
) -> None:
    error = failure(client(serve(answer)))

    assert KEY not in f"{error} {vars(error)} {error.__cause__}"


@BOTH
def test_a_reply_without_usage_is_no_reply_without_tokens(serve: Callable[..., Server], client: Any) -> None:
    bodies = {
        gemini: {"candidates": [{"content": {"parts": [{"text": "{}"}]}, "finishReason": "STOP"}]},
        chat: {"choices": [{"message": {"content": "{}"}, "finish_reason": "stop"}]},
    }

    (reply,) = ask(client(serve(Answer(raw_body=json.dumps(bodies[client]).encode()))))

    assert (reply.raw, reply.usage) == ("{}", None)
