"""Two systems on the same articles: the difference of their errors and finds, with a paired interval by group."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import binomtest

from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.evaluate.metrics import (
    LEVEL,
    Array,
    Interval,
    Report,
    Statistic,
    group_interval,
    once,
    rounded,
    weighted_mean,
    weighted_recall_difference,
)


@dataclass(frozen=True, slots=True)
class Difference:
    """What one system has more than another, with its 95 % interval; None where it is not defined."""

    difference: float | None
    interval: Interval | None

    def to_record(self) -> Report:
        """The JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Differences:
    """The differences of two systems: a lower `mae` and a higher `recall` at the operating tier speak for the first."""

    mae: Difference
    recall: Difference


def differences(
    spec: FilterSpec, one: Array, other: Array, labels: Array, groups: Sequence[str], seed: int
) -> Differences:
    """`one` minus `other`.

    Both systems meet the same resamples of near-duplicate groups, so that what is hard for both cancels.

    Args:
        one, other, labels: (N, D) in [0, 10], columns in spec order.
        groups: each article's near-duplicate group.
    """
    errors = (np.abs(one - labels) - np.abs(other - labels)).mean(axis=1)
    said, against, true = (overalls(scores, spec) for scores in (one, other, labels))

    def difference(statistic: Statistic) -> Difference:
        return Difference(rounded(once(statistic, len(labels))), group_interval(statistic, groups, seed))

    recall = weighted_recall_difference(said, against, true, spec.operating_overall)
    return Differences(difference(weighted_mean(errors)), difference(recall))


def finds_differ(spec: FilterSpec, one: Array, other: Array, labels: Array, groups: Sequence[str]) -> bool:
    """Whether one system surely finds more than the other at the operating tier: the sign test at 95 %.

    Of near-duplicate groups in which just one of them finds an article that is to be found, as many would be the
    first's as the other's by chance (McNemar's exact test). Six against none are the fewest that are sure.

    Args: as for `differences`.
    """
    said, against, true = (overalls(scores, spec) >= spec.operating_overall for scores in (one, other, labels))
    names = np.asarray(groups)
    gained, lost = set(names[true & said & ~against].tolist()), set(names[true & ~said & against].tolist())
    first, second = len(gained - lost), len(lost - gained)
    return bool(first + second) and bool(binomtest(first, first + second).pvalue <= 1 - LEVEL)
