"""Gemini through google-genai, one call at a time or many in a batch; below both, what its JSON means.

A batch's calls go in as an uploaded file because its lines carry a key that comes back with each reply. Inlined ones
have been seen to come back without their metadata and in another order (googleapis/python-genai, issues 1909 and 2008).
"""

import io
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from google import genai
from google.genai import errors, types

from distillery_runtime.articles.jsonl import BadLine, read_jsonl
from distillery_trainer.oracle import http
from distillery_trainer.oracle.credentials import without_key
from distillery_trainer.oracle.finish import objection
from distillery_trainer.oracle.http import LONGEST_WAIT_S, count, error_of, from_transport, retry_after
from distillery_trainer.oracle.protocol import (
    UNREADABLE,
    BatchResult,
    Call,
    OracleError,
    RefusedError,
    Reply,
    RetryError,
    Settings,
    Usage,
)
from distillery_trainer.oracle.reply_schema import google_schema

Json = Any  # Any: a provider's JSON, read with care
GOOGLE = "https://generativelanguage.googleapis.com/"
API_VERSION = "v1beta"  # where batches and response schemas are; google-genai's own default has changed
FILE_TYPE = "jsonl"
# Files are kept for some days. Of one that is not there Google says 403, since it may be somebody else's.
GONE = {403, 404, 410}
# What is none of these has ended. (google-genai takes a job that succeeded in part for one that is still at work.)
UNDER_WAY = {"", "unspecified", "queued", "pending", "running", "cancelling", "paused", "updating"}
_RPC_STATUS = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 10: 409, 13: 500, 14: 503, 16: 401}
_PER_DAY = "PerDay"


class GeminiOracle:
    """Asks one model of the Gemini API, with the reply's schema enforced.

    google-genai neither retries nor continues replies here: each call is one paid request, which the driver counts.

    Args:
        model: the model's name.
        settings: how it is asked.
        schema: the reply's JSON Schema.
        key: of the provider; appears in no error.
        base_url: where the API is, if not at Google.
        timeout_s: for each connection and read; whoever calls bounds the whole.
    """

    def __init__(
        self,
        model: str,
        settings: Settings,
        schema: Mapping[str, object],
        key: str,
        base_url: str | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        self.model = model
        self.config = generation_config(settings, schema)
        self._key = key
        self._url = base_url or GOOGLE
        self._http = http.asynchronous(self._url)
        options = types.HttpOptions(
            base_url=self._url,
            api_version=API_VERSION,
            timeout=max(1, round(timeout_s * 1000)),
            retry_options=types.HttpRetryOptions(attempts=1),
            httpx_async_client=self._http,
            httpx_client=httpx2.Client(verify=http.tls()),
            async_client_args={"ssl": http.tls()},
        )
        self.client = genai.Client(vertexai=False, api_key=key, http_options=options)

    async def ask(self, call: Call) -> Reply:
        """The reply to one call; raises as `Oracle.ask` says."""
        config = types.GenerateContentConfig.model_validate(
            {**self.config, "systemInstruction": call.instruction, "automaticContinuation": False}
        )
        async with self.translated():
            response = await self.client.aio.models.generate_content(
                model=self.model, contents=call.message, config=config
            )
            body = response.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"sdk_http_response"})
            return read_reply(body, self.model)

    async def close(self) -> None:
        """Closes http."""
        await self._http.aclose()
        self.client.close()

    @asynccontextmanager
    async def translated(self) -> AsyncIterator[None]:
        """Turns what google-genai and the connection raise into our errors, without the key."""
        try:
            yield
        except errors.APIError as error:
            headers = getattr(error.response, "headers", None) or {}
            found = read_error(error.code, _without_key(error.details, self._key), retry_after(headers))
            raise found from None
        except OracleError:
            raise
        except httpx2.HTTPError as error:
            raise from_transport(error, self._url) from error
        except ValueError as error:  # a body that is no JSON, or JSON that google-genai cannot read
            detail = without_key(str(error), self._key)
            raise RetryError(UNREADABLE, f"{self._url}: {detail[:200]}", may_be_paid=True) from None


class GeminiBatches:
    """The Gemini API's batch mode, over an oracle that knows model, settings and schema."""

    def __init__(self, oracle: GeminiOracle) -> None:
        self._oracle = oracle

    async def submit(self, name: str, calls: Sequence[Call]) -> str:
        """Uploads the calls and starts a batch with `name` as its display name."""
        lines = (json.dumps({"key": call.key, "request": call_body(call, self._oracle.config)}) for call in calls)
        content = io.BytesIO("".join(f"{line}\n" for line in lines).encode())
        client = self._oracle.client.aio
        async with self._oracle.translated():
            file = await client.files.upload(
                file=content, config=types.UploadFileConfig(mime_type=FILE_TYPE, display_name=name)
            )
            job = await client.batches.create(
                model=self._oracle.model,
                src=types.BatchJobSource(file_name=file.name),
                config=types.CreateBatchJobConfig(display_name=name),
            )
        if not job.name:
            raise RetryError(
                "a batch without a name", "the provider started a job and did not say which", may_be_paid=True
            )
        return job.name

    async def find(self, name: str) -> str | None:
        """The provider's name of the batch whose display name is `name`, or None if there is none."""
        async with self._oracle.translated():
            async for job in await self._oracle.client.aio.batches.list():
                if job.display_name == name:
                    return job.name
        return None

    async def fetch(self, remote: str) -> BatchResult | None:
        """What a batch has brought, or None while it is at work."""
        async with self._oracle.translated():
            job = await self._oracle.client.aio.batches.get(name=remote)
            state = str(job.state.value if job.state else "").rpartition("_STATE_")[2].lower()
            if state in UNDER_WAY:
                return None
        if job.dest is None or job.dest.file_name is None:
            return BatchResult({}, state)
        async with self._oracle.translated():
            try:
                content = await self._oracle.client.aio.files.download(file=job.dest.file_name)
            except errors.APIError as error:
                if error.code not in GONE or not await self._is_gone(job.dest.file_name):
                    raise
                return BatchResult({}, state, is_gone=True)
        return BatchResult(dict(self._replies(content)), state)

    async def _is_gone(self, file: str) -> bool:
        """Whether the provider knows a file no more, asked in another way than for its content."""
        try:
            await self._oracle.client.aio.files.get(name=file)
        except errors.APIError as error:
            return error.code in GONE
        return False

    async def close(self) -> None:
        """Closes http."""
        await self._oracle.close()

    def _replies(self, content: bytes) -> Iterator[tuple[str, Reply | OracleError]]:
        """Key and reply of each line; a line without a key belongs to no call and is passed over."""
        for line in read_jsonl(io.BytesIO(content)):
            if not isinstance(line, BadLine) and isinstance(line.get("key"), str):
                yield str(line["key"]), self._reply(line)

    def _reply(self, line: Mapping[str, object]) -> Reply | OracleError:
        if line.get("error"):
            return read_line_error(line["error"])
        try:
            return read_reply(line.get("response"), self._oracle.model)
        except OracleError as error:
            return error


