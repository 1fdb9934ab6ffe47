"""Calls are spaced so that no minute has too many, and wait when a server asks for it."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillery_trainer.oracle.rates import Rates


class Clock:
    """A clock that goes on only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def starts(rates: Rates, clock: Clock, tokens: Sequence[int]) -> list[float]:
    async def take_all() -> list[float]:
        found = []
        for count in tokens:
            await rates.take(count)
            found.append(clock.now)
        return found

    return asyncio.run(take_all())


def most_in_a_minute(moments: Sequence[float], amounts: Sequence[int]) -> int:
    return max(
        sum(a for m, a in zip(moments, amounts, strict=True) if start <= m < start + 59.999) for start in moments
    )


@given(st.integers(1, 100))
def test_no_minute_has_more_requests_than_allowed(limit: int) -> None:
    clock = Clock()

    moments = starts(Rates(limit, None, clock, clock.sleep), clock, [10] * 150)

    assert most_in_a_minute(moments, [1] * 150) <= limit


@given(st.lists(st.integers(1, 900), min_size=2, max_size=60))
def test_no_minute_has_more_tokens_than_allowed_and_one_call(tokens: list[int]) -> None:
    clock = Clock()

    moments = starts(Rates(None, 1000, clock, clock.sleep), clock, tokens)

    assert most_in_a_minute(moments, tokens) <= 1000 + max(tokens)


def test_without_limits_nobody_waits() -> None:
    clock = Clock()

    assert starts(Rates(None, None, clock, clock.sleep), clock, [10**9] * 5) == [100.0] * 5


def test_a_pause_holds_back_every_call() -> None:
    clock = Clock()
    rates = Rates(None, None, clock, clock.sleep)

    rates.pause(30)
    rates.pause(5)

    assert starts(rates, clock, [1, 1]) == [130.0, 130.0]


def test_calls_are_spaced_after_a_pause_too() -> None:
    clock = Clock()
    rates = Rates(60, None, clock, clock.sleep)
    rates.pause(30)

    assert starts(rates, clock, [1, 1, 1]) == pytest.approx([130.0, 131.0, 132.0])


def test_a_pause_during_the_wait_counts_too() -> None:
    clock = Clock()

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        if clock.now < 102:
            rates.pause(20)

    rates = Rates(60, None, clock, sleep)

    assert starts(rates, clock, [1, 1])[1] >= 121
