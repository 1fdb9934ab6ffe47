"""What a model's tokens cost: a dated table that comes with the trainer, and prices given instead."""

import json
from dataclasses import dataclass
from pathlib import Path

from distillery_runtime.errors import InputError, Problem
from distillery_trainer.oracle.protocol import Usage

TABLE = Path(__file__).with_name("prices.json")
MILLION = 1_000_000
GIVEN = "given with --price"
PARTS = ("input", "cached", "output", "batch")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens; `batch` is the factor in batch mode, `as_of` the day the table was written.

    `up_to_tokens`: of input, where longer prompts cost more.
    """

    input: float
    cached: float
    output: float
    batch: float
    as_of: str
    up_to_tokens: int | None = None

    def cost(self, usage: Usage, is_batch: bool) -> float:
        """What a call cost, in US dollars: cached input at its own price, thinking at the output's."""
        fresh = usage.input_tokens - min(usage.cached_tokens, usage.input_tokens)
        dollars = fresh * self.input + (usage.input_tokens - fresh) * self.cached + usage.output_tokens * self.output
        return dollars / MILLION * (self.batch if is_batch else 1.0)

    def max_cost(self, usage: Usage, is_batch: bool) -> float:
        """What a call can cost with at most this usage: cached input may be the more expensive one."""
        cached = Usage(usage.input_tokens, usage.output_tokens, usage.input_tokens, usage.thinking_tokens)
        return max(self.cost(usage, is_batch), self.cost(cached, is_batch))

    @property
    def is_free(self) -> bool:
        """Whether nothing is ever paid."""
        return self.input == self.cached == self.output == 0


FREE = Price(0.0, 0.0, 0.0, 1.0, "no price")


def find_price(model: str, given: str | None, service: str | None = None) -> Price:
    """The price of a model's tokens.

    Args:
        model: the model's name; only the very same name is looked up.
        given: `input=0.3,output=2.5`, with `cached` (default: as input) and `batch` (default: 1); None: the table.
        service: who is asked, for the same name costs otherwise elsewhere; None for any.

    Raises:
        InputError: the table does not have the model and no price was given, or what was given is no price.
    """
    if given is not None:
        return _parse(given)
    models = json.loads(TABLE.read_text(encoding="utf-8"))["models"]
    known = {name: row for name, row in models.items() if service in (None, row["service"])}
    found = known.get(model.removeprefix("models/"))
    if found is None:
        expected = f"--price input=USD,output=USD for a million tokens{f' at {service}' if service else ''}"
        expected += f", or one of: {', '.join(sorted(known))}" if known else ""
        raise InputError("--model", [Problem(model, "its price is not known", expected)])
    amounts = {part: float(found[part]) for part in PARTS}
    return Price(**amounts, as_of=str(found["as_of"]), up_to_tokens=found.get("up_to_tokens"))


def _parse(given: str) -> Price:
    parts: dict[str, float] = {}
    problems = []
    for part in given.split(","):
        name, _, text = part.partition("=")
        value = _amount(text)
        if name not in PARTS or name in parts or value is None:
            problems.append(Problem(repr(part), "no price", f"one of {', '.join(PARTS)}, once, = a number from 0"))
        else:
            parts[name] = value
    problems += [Problem(name, "missing", "a price") for name in ("input", "output") if name not in parts]
    if problems:
        raise InputError("--price", problems)
    return Price(parts["input"], parts.get("cached", parts["input"]), parts["output"], parts.get("batch", 1.0), GIVEN)


def _amount(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < MILLION else None
