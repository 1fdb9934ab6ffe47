"""The routing threshold and its certificate: an upper bound on what the probe drops that the student would keep.

A miss is an article whose student verdict reaches the operating tier and whose probe overall is below the threshold.
Thresholds are tested from the lowest up, each by an exact one-sided binomial bound (Clopper and Pearson, "The use of
confidence or fiducial limits", Biometrika 1934), until one fails; such fixed-sequence testing needs no correction for
having tested many (Angelopoulos et al., "Learn then Test", 2021). It holds for articles drawn as the calibration
articles were, which no model was fitted or calibrated on.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

STEP = 0.25


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is known of a threshold.

    `threshold` is None when none could be certified: every article then goes on to the student. `positives` is how
    many articles the bound rests on, `misses` how many of them the threshold would have dropped, `upper_bound` the
    highest miss rate that is consistent with this at the stated confidence. `positives_needed` is how many positives
    without a miss would certify the target. `share_below` is the part of all articles that the probe would answer.
    """

    threshold: float | None
    target_miss_rate: float
    confidence: float
    articles: int
    positives: int
    misses: int
    upper_bound: float
    positives_needed: int
    share_below: float

    def to_record(self) -> dict[str, object]:
        """The JSON form, with the certificate in words."""
        return {"schema_version": 1, **asdict(self), "statement": self.statement()}

    def statement(self) -> str:
        """What the certificate says, as a sentence."""
        confidence = f"{self.confidence * 100:g} % confidence"
        if self.threshold is None:
            return (
                f"No threshold is certified: {self.positives} articles at the operating tier are too few, or too many "
                f"of them were missed; {self.positives_needed} without a miss would certify a miss rate of "
                f"{self.target_miss_rate * 100:g} % at {confidence}. Every article goes to the student."
            )
        bound = math.ceil(self.upper_bound * 1000) / 10  # rounded up: never less than what was proved
        return (
            f"Of articles that the student places at the operating tier or above, the probe drops at most {bound:g} % "
            f"({confidence}; {self.misses} missed of {self.positives})."
        )


def certify(
    probe_overall: NDArray[np.floating],
    student_overall: NDArray[np.floating],
    operating_overall: float,
    target_miss_rate: float,
    confidence: float,
) -> Certificate:
    """Finds the highest threshold up to the operating tier that fixed-sequence testing certifies.

    Args:
        probe_overall, student_overall: (N,) overalls in [0, 10] of articles used for nothing else.
        operating_overall: where the operating tier begins.
        target_miss_rate: the highest tolerable share of missed positives, in (0, 1).
        confidence: of the bound, in (0.5, 1).
    """
    positive = np.asarray(student_overall) >= operating_overall
    of_positives = np.asarray(probe_overall)[positive]
    count = len(of_positives)
    best: tuple[float | None, int, float] = (None, 0, upper_bound(0, count, confidence))
    for threshold in _ladder(operating_overall):
        misses = int(np.sum(of_positives < threshold))
        bound = upper_bound(misses, count, confidence)
        if bound > target_miss_rate:
            break
        best = (threshold, misses, bound)
    threshold_found, misses, bound = best
    below = float(np.mean(np.asarray(probe_overall) < threshold_found)) if threshold_found is not None else 0.0
    return Certificate(
        threshold=threshold_found,
        target_miss_rate=target_miss_rate,
        confidence=confidence,
        articles=len(positive),
        positives=count,
        misses=misses,
        upper_bound=round(bound, 6),
        positives_needed=positives_needed(target_miss_rate, confidence),
        share_below=round(below, 6),
    )


def upper_bound(misses: int, positives: int, confidence: float) -> float:
    """The one-sided Clopper-Pearson bound on a rate; 1 when nothing was seen."""
    if misses >= positives:
        return 1.0
    return float(beta.ppf(confidence, misses + 1, positives - misses))


def positives_needed(target_miss_rate: float, confidence: float) -> int:
    """How many positives without a single miss certify the target: 59 for 5 % at 95 %."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - target_miss_rate))


def _ladder(operating_overall: float) -> Iterator[float]:
    """Thresholds from low to high; none above the operating tier, so the probe never announces a find."""
    step = 1
    while step * STEP < operating_overall:
        yield step * STEP
        step += 1
    yield operating_overall
