"""Finish reasons of providers: what they mean for a text that is not of the schema.

Servers spell a normal end in a dozen ways (`stop`, `eos`, `eos_token`, `STOP`, `end_turn`), and new words come. So the
word never decides by itself: a text that is of the schema is a reply, and only another one is judged by its end.
"""

import re

from distillery_trainer.oracle.protocol import OracleError, RefusedError, RetryError, Usage

MAX_WORD = 200
_WHOLE = frozenset({"", "stop", "eos", "eos_token", "end_turn", "stop_sequence", "finish_reason_unspecified"})
# Other words are told by their parts, in this order, as servers compose them: `error_limit`, `time_limit`, `cancelled`.
_BLOCKED = re.compile(
    r"filter|safety|recitation|language|blocklist|prohibited|spii|^other$|guardrail|toxic|refus|moderat", re.I
)
_CUT = re.compile(r"length|tokens|token_limit|error_limit", re.I)
_FAILED = re.compile(
    r"error|abort|cancel|fail|time_?out|time_?limit|deadline|unavailable|overload|interrupt|disconnect|preempt"
    r"|insufficient|unfinished|not_finished",
    re.I,
)


def objection(finish: object, raw: str, usage: Usage | None, model: str) -> OracleError | None:
    """The error that a reply is unless its text is of the schema; None where it ended as it should.

    Args:
        finish: the provider's word for how the reply ended, whatever its type.
        raw: the text that came.
        usage: what it used.
        model: who wrote it.
    """
    word = "" if finish is None else str(finish)[:MAX_WORD]
    if _BLOCKED.search(word):
        return RefusedError("blocked by the provider", word, raw, usage, model)
    if _CUT.search(word):
        return RefusedError("cut short", "the reply is longer than the output allowed", raw, usage, model)
    if _FAILED.search(word):
        return RetryError("a fault of the server", word, may_be_paid=True, raw=raw, usage=usage, model=model)
    if not raw.strip():
        return RefusedError("an empty reply", word, raw, usage, model)
    return None if word.lower() in _WHOLE else RefusedError("cut short", word, raw, usage, model)
