"""The canary: the first few replies, got by the same way as the rest would be, must be worth paying for.

A batch endpoint may ignore the schema, a model may answer every article alike; both were seen, and both are told from
twenty replies.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from distillery_trainer.labelling.ledger import Mode, Past
from distillery_trainer.labelling.standing import Judge, Standing, standing_of
from distillery_trainer.oracle.protocol import Request

SIZE = 20
LEAST_VALID = 0.9
FEWEST_FOR_VARIANCE = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the canary said: how many replies, how many of them valid and distinct, and why it failed, if it did."""

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


def sung(history: Sequence[Past], mode: Mode, size: int) -> list[Past]:
    """The first `size` calls of a mode that ended for good, with a reply or without: what the canary is judged by.

    They are the same however often the command was interrupted, and after all of it was done.
    """
    return [past for past in history if past.mode == mode and past.outcome.kind in ("reply", "refused")][:size]


def choose(requests: Sequence[Request], count: int) -> list[Request]:
    """`count` of the questions, spread over all of them by digest."""
    spread = sorted(requests, key=lambda request: hashlib.sha256(request.key.encode()).digest())
    return spread[:count]


def judge_canary(replies: Sequence[Past], judge: Judge) -> Verdict:
    """Whether some replies are of the schema, and differ.

    Args:
        replies: those of `sung`.
        judge: reads a raw reply.
    """
    found = [standing_of(past, judge) for past in replies]
    valid = [standing.parsed for standing in found if standing.parsed is not None]
    distinct = len({(parsed.scores, parsed.flags) for parsed in valid})
    failure = None
    if len(valid) < LEAST_VALID * len(found):
        failure = f"{len(valid)} of {len(found)} replies were usable, expected {LEAST_VALID:.0%}; {_reasons(found)}"
    elif len(valid) >= FEWEST_FOR_VARIANCE and distinct == 1:
        failure = f"all {len(valid)} replies were the same, whatever the article"
    return Verdict(len(found), len(valid), distinct, failure)


def _reasons(standings: Sequence[Standing]) -> str:
    dead = Counter(f"{s.reason} ({s.detail})" if s.detail else s.reason for s in standings if s.parsed is None)
    return "; ".join(f"{count} x {reason}" for reason, count in dead.most_common(3))
