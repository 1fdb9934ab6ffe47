"""The result of scoring one article, and its JSON form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["scored", "blocked", "invalid"]
_ORDER = (
    *("id", "status", "stage", "selected", "chance", "selected_from", "scores", "overall", "tier", "gatekeeper"),
    *("expected", "expected_overall", "reason", "bundle", "tokens", "truncated", "degraded", "detectors"),
)


@dataclass(frozen=True, slots=True)
class Score:
    """One article's result. It describes itself: what happened, where, why, and by which bundle.

    `id` is None only for an invalid record without a usable id. All that a model says is None unless the status is
    `scored`. `reason` says why an article is invalid or blocked, or which shadow rule of the prefilter would have
    blocked it. `tokens` counts what the deciding stage read, special tokens included.

    `chance` is the probability, by the deciding stage, that the oracle places the article at the operating tier or
    above; `selected` whether it is at least `selected_from`, the operating point. Where articles are selected by their
    tier, `selected_from` is None; `chance` too in bundles of format 1. `scores` are on the oracle's steps, `overall`
    and `tier` are the verdict on them; `expected` are the means, `expected_overall` the mean of these by weight.
    `degraded` and `detectors` are reserved, and None.
    """

    id: str | None
    status: Status
    bundle: str
    stage: str | None = None
    scores: Mapping[str, float] | None = None
    overall: float | None = None
    tier: str | None = None
    gatekeeper: str | None = None
    reason: str | None = None
    tokens: int | None = None
    truncated: bool | None = None
    selected: bool | None = None
    chance: float | None = None
    selected_from: float | None = None
    expected: Mapping[str, float] | None = None
    expected_overall: float | None = None
    degraded: str | None = None
    detectors: Mapping[str, str] | None = None

    def to_record(self) -> dict[str, object]:
        """The JSON form: every field, in a fixed order."""
        record = {name: getattr(self, name) for name in _ORDER}
        if self.scores is not None and self.expected is not None:
            record["scores"], record["expected"] = dict(self.scores), dict(self.expected)
        return record
