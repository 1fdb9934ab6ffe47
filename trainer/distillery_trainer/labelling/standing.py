"""What the ledger says of each question: labelled, dead, or still open."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from distillery_trainer.filters.reply import ParsedReply, ReplyError
from distillery_trainer.labelling.ledger import Past

Judge = Callable[[str], ParsedReply]
NOT_OF_THE_SCHEMA = "not of the schema"


@dataclass(frozen=True, slots=True)
class Standing:
    """What came of one question.

    `state`: `labelled` by its first valid reply, `dead` where its last reply is of no use, `open` where there is none.
    `last` is the call that decided. `parsed` is the valid reply. `calls` and `cost_usd`, likely where it is
    not known, are of all its calls together.
    """

    state: Literal["labelled", "dead", "open"]
    last: Past
    calls: int
    cost_usd: float
    reason: str = ""
    detail: str = ""
    parsed: ParsedReply | None = None


def standings(history: Iterable[Past], judge: Judge) -> dict[str, Standing]:
    """What came of each question that was asked.

    Args:
        history: the calls that have ended, in order.
        judge: reads a raw reply; raises `ReplyError` where it is not exactly of the schema.
    """
    found: dict[str, Standing] = {}
    for past in history:
        before = found.get(past.key)
        now = standing_of(past, judge)
        if before is None:
            found[past.key] = now
            continue
        decided = before if before.state == "labelled" or (before.state == "dead" and now.state == "open") else now
        calls, cost = before.calls + 1, before.cost_usd + past.cost_usd
        found[past.key] = replace(decided, calls=calls, cost_usd=cost)
    return found


def standing_of(past: Past, judge: Judge) -> Standing:
    """What one call by itself says."""
    outcome = past.outcome
    if outcome.kind not in ("reply", "refused"):
        return Standing("open", past, 1, past.cost_usd, outcome.reason, outcome.detail)
    try:
        return Standing("labelled", past, 1, past.cost_usd, parsed=judge(outcome.raw))
    except ReplyError as error:
        if outcome.kind == "refused":
            return Standing("dead", past, 1, past.cost_usd, outcome.reason, outcome.detail)
        return Standing("dead", past, 1, past.cost_usd, NOT_OF_THE_SCHEMA, error.reason)
