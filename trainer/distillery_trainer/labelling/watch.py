"""Watches calls as they end, to stop before money is spent on an oracle that answers nothing, or nonsense."""

from collections import deque
from collections.abc import Callable, Iterable

from distillery_trainer.labelling.driving import Patience, Stop
from distillery_trainer.labelling.ledger import Outcome
from distillery_trainer.oracle.protocol import NO_ORACLE_THERE, OracleError, Reply

FEWEST_USABLE = 0.5
CHECK = "check that a server with OpenAI's or Gemini's API runs there, and --base-url"


class Watch:
    """Notes each outcome and says when to stop.

    Args:
        patience: when it is enough.
        is_usable: whether a raw reply is of the schema.
    """

    def __init__(self, patience: Patience, is_usable: Callable[[str], bool]) -> None:
        self._patience = patience
        self._is_usable = is_usable
        self._fruitless = self._unreached = 0
        self._has_answered = False
        self._usable: deque[bool] = deque(maxlen=patience.window)

    def parsed_first(self, result: Reply | OracleError) -> Reply | OracleError:
        """A text that is of the schema is a reply, whatever the provider says of it; any other result as it came."""
        if isinstance(result, OracleError) and result.raw and self._is_usable(result.raw):
            return Reply(result.raw, result.usage, result.model)
        return result

    def note(self, outcomes: Iterable[Outcome]) -> Stop | None:
        """Takes note of how calls ended, in order."""
        stops = [self._note(outcome) for outcome in outcomes]
        return next((stop for stop in stops if stop is not None), None)

    def _note(self, outcome: Outcome) -> Stop | None:
        said = ": ".join(part for part in (outcome.reason, outcome.detail) if part)
        if outcome.kind == "stopped":
            return Stop("refused by the provider", said)
        if outcome.kind == "failed":
            self._fruitless += 1
            self._unreached = self._unreached + 1 if outcome.reason in NO_ORACLE_THERE else 0
            if self._unreached >= (self._patience.lost if self._has_answered else self._patience.unreached):
                return Stop("no answers", f"{self._unreached} calls in a row: {said}; {CHECK}")
            if self._fruitless >= self._patience.fruitless:
                return Stop("no answers", f"{self._fruitless} calls in a row, the last with {said}")
            return None
        self._fruitless = self._unreached = 0
        self._has_answered = True
        self._usable.append(outcome.kind == "reply" and self._is_usable(outcome.raw))
        if len(self._usable) == self._patience.window and sum(self._usable) < FEWEST_USABLE * len(self._usable):
            return Stop("unusable replies", f"{len(self._usable) - sum(self._usable)} of the last {len(self._usable)}")
        return None
