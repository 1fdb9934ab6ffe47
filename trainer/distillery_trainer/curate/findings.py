"""What an audit finds: named, counted, with the ids concerned; as JSON and as text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["fault", "warning", "note"]

NAMED = 8  # ids in the readable text; the JSON has all


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result. `count` of `total` articles (or pairs, or dimensions) are concerned; `ids`: which.

    `fault`: the data must not be used so; `warning`: look at it; `note`: nothing was found, or only to be known.
    """

    check: str
    severity: Severity
    count: int
    total: int
    says: str
    ids: Sequence[str] = ()
    details: Mapping[str, object] = field(default_factory=dict)

    def record(self) -> dict[str, object]:
        """The finding as JSON holds it."""
        return {
            "check": self.check,
            "severity": self.severity,
            "count": self.count,
            "total": self.total,
            "says": self.says,
            "ids": list(self.ids),
            "details": dict(self.details),
        }


def graded(count: int, otherwise: Severity) -> Severity:
    """`note` where nothing was found."""
    return otherwise if count else "note"


def as_text(findings: Sequence[Finding]) -> Iterator[str]:
    """Lines for a reader, the worst first."""
    order = ("fault", "warning", "note")
    for one in sorted(findings, key=lambda finding: order.index(finding.severity)):
        yield f"{one.severity:<8} {one.check:<22} {one.count:>6} of {one.total:<6} {one.says}"
        if one.ids:
            rest = len(one.ids) - NAMED
            yield f"{'':>10}{', '.join(one.ids[:NAMED])}{f', and {rest} more' if rest > 0 else ''}"
