"""Canary: checks the first few replies, which come in the same way as all others, before the rest is paid for.

A batch endpoint may ignore the schema, a model may answer every article alike; both were seen, and both show in twenty
replies.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from distillery_trainer.labelling.ledger import Mode, PastCall
from distillery_trainer.labelling.state import Parse, QuestionState, state_of
from distillery_trainer.oracle.protocol import Call

SIZE = 20
LEAST_VALID = 0.9
FEWEST_FOR_VARIANCE = 10


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """How the canary went: how many replies, how many of them valid and distinct, and why it failed, if it did."""

    replies: int
    valid: int
    distinct: int
    failure: str | None

    def to_record(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "replies": self.replies,
            "valid": self.valid,
            "distinct": self.distinct,
            "passed": self.failure is None,
            "failure": self.failure,
        }


def canary_calls(history: Sequence[PastCall], mode: Mode, size: int) -> list[PastCall]:
    """The first `size` calls of a mode that ended with a reply or were refused: what the canary is judged by.

    They are the same however often the command was interrupted, and after all of it was done.
    """
    return [past for past in history if past.mode == mode and past.outcome.kind in ("reply", "refused")][:size]


def choose_canary(calls: Sequence[Call], count: int) -> list[Call]:
    """`count` of the calls, spread over all of them by digest."""
    spread = sorted(calls, key=lambda call: hashlib.sha256(call.key.encode()).digest())
    return spread[:count]


def check_canary(replies: Sequence[PastCall], parse: Parse) -> CanaryResult:
    """Checks that replies are of the schema, and differ.

    Args:
        replies: those of `canary_calls`.
        parse: reads a raw reply.
    """
    found = [state_of(past, parse) for past in replies]
    valid = [state.parsed for state in found if state.parsed is not None]
    distinct = len({(parsed.scores, parsed.flags) for parsed in valid})
    failure = None
    if len(valid) < LEAST_VALID * len(found):
        failure = f"{len(valid)} of {len(found)} replies were usable, expected {LEAST_VALID:.0%}; {_reasons(found)}"
    elif len(valid) >= FEWEST_FOR_VARIANCE and distinct == 1:
        failure = f"all {len(valid)} replies were the same, whatever the article"
    return CanaryResult(len(found), len(valid), distinct, failure)


def _reasons(states: Sequence[QuestionState]) -> str:
    """The most frequent reasons, each with the detail of its first reply."""
    dead = [state for state in states if state.parsed is None]
    details = {state.reason: state.detail for state in reversed(dead)}
    frequent = Counter(state.reason for state in dead).most_common(3)
    return "; ".join(f"{n} x {reason}{f' ({details[reason]})' if details[reason] else ''}" for reason, n in frequent)
