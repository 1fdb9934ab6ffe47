"""Two systems on the same articles: the difference of their errors and finds, with a paired interval by group."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import binomtest

from distillery_trainer.data.predictions import Decided
from distillery_trainer.evaluate.metrics import (
    LEVEL,
    Array,
    Interval,
    Mask,
    Report,
    Statistic,
    group_interval,
    once,
    rounded,
    weighted_mean,
    weighted_recall_difference,
)


@dataclass(frozen=True, slots=True)
class Oracle:
    """What systems are compared with on N articles.

    `labels`: (N, D) in [0, 10], columns in spec order. `finds`: (N,) bool, labels at the operating tier or above.
    `groups`: near-duplicates.
    """

    labels: Array
    finds: Mask
    groups: Sequence[str]

    def select(self, places: Sequence[int]) -> "Oracle":
        """The articles at these places."""
        chosen = np.asarray(places, np.int64)
        return Oracle(self.labels[chosen], self.finds[chosen], [self.groups[i] for i in places])


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
    """The differences of two systems: a lower `mae` and a higher `recall` of finds speak for the first."""

    mae: Difference
    recall: Difference


def differences(one: Decided, other: Decided, oracle: Oracle, seed: int) -> Differences:
    """`one` minus `other`.

    Both systems meet the same resamples of near-duplicate groups, so that what is hard for both cancels.
    """
    labels = oracle.labels
    errors = (np.abs(one.scores - labels) - np.abs(other.scores - labels)).mean(axis=1)

    def difference(statistic: Statistic) -> Difference:
        return Difference(rounded(once(statistic, len(labels))), group_interval(statistic, oracle.groups, seed))

    recall = weighted_recall_difference(one.selected, other.selected, oracle.finds)
    return Differences(difference(weighted_mean(errors)), difference(recall))


def finds_differ(one: Decided, other: Decided, oracle: Oracle) -> bool:
    """Whether one system surely finds more than the other: the sign test at 95 %.

    Of near-duplicate groups in which just one of them finds an article that is to be found, as many would be the
    first's as the other's by chance (McNemar's exact test). Six against none are the fewest that are sure.
    """
    names, true = np.asarray(oracle.groups), oracle.finds
    gained = set(names[true & one.selected & ~other.selected].tolist())
    lost = set(names[true & ~one.selected & other.selected].tolist())
    first, second = len(gained - lost), len(lost - gained)
    return bool(first + second) and bool(binomtest(first, first + second).pvalue <= 1 - LEVEL)
