"""What calls cost: by each reply's own tokens, at a dated price or at one that was given."""

import datetime
import json

import pytest

from distillery_runtime.errors import InputError
from distillery_trainer.oracle.prices import TABLE, Price, find_price
from distillery_trainer.oracle.protocol import Usage

PRICE = Price(input=1.0, cached=0.1, output=10.0, batch=0.5, as_of="2026-01-01")


def test_cached_input_has_its_own_price_and_thinking_that_of_the_output() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=200_000, cached_tokens=400_000, thinking_tokens=150_000)

    assert PRICE.cost(usage, is_batch=False) == pytest.approx(0.6 + 0.04 + 2.0)


def test_batch_mode_costs_its_share() -> None:
    usage = Usage(1_000_000, 0)

    assert PRICE.cost(usage, is_batch=True) == 0.5 * PRICE.cost(usage, is_batch=False)


def test_more_cached_than_input_never_gives_a_negative_price() -> None:
    assert PRICE.cost(Usage(10, 0, cached_tokens=1_000_000), is_batch=False) == pytest.approx(10 * 0.1 / 1e6)


def test_a_model_of_the_table_has_its_price_and_the_day_it_was_written_down() -> None:
    price = find_price("gemini-2.5-flash", None)

    assert (price.input, price.output) == (0.3, 2.5)
    assert datetime.date.fromisoformat(price.as_of)


def test_every_price_of_the_table_is_whole_and_dated() -> None:
    table = json.loads(TABLE.read_text(encoding="utf-8"))

    for model in table["models"]:
        price = find_price(model, None)
        assert 0 < price.cached <= price.input < price.output
        assert 0 < price.batch <= 1
        assert datetime.date.fromisoformat(price.as_of)


def test_a_model_that_is_almost_in_the_table_is_not_guessed() -> None:
    with pytest.raises(InputError, match=r"gemini-2.5-flash-next: its price is not known, expected --price"):
        find_price("gemini-2.5-flash-next", None)


def test_a_price_that_is_given_goes_before_the_table() -> None:
    assert find_price("gemini-2.5-flash", "input=1,output=2") == Price(1, 1, 2, 1, "given with --price")
    assert find_price("mine", "output=2,input=1,cached=0.5,batch=0.4") == Price(1, 0.5, 2, 0.4, "given with --price")


@pytest.mark.parametrize("given", ["", "0.3", "input=1", "input=1,output=-1", "input=nan,output=1",
                                   "input=1,input=1,output=1", "input=1,output=1,tax=2"])  # fmt: skip
def test_what_is_no_price_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="--price"):
        find_price("mine", given)
