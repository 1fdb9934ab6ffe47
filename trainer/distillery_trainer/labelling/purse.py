"""The purse: a call begins only if the most that it can cost fits the budget, and is written down before and after.

What is reserved for calls under way counts as spent until they end, so that the budget is never overshot, not even by
them, as long as `estimate.most` is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from distillery_trainer.labelling.estimate import most
from distillery_trainer.labelling.ledger import Ledger, Mode, Outcome
from distillery_trainer.oracle.errors import OracleError, RefusedError, RetryError, TerminalError
from distillery_trainer.oracle.prices import Price
from distillery_trainer.oracle.protocol import Reply, Request, Settings
from distillery_trainer.oracle.usage import Usage


@dataclass(frozen=True, slots=True)
class Call:
    """A call under way: its number in the ledger, and the most that it can cost."""

    number: int
    most_usd: float


@dataclass(frozen=True, slots=True)
class Terms:
    """What calls of one asking cost: the price, the most of each, and in which mode they are made."""

    asking: str
    settings: Settings
    price: Price
    mode: Mode

    def most_usd(self, request: Request) -> float:
        """The most that a call can cost."""
        return self.price.cost(most(request, self.settings), self.mode == "batch")

    def cost_usd(self, usage: Usage) -> float:
        """What a call cost, by what it used."""
        return self.price.cost(usage, self.mode == "batch")


class Purse:
    """Money and ledger of one command.

    Args:
        ledger: where calls are written down; what it says was spent before counts too.
        terms: what calls cost.
        max_usd: the budget.
    """

    def __init__(self, ledger: Ledger, terms: Terms, max_usd: float) -> None:
        self._ledger = ledger
        self._terms = terms
        self._max_usd = max_usd
        self._spent_usd = ledger.spent().total_usd
        self._reserved_usd = 0.0
        self.under_way = 0

    @property
    def spent_usd(self) -> float:
        """What the ledger has paid, or may have."""
        return self._spent_usd

    @property
    def left_usd(self) -> float:
        """What is neither spent nor reserved."""
        return self._max_usd - self._spent_usd - self._reserved_usd

    def most_usd(self, request: Request) -> float:
        """The most that a call can cost."""
        return self._terms.most_usd(request)

    def begin(self, requests: Sequence[Request], job: str | None = None) -> list[Call] | None:
        """Reserves and writes down calls that are about to be made, or None where the budget has no room for all."""
        mosts = [self._terms.most_usd(request) for request in requests]
        if 0 < sum(mosts) > self.left_usd:
            return None
        numbers = self._ledger.begin(self._terms.asking, requests, mosts, self._terms.mode, job)
        self._reserved_usd += sum(mosts)
        self.under_way += len(numbers)
        return [Call(number, most_usd) for number, most_usd in zip(numbers, mosts, strict=True)]

    def adopt(self, calls: Sequence[Call]) -> None:
        """Takes over calls that an earlier process began and that counted as spent until now."""
        most_usd = sum(call.most_usd for call in calls)
        self._spent_usd -= most_usd
        self._reserved_usd += most_usd
        self.under_way += len(calls)

    def end(self, results: Sequence[tuple[Call, Reply | OracleError]], job: str | None = None) -> list[Outcome]:
        """Writes down how calls ended and frees what they did not use."""
        outcomes = {call.number: outcome_of(result, call.most_usd, self._terms) for call, result in results}
        self._ledger.end(outcomes, job)
        self._reserved_usd -= sum(call.most_usd for call, _ in results)
        self._spent_usd += sum(outcome.cost_usd for outcome in outcomes.values())
        self.under_way -= len(results)
        return list(outcomes.values())


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
