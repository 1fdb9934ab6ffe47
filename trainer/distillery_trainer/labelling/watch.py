"""Watches calls as they end, to stop before money is spent on an oracle that answers nothing, or nonsense."""

from collections import deque
from collections.abc import Callable, Iterable

from distillery_trainer.labelling.driving import Patience, Stop
from distillery_trainer.labelling.ledger import Outcome

FEWEST_USABLE = 0.5


class Watch:
    """Hears of each outcome and says when to stop.

    Args:
        patience: when it is enough.
        is_usable: whether a raw reply is of the schema.
    """

    def __init__(self, patience: Patience, is_usable: Callable[[str], bool]) -> None:
        self._patience = patience
        self._is_usable = is_usable
        self._fruitless = 0
        self._usable: deque[bool] = deque(maxlen=patience.window)

    def hear(self, outcomes: Iterable[Outcome]) -> Stop | None:
        """Takes note of how calls ended, in order."""
        stops = [self._hear(outcome) for outcome in outcomes]
        return next((stop for stop in stops if stop is not None), None)

    def _hear(self, outcome: Outcome) -> Stop | None:
        said = ": ".join(part for part in (outcome.reason, outcome.detail) if part)
        if outcome.kind == "stopped":
            return Stop("refused by the provider", said)
        if outcome.kind == "failed":
            self._fruitless += 1
            if self._fruitless >= self._patience.fruitless:
                return Stop("no answers", f"{self._fruitless} calls in a row, the last with {said}")
            return None
        self._fruitless = 0
        self._usable.append(outcome.kind == "reply" and self._is_usable(outcome.raw))
        if len(self._usable) == self._patience.window and sum(self._usable) < FEWEST_USABLE * len(self._usable):
            return Stop("unusable replies", f"{len(self._usable) - sum(self._usable)} of the last {len(self._usable)}")
        return None
