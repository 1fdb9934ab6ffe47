"""Any server that speaks OpenAI's chat completions: OpenAI, OpenRouter, DeepSeek, vLLM, llama.cpp, Ollama."""

import json
from collections.abc import Mapping
from typing import Any, Literal

import httpx2

from distillery_trainer.oracle import http
from distillery_trainer.oracle.credentials import without_key
from distillery_trainer.oracle.finish import objection
from distillery_trainer.oracle.http import MAX_DETAIL, count, error_of, from_transport, retry_after
from distillery_trainer.oracle.protocol import (
    UNREADABLE,
    Call,
    OracleError,
    RefusedError,
    Reply,
    RetryError,
    Settings,
    TerminalError,
    Usage,
)
from distillery_trainer.oracle.reply_schema import plain_schema

Json = Any  # Any: a provider's JSON, read with care
ReplyFormat = Literal["json_schema", "json_object"]
PATH = "chat/completions"
_NOT_THERE = {404, 405, 410}
_FINAL_CODES = {401, 402}  # in a body with status 200; any other error there happened while the reply was made
_THOUGHTS, _TEXTS = ("thinking", "reasoning"), ("text", "output_text")  # types of a message's parts


class ChatOracle:
    """Asks one model through `/chat/completions`.

    Args:
        model, settings, schema: of each call, as `body_fields` has them.
        key: of the provider, if it wants one; appears in no error.
        base_url: the address up to `/chat/completions`.
        reply_format, limit_field: as `body_fields` has them.
        timeout_s: for each connection and read; whoever calls bounds the whole.
    """

    def __init__(
        self,
        model: str,
        settings: Settings,
        schema: Mapping[str, object],
        key: str | None,
        base_url: str,
        reply_format: ReplyFormat = "json_schema",
        limit_field: str = "max_tokens",
        timeout_s: float = 120.0,
    ) -> None:
        self._model = model
        self._fields = body_fields(model, settings, schema, reply_format, limit_field)
        self._key = key
        self._url = f"{base_url.rstrip('/')}/{PATH}"
        self._http = http.asynchronous(f"{base_url.rstrip('/')}/", timeout_s, key)

    async def ask(self, call: Call) -> Reply:
        """The reply to one call; raises as `Oracle.ask` says."""
        try:
            response = await self._http.post(PATH, json=call_body(call, self._fields))
        except httpx2.HTTPError as error:
            raise from_transport(error, self._url) from error
        text = without_key(response.text, self._key)
        if response.status_code != httpx2.codes.OK:
            raise self._error(response.status_code, text, retry_after(response.headers))
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            raise RetryError(UNREADABLE, f"{self._url}: {text[:200]}", may_be_paid=True) from None
        return read_completion(body, self._model, self._url)

    async def close(self) -> None:
        """Closes connections."""
        await self._http.aclose()

    def _error(self, status: int, text: str, retry_after_s: float | None) -> OracleError:
        found = _read_error(status, text, retry_after_s)
        if status not in _NOT_THERE:
            return found
        cure = f"asked at {self._url}; check --base-url, which mostly ends in /v1, and --model"
        return TerminalError(found.reason, f"{found.detail[:MAX_DETAIL]}; {cure}")


def body_fields(
    model: str,
    settings: Settings,
    schema: Mapping[str, object],
    reply_format: ReplyFormat = "json_schema",
    limit_field: str = "max_tokens",
) -> dict[str, object]:
    """What the body of each call holds beside its messages.

    Args:
        model: the model's name.
        settings: how it is asked; a budget for thinking is not part of this protocol, see `settings.extra`.
        schema: the reply's JSON Schema.
        reply_format: `json_schema` where the server enforces a schema, `json_object` where it only knows JSON.
        limit_field: the body's name for the most tokens of output.
    """
    return {
        "model": model,
        **({} if settings.temperature is None else {"temperature": settings.temperature}),
        limit_field: settings.most_output_tokens,
        "response_format": _response_format(reply_format, schema),
        **settings.extra,
    }


def call_body(call: Call, fields: Mapping[str, object]) -> dict[str, object]:
    """The body of one call."""
    messages = [{"role": "system", "content": call.instruction}, {"role": "user", "content": call.message}]
    return {**fields, "messages": messages}


