"""Finish reasons of providers: what they mean for a text that is not of the schema.

Servers spell a normal end in a dozen ways (`stop`, `eos`, `eos_token`, `STOP`, `end_turn`), and new words come. So the
word never decides by itself: a text that is of the schema is a reply, and only another one is judged by its end.
"""

from distillery_trainer.oracle.errors import OracleError, RefusedError, RetryError
from distillery_trainer.oracle.usage import Usage

MAX_WORD = 200
_WHOLE = frozenset({"", "stop", "eos", "eos_token", "end_turn", "stop_sequence", "finish_reason_unspecified"})
_CUT = frozenset({"length", "max_tokens", "model_length", "max_length"})
_BLOCKED = frozenset(
    {"content_filter", "safety", "recitation", "language", "blocklist", "prohibited_content", "spii", "other"}
)
# OpenRouter's word for a provider that failed under way, vLLM's for a call that it dropped, DeepSeek's for no room.
_FAILED = frozenset({"error", "abort", "insufficient_system_resource"})


def objection(finish: object, raw: str, usage: Usage | None, model: str) -> OracleError | None:
    """The error that a reply is unless its text is of the schema; None where it ended as it should.

    Args:
        finish: the provider's word for how the reply ended, whatever its type.
        raw: the text that came.
        usage: what it used.
        model: who wrote it.
    """
    word = "" if finish is None else str(finish)[:MAX_WORD]
    kind = word.lower()
    if kind in _FAILED:
        return RetryError("a fault of the server", word, may_be_paid=True, raw=raw, usage=usage, model=model)
    if kind in _CUT:
        return RefusedError("cut short", "the reply is longer than the output allowed", raw, usage, model)
    if kind in _BLOCKED:
        return RefusedError("blocked by the provider", word, raw, usage, model)
    if not raw.strip():
        return RefusedError("an empty reply", word, raw, usage, model)
    return None if kind in _WHOLE else RefusedError("cut short", word, raw, usage, model)
