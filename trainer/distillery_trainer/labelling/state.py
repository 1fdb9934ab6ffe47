"""State of each question by the ledger: labelled, dead, or still open."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from distillery_trainer.filters.reply import ParsedReply, ReplyError
from distillery_trainer.labelling.ledger import PastCall

Parse = Callable[[str], ParsedReply]
NOT_OF_THE_SCHEMA = "not of the schema"


@dataclass(frozen=True, slots=True)
class QuestionState:
    """What came of one question.

    `status`: `labelled` by its first valid reply, `dead` where its last reply is of no use, `open` where there is none.
    `last` is the call that decided. `parsed` is the valid reply. `calls` and `cost_usd`, likely where it is
    not known, are of all its calls together.
    """

    status: Literal["labelled", "dead", "open"]
    last: PastCall
    calls: int
    cost_usd: float
    reason: str = ""
    detail: str = ""
    parsed: ParsedReply | None = None


def question_states(history: Iterable[PastCall], parse: Parse) -> dict[str, QuestionState]:
    """What came of each question that was asked.

    Args:
        history: the calls that have ended, in order.
        parse: reads a raw reply; raises `ReplyError` where it is not exactly of the schema.
    """
    found: dict[str, QuestionState] = {}
    for past in history:
        before = found.get(past.key)
        now = state_of(past, parse)
        if before is None:
            found[past.key] = now
            continue
        decided = before if before.status == "labelled" or (before.status == "dead" and now.status == "open") else now
        calls, cost = before.calls + 1, before.cost_usd + past.cost_usd
        found[past.key] = replace(decided, calls=calls, cost_usd=cost)
    return found


def state_of(past: PastCall, parse: Parse) -> QuestionState:
    """The state of a question by one call alone."""
    outcome = past.outcome
    if outcome.kind not in ("reply", "refused"):
        return QuestionState("open", past, 1, past.cost_usd, outcome.reason, outcome.detail)
    try:
        return QuestionState("labelled", past, 1, past.cost_usd, parsed=parse(outcome.raw))
    except ReplyError as error:
        if outcome.kind == "refused":
            return QuestionState("dead", past, 1, past.cost_usd, outcome.reason, outcome.detail)
        return QuestionState("dead", past, 1, past.cost_usd, NOT_OF_THE_SCHEMA, error.reason)
