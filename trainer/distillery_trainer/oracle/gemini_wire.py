"""Gemini's JSON: what a request holds, what a reply means, what an error says."""

from collections.abc import Iterator, Mapping
from typing import Any

from distillery_trainer.oracle.errors import UNREADABLE, OracleError, RefusedError, RetryError
from distillery_trainer.oracle.finish import objection
from distillery_trainer.oracle.http_status import LONGEST_WAIT_S, error_of
from distillery_trainer.oracle.protocol import Reply, Request, Settings
from distillery_trainer.oracle.reply_schema import google_schema
from distillery_trainer.oracle.usage import Usage, count

Json = Any  # Any: a provider's JSON, read with care
_RPC_STATUS = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 10: 409, 13: 500, 14: 503, 16: 401}
_PER_DAY = "PerDay"


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


def request_body(request: Request, config: Mapping[str, object]) -> dict[str, object]:
    """One request as a batch's file has it."""
    return {
        "systemInstruction": {"parts": [{"text": request.instruction}]},
        "contents": [{"role": "user", "parts": [{"text": request.message}]}],
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
