"""Checks of labels as numbers: how they are spread, and whether dimensions say the same."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.curate.findings import Finding, graded
from distillery_trainer.evaluate.metrics import rounded

MOST_ALIKE = 0.8  # share of articles with the same label
FEWEST_FINDS = 100
CORRELATED = 0.9
EXPLAINED = 0.95

Array = NDArray[np.floating]


def check_spread(labels: Array, names: Sequence[str]) -> Finding:
    """Dimensions that hardly vary.

    Args:
        labels: (N, D) in [0, 10], columns in the order of `names`.
    """
    spread = {name: _spread(labels[:, i]) for i, name in enumerate(names)}
    flat = [name for name, own in spread.items() if own["commonest_share"] >= MOST_ALIKE]
    named = f": {', '.join(flat)}" if flat else ""
    return Finding(
        "flat_dimensions", graded(len(flat), "warning"), len(flat), len(spread),
        f"dimensions have one label for {MOST_ALIKE:.0%} of the articles or more{named}", (), {"dimensions": spread},
    )  # fmt: skip


def check_finds(marks: Array, spec: FilterSpec) -> Finding:
    """Whether there are enough articles to be found: (N,) overalls."""
    tiers = {tier.name: int(np.sum(marks >= tier.min_overall)) for tier in spec.tiers}
    finds = int(np.sum(marks >= spec.operating_overall))
    return Finding(
        "few_finds", "warning" if finds < FEWEST_FINDS else "note", finds, len(marks),
        f"articles are at or above {spec.operating_tier}; a test of them wants {FEWEST_FINDS} (trainer screen)", (),
        {"at_or_above": tiers},
    )  # fmt: skip


def check_redundancy(labels: Array, names: Sequence[str]) -> Finding:
    """Pairs of dimensions that follow one another, and how many independent ones there are.

    Args:
        labels: (N, D) in [0, 10], D at least 1, columns in the order of `names`.
    """
    moving = [i for i in range(len(names)) if np.ptp(labels[:, i]) > 0]
    correlations = np.corrcoef(labels[:, moving].astype(np.float64), rowvar=False).reshape(len(moving), len(moving))
    pairs = [
        {"dimensions": [names[moving[a]], names[moving[b]]], "correlation": rounded(correlations[a, b])}
        for a in range(len(moving))
        for b in range(a + 1, len(moving))
        if abs(correlations[a, b]) >= CORRELATED
    ]
    values = np.sort(np.linalg.eigvalsh(correlations))[::-1] if len(moving) else np.zeros(0)
    shares = values / max(float(values.sum()), 1e-12)
    needed = int(np.searchsorted(np.cumsum(shares), EXPLAINED) + 1) if len(moving) else 0
    return Finding(
        "redundant_dimensions", graded(len(pairs), "warning"), len(pairs), len(names) * (len(names) - 1) // 2,
        f"pairs of dimensions correlate by {CORRELATED:g} or more; {needed} components hold {EXPLAINED:.0%}",
        (), {"pairs": pairs, "component_shares": [rounded(share) for share in shares], "components": needed},
    )  # fmt: skip


def _spread(column: Array) -> dict[str, float]:
    values, counts = np.unique(column, return_counts=True)
    return {
        "mean": round(float(column.mean()), 4),
        "deviation": round(float(column.std()), 4),
        "commonest": float(values[counts.argmax()]),
        "commonest_share": round(float(counts.max() / len(column)), 4),
        "at_least_7": round(float(np.mean(column >= 7)), 4),
    }
