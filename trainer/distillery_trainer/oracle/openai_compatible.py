"""Any server that speaks OpenAI's chat completions: OpenAI, DeepSeek, vLLM, Ollama."""

import json
from collections.abc import Mapping
from typing import Any, Literal

import httpx2

from distillery_trainer.oracle import connections
from distillery_trainer.oracle.credentials import without_key
from distillery_trainer.oracle.errors import OracleError, RefusedError, RetryError
from distillery_trainer.oracle.http_status import error_of, from_transport, retry_after
from distillery_trainer.oracle.protocol import Reply, Request, Settings
from distillery_trainer.oracle.reply_schema import plain_schema
from distillery_trainer.oracle.usage import Usage, count

Json = Any  # Any: a provider's JSON, read with care
ReplyFormat = Literal["json_schema", "json_object"]


class ChatOracle:
    """Asks one model through `/chat/completions`.

    Args:
        model: the model's name.
        settings: how it is asked; a budget for thinking is not part of this protocol, see `settings.extra`.
        schema: the reply's JSON Schema.
        key: of the provider, if it wants one; appears in no error.
        base_url: the address up to `/chat/completions`.
        reply_format: `json_schema` where the server enforces a schema, `json_object` where it only knows JSON.
        limit_field: the body's name for the most tokens of output.
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
        self._key = key
        self._fields = {
            "model": model,
            **({} if settings.temperature is None else {"temperature": settings.temperature}),
            limit_field: settings.most_output_tokens,
            "response_format": _response_format(reply_format, schema),
            **settings.extra,
        }
        self._http = connections.asynchronous(f"{base_url.rstrip('/')}/", timeout_s, key)

    async def ask(self, request: Request) -> Reply:
        """The reply to one question; raises as `Oracle.ask` says."""
        messages = [
            {"role": "system", "content": request.instruction},
            {"role": "user", "content": request.message},
        ]
        try:
            response = await self._http.post("chat/completions", json={**self._fields, "messages": messages})
        except httpx2.HTTPError as error:
            raise from_transport(error) from error
        text = without_key(response.text, self._key)
        if response.status_code != httpx2.codes.OK:
            raise _read_error(response.status_code, text, retry_after(response.headers))
        try:
            return read_completion(json.loads(text), self._model)
        except ValueError:
            raise RetryError("an unreadable response", text[:200], may_be_paid=True) from None

    async def close(self) -> None:
        """Closes connections."""
        await self._http.aclose()


def read_completion(body: Json, model: str) -> Reply:
    """The reply in a chat completion.

    Raises:
        RefusedError: the reply was cut short, filtered or refused; what was paid is in the error.
        RetryError: there is no reply in it.
    """
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not (isinstance(choices, list) and choices and isinstance(choices[0], Mapping)):
        raise RetryError("an unreadable response", "no choices", may_be_paid=True)
    usage, message = _usage(body), choices[0].get("message")
    message = message if isinstance(message, Mapping) else {}
    raw, finish = str(message.get("content") or ""), choices[0].get("finish_reason")
    if finish == "length":
        raise RefusedError("cut short", "the reply is longer than the output allowed", raw, usage)
    if finish == "content_filter":
        raise RefusedError("blocked by the provider", "content_filter", raw, usage)
    if finish == "insufficient_system_resource":  # DeepSeek's word for a reply that it broke off
        raise RetryError("a fault of the server", str(finish), may_be_paid=True)
    if finish not in ("stop", None, ""):
        raise RefusedError("cut short", str(finish)[:200], raw, usage)
    if message.get("refusal"):
        raise RefusedError("refused by the model", str(message["refusal"])[:200], raw, usage)
    return Reply(raw, usage, str(body.get("model") or model))


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
    except ValueError:
        body = {}
    error = body.get("error", body) if isinstance(body, Mapping) else {}
    if not isinstance(error, Mapping):
        return error_of(status, set(), str(error), retry_after_s)
    return error_of(status, {str(error.get("code")), str(error.get("type"))}, str(error.get("message") or text[:200]),
                    retry_after_s)  # fmt: skip
