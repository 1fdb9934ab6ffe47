"""The routing threshold and its certificate: an upper bound on what the probe drops that its judge would keep.

The judge is the student, whose verdict the cascade gives up for speed, or the oracle, who is right. A miss is an
article that the judge places at the operating tier or above and whose chance, which the router tells from the probe's
scores, is below the threshold. Thresholds are tested from the lowest up, each by an upper bound on its miss rate
(`bounds.py`), until one fails; such fixed-sequence testing needs no correction for having tested many (Angelopoulos et
al., "Learn then Test", 2021). It holds for articles drawn as these were, which no model was fitted or calibrated on.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distillery_trainer.certify.bounds import (
    positives_needed,
    positives_planned,
    share_interval,
    upper_bound,
    weighted_upper_bound,
)

NORMAL_95 = 1.96
DECIDES = "student"  # the judge whose threshold is the cascade's

Json = Mapping[str, Any]  # Any: nested JSON of known shape

# Log odds of -8 to 0 in steps of 1/4: chances of 0.000335 to 0.5.
LADDER = tuple(round(1 / (1 + math.exp(-step / 4)), 6) for step in range(-32, 1))


@dataclass(frozen=True, slots=True)
class Drawn:
    """Articles that were used for nothing else, as the two stages see them.

    `probe`: (N,) chances in [0, 1]. `finds`: (N,) bool, the judge's finds: articles that the student selects, or that
    the oracle places at the operating tier or above. `weights`: (N,) above 0, one over the
    probability with which each article was drawn, where these differ. `most`: the highest of them that any article of
    the whole population has; by default that of these.
    """

    probe: NDArray[np.floating]
    finds: NDArray[np.bool_]
    weights: NDArray[np.floating] | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be certified: the highest miss rate in (0, 1), and the confidence."""

    target_miss_rate: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Point:
    """One threshold: the share of articles that the probe answers, and its miss rate's count and bound."""

    threshold: float
    share_below: float
    misses: int
    positives: int
    upper_bound: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is known of a threshold.

    `threshold` is None when none could be certified: every article then goes on to the student. `positives` is how
    many articles the bound rests on, `misses` how many of them the threshold would have dropped, `upper_bound` the
    highest miss rate that is consistent with this at the stated confidence. `positives_needed` is how many positives
    without a miss would certify the target, None where draws were unequal: it then depends on theirs. `share_below` is
    the part of all articles that the probe would answer.
    """

    threshold: float | None
    target_miss_rate: float
    confidence: float
    articles: int
    positives: int
    misses: int
    upper_bound: float
    positives_needed: int | None
    share_below: float
    judge: str = DECIDES

    def to_record(self) -> dict[str, object]:
        """The JSON form, with the certificate in words."""
        return {"schema_version": 1, **asdict(self), "statement": self.statement()}

    @property
    def _finds(self) -> str:
        """Whose finds it is about, in words."""
        selects = f"that the {self.judge} selects"
        return selects if self.judge == DECIDES else f"that the {self.judge} places at the operating tier or above"

    def statement(self) -> str:
        """What the certificate says, as a sentence that is true whatever another judge's says.

        The student decides: its threshold is the cascade's. Another judge's test goes as far as its own threshold.
        """
        confidence, decides = f"{self.confidence * 100:g} % confidence", self.judge == DECIDES
        if self.threshold is None:
            whose, so = (
                ("", " Every article goes to the student.") if decides else (f" by the {self.judge}'s finds", "")
            )
            return f"No threshold is certified{whose}: {self._reason(confidence)}{so}"
        bound = math.ceil(self.upper_bound * 1000) / 10  # rounded up: never less than what was proved
        whose = "the probe" if decides else f"a threshold of {self.threshold:g}"
        return (
            f"Of articles {self._finds}, {whose} drops at most "
            f"{bound:g} % ({confidence}; {self.misses} missed of {self.positives})."
        )

    def _reason(self, confidence: str) -> str:
        """Why there is no threshold."""
        finds = self._finds
        target = f"a miss rate of {self.target_miss_rate * 100:g} % at {confidence}"
        if self.positives_needed is None:
            return f"{self.positives} articles {finds} are too few, or too many of them were missed for {target}."
        plan = f"{self.positives_needed} without a miss would certify {target}"
        if self.judge == DECIDES:
            plan += ", of labelled articles or of others, which need no labels (--certify-on FILE)"
        if not self.positives:
            return f"none of {self.articles} articles is one {finds}; {plan}."
        if self.positives < self.positives_needed:
            return f"{self.positives} articles {finds} are too few, or too many of them were missed; {plan}."
        return f"of {self.positives} articles {finds} the lowest threshold misses too many; {plan}."


def statements(record: Json) -> str:
    """All judges' sentences of a `certificate.json`, and how the others' thresholds stand to the cascade's."""
    first, others = (
        _of_record(record),
        [_of_record(v) for v in record.values() if isinstance(v, Mapping) and "judge" in v],
    )
    said = " ".join([first.statement(), *(f"{other.statement()}{_beside(first, other)}" for other in others)])
    return said + (_found_in_words(record["found"]) if "found" in record else "")


def _of_record(record: Json) -> Certificate:
    return Certificate(**{item.name: record[item.name] for item in fields(Certificate) if item.name in record})


