"""Budget: reserves a call's maximum cost before it is made, and books what it did cost when it ends.

What is reserved for calls under way counts as spent until they end, so that the budget is never exceeded, not even by
them, as long as `max_usage` is right. A reply that cost more than was reserved for it shows that it is not: no further
call begins, and the next command reserves more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from distillery_trainer.labelling.database import LedgerError
from distillery_trainer.labelling.driver import Stop
from distillery_trainer.labelling.estimate import ROUNDING, Terms
from distillery_trainer.labelling.ledger import Ledger, Outcome
from distillery_trainer.oracle.protocol import (
    Call,
    OracleError,
    RefusedError,
    Reply,
    RetryError,
    TerminalError,
    Usage,
)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A call under way: its number in the ledger, and the maximum reserved for it."""

    number: int
    most_usd: float


class Budget:
    """Money and ledger of one command.

    `paid_usd` is what the ledger has paid, by what providers counted. `stop` says why no further call may begin: a
    reply that cost more than its maximum, or a ledger that cannot be written.

    Args:
        ledger: where calls are written down; what it says was spent before counts too.
        terms: what calls cost.
        max_usd: the budget.
    """

    def __init__(self, ledger: Ledger, terms: Terms, max_usd: float) -> None:
        self._ledger = ledger
        self._terms = terms.with_headroom(ledger.cost_ratio(terms.asking, terms.mode))
        self._max_usd = max_usd
        spent = ledger.spent()
        self._spent_usd, self.paid_usd = spent.total_usd, spent.known_usd
        self._reserved_usd = 0.0
        self._unwritten: list[tuple[dict[int, Outcome], str | None]] = []
        self.under_way = 0
        self.stop: Stop | None = None

    @property
    def left_usd(self) -> float:
        """What is neither spent nor reserved."""
        return self._max_usd - self._spent_usd - self._reserved_usd

    def most_usd(self, call: Call) -> float:
        """The most that a call can cost."""
        return self._terms.most_usd(call)

    def begin(self, calls: Sequence[Call], batch: str | None = None) -> list[Reservation] | None:
        """Reserves and writes down calls that are about to be made, or None where that cannot be: see `refusal`."""
        mosts = [self._terms.most_usd(call) for call in calls]
        if self.stop is not None or 0 < sum(mosts) > self.left_usd:
            return None
        try:
            numbers = self._ledger.begin(self._terms.asking, calls, mosts, self._terms.mode, batch)
        except LedgerError as error:
            self.stop = Stop("ledger", str(error))
            return None
        self._reserved_usd += sum(mosts)
        self.under_way += len(numbers)
        return [Reservation(number, most_usd) for number, most_usd in zip(numbers, mosts, strict=True)]

    def refusal(self, call: Call) -> Stop:
        """Why `begin` took no call, not even this one alone."""
        detail = f"${max(self.left_usd, 0):.4f} are left, and the next call can cost ${self.most_usd(call):.4f}"
        return self.stop or Stop("budget", detail)

    def adopt(self, reserved: Sequence[Reservation]) -> None:
        """Takes over reservations that an earlier process made and that counted as spent until now."""
        most_usd = sum(each.most_usd for each in reserved)
        self._spent_usd -= most_usd
        self._reserved_usd += most_usd
        self.under_way += len(reserved)

    def end(
        self, results: Sequence[tuple[Reservation, Reply | OracleError]], batch: str | None = None
    ) -> list[Outcome]:
        """Writes down how calls ended and frees what they did not use."""
        outcomes = {one.number: outcome_of(result, one.most_usd, self._terms) for one, result in results}
        self._unwritten.append((outcomes, batch))
        self.write()
        self._reserved_usd -= sum(one.most_usd for one, _ in results)
        self._spent_usd += sum(outcome.cost_usd for outcome in outcomes.values())
        self.paid_usd += sum(outcome.cost_usd for outcome in outcomes.values() if outcome.is_known)
        self.under_way -= len(results)
        for one, _ in results:
            self._compare(outcomes[one.number], one.most_usd)
        return list(outcomes.values())

    def write(self) -> LedgerError | None:
        """Writes down what could not be written when it happened; gives the error if it still cannot be."""
        try:
            while self._unwritten:
                self._ledger.end(*self._unwritten[0])
                del self._unwritten[0]
        except LedgerError as error:
            self.stop = self.stop or Stop("ledger", str(error))
            return error
        return None

    @property
    def unwritten(self) -> int:
        """How many calls have ended whose end could not be written down."""
        return sum(len(outcomes) for outcomes, _ in self._unwritten)

    def _compare(self, outcome: Outcome, most_usd: float) -> None:
        if self.stop is None and outcome.cost_usd > most_usd * (1 + ROUNDING) and outcome.usage is not None:
            used = outcome.usage
            tokens = f"{used.input_tokens} tokens in and {used.output_tokens} out"
            reserved = f"${outcome.cost_usd:.4f}, where at most ${most_usd:.4f} was reserved"
            self.stop = Stop("above the maximum", f"{tokens}, {reserved}; the same command goes on and reserves more")


def outcome_of(result: Reply | OracleError, most_usd: float, terms: Terms) -> Outcome:
    """What the ledger keeps of a reply or an error, with its cost: known, or the most that it can have been."""
    if isinstance(result, Reply):
        cost, known = _cost(result.usage, most_usd, terms)
        return Outcome("reply", cost, known, raw=result.raw, model=result.model, usage=result.usage)
    reason, detail = result.reason, result.detail
    if isinstance(result, RefusedError):
        paid = result.raw or result.usage is not None
        cost, known = _cost(result.usage, most_usd, terms) if paid else (0.0, True)
        return Outcome("refused", cost, known, reason, detail, result.raw, usage=result.usage)
    if isinstance(result, RetryError) and result.may_be_paid:
        return Outcome("failed", most_usd, most_usd == 0, reason, detail)
    return Outcome("stopped" if isinstance(result, TerminalError) else "failed", 0.0, True, reason, detail)


def _cost(usage: Usage | None, most_usd: float, terms: Terms) -> tuple[float, bool]:
    """The cost, and whether it is known: without a count of tokens it is taken to be the most."""
    return (most_usd, most_usd == 0) if usage is None else (terms.cost_usd(usage), True)
