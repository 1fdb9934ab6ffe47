"""Selection: the chance from which articles are selected, chosen on the curve of recall and precision."""

import re
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import OperatingPoint, OperatingRule, StrictModel

MAX_POINTS = 256
ASKED = "min_recall=R, min_precision=P or chance=C, each above 0 and at most 1; max=f1; or tier"

Chance = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class CurvePoint(StrictModel):
    """What a threshold selects of the articles that the curve rests on: how many, and the positives among them."""

    chance: Chance
    selected: Count
    hits: Count


class Selection(StrictModel):
    """The operating point of a bundle, and the curve that another one can be chosen on.

    `rule`: what was asked for. `chance`: the threshold; None selects by the tier. `articles`, `positives`: held-out
    articles that the curve rests on, and those of them that the oracle places at the operating tier or above; they were
    `drawn_from` the validation split, or are all labelled articles out of fold. `curve`: by rising chance.
    """

    rule: OperatingRule
    chance: Chance | None
    articles: Count
    positives: Count
    drawn_from: str
    curve: Annotated[tuple[CurvePoint, ...], Field(max_length=MAX_POINTS)]

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        before = None
        for point in self.curve:
            if not point.hits <= min(point.selected, self.positives) or point.selected > self.articles:
                raise ValueError("a curve with no more hits than positives and selected articles")
            if before and not (before.chance < point.chance and before.selected >= point.selected):
                raise ValueError("a curve by rising chance that selects fewer and fewer articles")
            before = point
        return self

    def moved(self, asked: str) -> "Selection":
        """The selection with another operating point, chosen on the same curve.

        Args:
            asked: `min_recall=R`, `min_precision=P`, `chance=C`, `max=f1` or `tier`.

        Raises:
            InputError: it is none of these, or no point of the curve has what is asked for.
        """
        name, _, value = asked.partition("=")
        if asked == "tier":
            return self.model_copy(update={"rule": "tier", "chance": None})
        if asked == "max=f1":
            rule = OperatingPoint(max="f1")
        elif not re.fullmatch(r"\d*\.?\d+", value) or not 0 < float(value) <= 1:
            raise InputError("--select", [Problem("operating point", repr(asked), ASKED)])
        elif name == "chance":
            return self.model_copy(update={"chance": float(value)})
        elif name in ("min_recall", "min_precision"):
            rule = OperatingPoint.model_validate({name: float(value)})
        else:
            raise InputError("--select", [Problem("operating point", repr(asked), ASKED)])
        point = best_point(self.curve, self.positives, rule)
        if point is None:
            raise InputError("--select", [Problem(asked, "no such point on the bundle's curve", self._reach())])
        return self.model_copy(update={"rule": rule, "chance": point.chance})

    def _reach(self) -> str:
        """How far the curve goes, for messages."""
        if not self.curve:
            return f"`tier` or chance=C: its curve is empty ({self.positives} positives of {self.articles} articles)"
        most = max(precision(point) for point in self.curve)
        return (
            f"a precision of at most {most:.2f} ({self.positives} positives of {self.articles} articles), or chance=C"
        )


def precision(point: CurvePoint) -> float:
    """The share of positives among the articles selected; 0 where none is."""
    return point.hits / point.selected if point.selected else 0.0


def f1(point: CurvePoint, positives: int) -> float:
    """The harmonic mean of recall and precision."""
    return 2 * point.hits / (point.selected + positives) if point.selected + positives else 0.0


def best_point(curve: Sequence[CurvePoint], positives: int, rule: OperatingPoint) -> CurvePoint | None:
    """The point of a curve that an operating point asks for, None where no point has what it asks.

    Args:
        curve: by rising chance.
        positives: articles to be found, of those that the curve rests on.
        rule: the best F1 (of equal ones the highest chance), the highest chance of at least a recall, or the lowest
            chance of at least a precision.
    """
    if not positives:
        return None
    if rule.min_recall is not None:
        return next((p for p in reversed(curve) if p.hits / positives >= rule.min_recall), None)
    if rule.min_precision is not None:
        return next((p for p in curve if precision(p) >= rule.min_precision), None)
    return max(curve, key=lambda point: (f1(point, positives), point.chance), default=None)