def _beside(first: Certificate, other: Certificate) -> str:
    if first.threshold is None or other.threshold is None:
        return " It is not used." if first.threshold is None and other.threshold is not None else ""
    if first.threshold <= other.threshold:
        return " The cascade's is no higher, so that this holds for it too."
    return f" The cascade's is higher ({first.threshold:g}): of the {other.judge}'s finds it may drop more."


def certificate(judges: Mapping[str, Drawn], wanted: Wanted, drawn_from: str) -> dict[str, object]:
    """The content of `certificate.json`: the first judge's certificate and curve, the others' by their names within.

    Args:
        judges: the articles that each judges. drawn_from: what the first one's are, `calibration` or `unlabelled`.
    """
    first, *others = (
        (judge, certify(drawn, wanted, judge).to_record() | {"curve": curve(drawn, wanted)})
        for judge, drawn in judges.items()
    )
    return first[1] | {"drawn_from": drawn_from} | dict(others)


def found_by(threshold: float | None, cascade: Drawn, oracle: Drawn) -> dict[str, object]:
    """What the cascade finds of the oracle's finds, from end to end, on articles that no model was fitted on.

    Of `positives` articles the student alone selects `by_student` and the cascade `selected`; `interval` is the exact
    one at 95 % of the share that the cascade selects. With `positives_for_a_tenth` it would be about 0.1 wide.

    Args:
        threshold: of the probe, None where it answers nothing.
        cascade: the articles with what the student selects.
        oracle: the same articles with the oracle's finds.
    """
    positives = int(oracle.finds.sum())
    by_student = oracle.finds & cascade.finds
    kept = by_student if threshold is None else by_student & (np.asarray(cascade.probe) >= threshold)
    hits = int(kept.sum())
    share = (hits + 2) / (positives + 4)  # of Agresti and Coull (1998): never sure of all or none
    return {
        "positives": positives,
        "by_student": int(by_student.sum()),
        "selected": hits,
        "interval": share_interval(hits, positives),
        "positives_for_a_tenth": math.ceil(share * (1 - share) * (2 * NORMAL_95 / 0.1) ** 2),
    }


def _found_in_words(found: Json) -> str:
    """The end to end recall as a sentence."""
    if not found["positives"]:
        return ""
    low, high = (f"{100 * value:.0f}" for value in found["interval"])
    share = found["selected"] / found["positives"]
    lost = found["by_student"] - found["selected"]
    return (
        f" Of {found['positives']} articles that the oracle places there the cascade selects {found['selected']} "
        f"({100 * share:.0f} %, 95 % interval {low} to {high}); {lost} are lost to the probe, "
        f"{found['positives'] - found['by_student']} to the student."
    )


def certify(drawn: Drawn, wanted: Wanted, judge: str = DECIDES) -> Certificate:
    """Finds the highest threshold of the ladder that fixed-sequence testing certifies."""
    found = None
    for point in points(drawn, wanted):
        if point.upper_bound > wanted.target_miss_rate:
            break
        found = point
    none = _point(drawn, wanted, -math.inf, {})
    return Certificate(
        threshold=found.threshold if found else None,
        target_miss_rate=wanted.target_miss_rate,
        confidence=wanted.confidence,
        articles=len(drawn.probe),
        positives=none.positives,
        misses=(found or none).misses,
        upper_bound=round((found or none).upper_bound, 6),
        positives_needed=(
            positives_needed(wanted.target_miss_rate, wanted.confidence) if drawn.weights is None else None
        ),
        share_below=round((found or none).share_below, 6),
        judge=judge,
    )


def points(drawn: Drawn, wanted: Wanted) -> Iterator[Point]:
    """What each threshold would save and might miss, from the lowest to even odds: the trade-off's curve.

    Each bound holds alone; that several hold at once is not said.
    """
    known: dict[int, float] = {}  # bounds by number of misses: higher thresholds miss what lower ones do, and more
    return (_point(drawn, wanted, threshold, known) for threshold in LADDER)


def curve(drawn: Drawn, wanted: Wanted) -> list[dict[str, object]]:
    """The curve as JSON, each point with how many positives would certify the target at the rate seen there."""
    return [
        asdict(point)
        | {"upper_bound": round(point.upper_bound, 6), "share_below": round(point.share_below, 6),
           "positives_planned": _planned(point, wanted) if drawn.weights is None else None}
        for point in points(drawn, wanted)
    ]  # fmt: skip


def _planned(point: Point, wanted: Wanted) -> int | None:
    return positives_planned(wanted.target_miss_rate, wanted.confidence, point.misses / max(point.positives, 1))


def _point(drawn: Drawn, wanted: Wanted, threshold: float, known: dict[int, float]) -> Point:
    below, positive = np.asarray(drawn.probe) < threshold, np.asarray(drawn.finds)
    missed = below[positive]
    weights = np.ones(len(below)) if drawn.weights is None else np.asarray(drawn.weights, np.float64)
    misses = int(missed.sum())
    if misses not in known and drawn.weights is None:
        known[misses] = upper_bound(misses, len(missed), wanted.confidence)
    elif misses not in known:
        most = drawn.most or float(weights.max())
        known[misses] = weighted_upper_bound(missed, weights[positive], most, wanted.confidence)
    return Point(threshold, float(np.average(below, weights=weights)), misses, len(missed), known[misses])
