"""How far answers are from those of cpu-fp32 to the same articles, one at a time."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.parity_result import Row
from distillery_exporter.variants.acceptance import Route, compare
from distillery_runtime import FilterSpec, Score
from distillery_runtime.spec.routing import Routing
from distillery_trainer.data.predictions import Answers

Floats = NDArray[np.float32]


def of_scores(spec: FilterSpec, expected: Floats, found: Floats) -> Row:
    """Differences of a stage's scores.

    Args:
        spec: the filter.
        expected: (N, D) float32 in [0, 10], columns in spec.dimensions order.
        found: (N, D) float32 in [0, 10], of the same articles.
    """
    answers = [Answers(s.astype(np.float64), s.astype(np.float64), np.zeros(len(s))) for s in (expected, found)]
    difference = compare(spec, answers[0], answers[1], expected, 0.0, 0, Route(Routing(None), None, None))
    return {
        "compared_articles": difference.articles,
        "mean_abs_to_fp32": difference.mae_to_fp32,
        "largest_abs_to_fp32": float(np.abs(found - expected).max()),
        "spearman_to_fp32": difference.spearman,
        "tier_flips": difference.tier_flips,
    }


def of_results(expected: Sequence[Score], found: Sequence[Score]) -> Row:
    """Differences of a cascade's results: of the overall where both scored, and of where and how they were decided."""
    pairs = list(zip(expected, found, strict=True))
    overalls = [(a.overall, b.overall) for a, b in pairs if a.overall is not None and b.overall is not None]
    before, after = (np.array(column) for column in zip(*overalls, strict=True)) if overalls else (np.zeros(0),) * 2
    rank = len(set(before)) > 1 and len(set(after)) > 1
    return {
        "compared_articles": len(pairs),
        "scored_by_both": len(overalls),
        "mean_abs_to_fp32": float(np.abs(after - before).mean()) if overalls else None,
        "largest_abs_to_fp32": float(np.abs(after - before).max()) if overalls else None,
        "spearman_to_fp32": float(spearmanr(before, after).statistic) if rank else None,
        "tier_flips": sum(a.tier != b.tier for a, b in pairs),
        "route_flips": sum(a.stage != b.stage for a, b in pairs),
        "status_flips": sum(a.status != b.status for a, b in pairs),
    }
