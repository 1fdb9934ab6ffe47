"""The result of scoring one article, and its JSON form."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["scored", "blocked", "invalid"]
_ORDER = (
    *("id", "status", "stage", "scores", "overall", "tier", "gatekeeper", "reason", "bundle", "tokens", "truncated"),
)


@dataclass(frozen=True, slots=True)
class Score:
    """One article's result. It describes itself: what happened, where, why, and by which bundle.

    `id` is None only for an invalid record without a usable id. `scores`, `overall`, `tier`, `stage` and `tokens` are
    None unless the status is `scored`. `reason` says why an article is invalid or blocked, or which shadow rule of the
    prefilter would have blocked it. `tokens` counts what the deciding stage read, special tokens included.
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

    def to_record(self) -> dict[str, object]:
        """The JSON form: every field, in a fixed order."""
        record = {name: getattr(self, name) for name in _ORDER}
        return record if self.scores is None else {**record, "scores": dict(self.scores)}