def read_completion(body: Json, model: str, url: str) -> Reply:
    """The reply in a chat completion.

    Args:
        body: the response as JSON.
        model: what was asked, where the response names no model.
        url: where it came from, for the detail of an error.

    Raises:
        RefusedError: the reply was cut short, filtered or refused; what came and was paid is in the error.
        RetryError: there is no reply in it, or the provider failed under way.
        TerminalError: it says that there is no credit, or that the key is wrong.
    """
    record = body if isinstance(body, Mapping) else {}
    choices, error = record.get("choices"), record.get("error")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else None
    if choice is None:
        raise _failure(error) if isinstance(error, Mapping) else _unreadable(error, url)
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {}
    raw, usage, name = _text(message.get("content")), _usage(record), str(record.get("model") or model)
    if error or choice.get("error"):
        raise _failure(error or choice.get("error"), raw, usage, name)
    if message.get("refusal"):
        raise RefusedError("refused by the model", str(message["refusal"])[:200], raw, usage, name)
    if found := objection(choice.get("finish_reason"), raw, usage, name):
        raise _explained(found, message)
    return Reply(raw, usage, name)


def _text(content: Json) -> str:
    """A message's text: a string, or the texts of its parts without those that are thoughts.

    Content with a part of any other kind stays JSON as a whole, which is no reply.
    """
    if not isinstance(content, list):
        return content if isinstance(content, str) else "" if content is None else json.dumps(content)
    parts = [part for part in content if not (isinstance(part, Mapping) and part.get("type") in _THOUGHTS)]
    texts = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type") in _TEXTS]
    known = [text for text in texts if isinstance(text, str)]
    return "".join(known) if len(known) == len(parts) else json.dumps(content)


def _explained(found: OracleError, message: Mapping[str, Json]) -> OracleError:
    """An error of an empty reply, with what the model wrote instead."""
    thought = message.get("reasoning_content") or message.get("reasoning")
    if found.raw or not thought or not isinstance(found, RefusedError):
        return found
    detail = "nothing but reasoning came: turn thinking off (see --extra) or raise --max-output-tokens"
    return RefusedError(found.reason, detail, "", found.usage, found.model)


def _failure(error: Json, raw: str = "", usage: Usage | None = None, model: str = "") -> OracleError:
    """The error in a body with status 200: as OpenRouter has it, a provider that failed while it made the reply."""
    record = error if isinstance(error, Mapping) else {"message": str(error)}
    code = record.get("code")
    detail = f"{code or ''} {record.get('message') or ''}".strip()[:MAX_DETAIL]
    found = error_of(code if isinstance(code, int) and code in _FINAL_CODES else 500, _codes(record), detail)
    if isinstance(found, TerminalError):
        return found
    return RetryError(found.reason, detail, may_be_paid=True, raw=raw, usage=usage, model=model)


def _unreadable(error: Json, url: str) -> RetryError:
    return RetryError(UNREADABLE, f"{url}: {str(error)[:200] if error else 'no choices'}", may_be_paid=True)


def _response_format(kind: ReplyFormat, schema: Mapping[str, object]) -> dict[str, object]:
    if kind == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": plain_schema(schema)}}


def _usage(body: Mapping[str, Json]) -> Usage | None:
    into, out = count(body, "usage", "prompt_tokens"), count(body, "usage", "completion_tokens")
    if into is None or out is None:
        return None
    cached = count(body, "usage", "prompt_tokens_details", "cached_tokens")
    if cached is None:  # as DeepSeek reports it
        cached = count(body, "usage", "prompt_cache_hit_tokens") or 0
    return Usage(into, out, cached, count(body, "usage", "completion_tokens_details", "reasoning_tokens") or 0)


def _read_error(status: int, text: str, retry_after_s: float | None) -> OracleError:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = {}
    error = body.get("error", body) if isinstance(body, Mapping) else {}
    if not isinstance(error, Mapping):
        return error_of(status, set(), str(error), retry_after_s)
    return error_of(status, _codes(error), str(error.get("message") or text[:200]), retry_after_s)


def _codes(error: Mapping[str, Json]) -> set[str]:
    return {str(error.get("code")), str(error.get("type"))}
