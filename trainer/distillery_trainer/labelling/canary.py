"""The canary: the first few replies, got by the same way as the rest would be, must be worth paying for.

A batch endpoint may ignore the schema, a model may answer every article alike; both were seen, and both are told from
twenty replies.
"""

import hashlib
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from distillery_trainer.labelling.ledger import Mode, Past
from distillery_trainer.labelling.standing import Judge, Standing, standing_of
from distillery_trainer.oracle.protocol import Call

SIZE = 20
AGAIN = "--retry-dead"
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


def canary_calls(history: Sequence[Past], mode: Mode, size: int) -> list[Past]:
    """The first `size` calls of a mode that ended for good, with a reply or without: what the canary is judged by.

    They are the same however often the command was interrupted, and after all of it was done.
    """
    return [past for past in history if past.mode == mode and past.outcome.kind in ("reply", "refused")][:size]


def choose(requests: Sequence[Call], count: int) -> list[Call]:
    """`count` of the questions, spread over all of them by digest."""
    spread = sorted(requests, key=lambda request: hashlib.sha256(request.key.encode()).digest())
    return spread[:count]


def judge_canary(replies: Sequence[Past], judge: Judge) -> Verdict:
    """Whether some replies are of the schema, and differ.

    Args:
        replies: those of `canary_calls`.
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
    """The most frequent reasons, each with the detail of its first reply."""
    dead = [standing for standing in standings if standing.parsed is None]
    details = {standing.reason: standing.detail for standing in reversed(dead)}
    frequent = Counter(standing.reason for standing in dead).most_common(3)
    return "; ".join(f"{n} x {reason}{f' ({details[reason]})' if details[reason] else ''}" for reason, n in frequent)


def next_steps(dead_by_reason: Mapping[str, int], temperature: float | None, command: Sequence[str]) -> Iterator[str]:
    """Gives the commands to choose from after a failed canary.

    Args:
        dead_by_reason: the dead letters, by reason.
        temperature: of the questions.
        command: the command that failed.
    """
    dead = sum(dead_by_reason.values())
    again = shlex.join(word for word in command if word != AGAIN)
    if dead and temperature == 0:
        yield (f"note      the same question to the same model at temperature 0 gets the same reply: {AGAIN} repeats "
               "the failure unless the server was changed")  # fmt: skip
    elif dead:
        yield f"next      ask about the {dead} dead letters once more: {again} {AGAIN}"
    if "cut short" in dead_by_reason:
        yield f"next      give replies more room and ask about all articles again: {again} --max-output-tokens N"
    kept = f"keep the {dead} dead letters and go on" if dead else "accept these replies and go on"
    yield f"next      {kept} without a canary: {again} --canary 0"