def generation_config(settings: Settings, schema: Mapping[str, object]) -> dict[str, object]:
    """How replies are made: with `responseSchema`, for batches ignore `responseJsonSchema`."""
    config: dict[str, object] = {
        "maxOutputTokens": settings.most_output_tokens,
        "responseMimeType": "application/json",
        "responseSchema": google_schema(schema),
    }
    if settings.temperature is not None:
        config["temperature"] = settings.temperature
    if settings.thinking_tokens is not None:
        config["thinkingConfig"] = {"thinkingBudget": settings.thinking_tokens}
    return config


def call_body(call: Call, config: Mapping[str, object]) -> dict[str, object]:
    """One call as a batch's file has it."""
    return {
        "systemInstruction": {"parts": [{"text": call.instruction}]},
        "contents": [{"role": "user", "parts": [{"text": call.message}]}],
        "generationConfig": config,
    }


def read_reply(body: Json, model: str) -> Reply:
    """The reply in a GenerateContentResponse.

    Args:
        body: the response as JSON.
        model: what was asked, where the response names no model.

    Raises:
        RefusedError: the provider blocked it or cut it short; what came and was paid is in the error.
        RetryError: there is no candidate and no reason for it.
    """
    usage = _usage(body)
    blocked = _at(body, "promptFeedback", "blockReason")
    candidates = _at(body, "candidates")
    first = candidates[0] if isinstance(candidates, list) and candidates else {}
    raw, finish = _text(first), _at(first, "finishReason")
    name = str(_at(body, "modelVersion") or model)
    if blocked:
        raise RefusedError("blocked by the provider", str(blocked), raw, usage, name)
    if not raw and not finish and usage is None:
        raise RetryError(UNREADABLE, "no candidates", may_be_paid=True)
    if found := objection(finish, raw, usage, name):
        raise found
    return Reply(raw, usage, name)


def read_error(status: int, body: Json, retry_after_s: float | None) -> OracleError:
    """The error that a response of this status means, or a batch's line with an error of this status."""
    error = _at(body, "error") if isinstance(_at(body, "error"), Mapping) else body
    error = error if isinstance(error, Mapping) else {}
    codes = {str(error.get("status")), *(_codes(error))}
    return error_of(status, codes, str(error.get("message") or ""), retry_after_s or _delay(error))


def read_line_error(error: Json) -> OracleError:
    """The error of one line of a batch, a google.rpc.Status."""
    code = count(error, "code") if isinstance(error, Mapping) else None
    status = code if code is not None and code >= 300 else _RPC_STATUS.get(code or 0, 500)
    return read_error(status, error, None)


def _usage(body: Json) -> Usage | None:
    made = {name: count(body, "usageMetadata", f"{name}TokenCount") for name in ("prompt", "candidates", "thoughts")}
    if made["prompt"] is None:
        return None
    thinking = made["thoughts"] or 0
    cached = count(body, "usageMetadata", "cachedContentTokenCount") or 0
    return Usage(made["prompt"], (made["candidates"] or 0) + thinking, cached, thinking)


def _text(candidate: Json) -> str:
    parts = _at(candidate, "content", "parts")
    spoken = [p for p in parts if isinstance(p, Mapping) and not p.get("thought")] if isinstance(parts, list) else []
    return "".join(str(part.get("text") or "") for part in spoken)


def _codes(error: Mapping[str, Json]) -> Iterator[str]:
    for detail in _details(error):
        yield str(detail.get("reason"))
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if _PER_DAY in str(_at(violation, "quotaId")):
                yield "quota_per_day"


def _delay(error: Mapping[str, Json]) -> float | None:
    for detail in _details(error):
        text = str(detail.get("retryDelay") or "").removesuffix("s")
        if text.replace(".", "", 1).isdecimal():
            return min(float(text), LONGEST_WAIT_S)
    return None


def _details(error: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    details = error.get("details")
    return [detail for detail in details if isinstance(detail, Mapping)] if isinstance(details, list) else []


def _at(value: Json, *path: str) -> Json:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _without_key(details: object, key: str) -> object:
    """An error's JSON in which a server may have repeated the key, without it."""
    found: object = json.loads(without_key(json.dumps(details), key))
    return found
