"""How far two oracles agree on the articles that both labelled: error, bias, rank correlation, Krippendorff's alpha.

Every figure has a bootstrap interval over whole near-duplicate groups. Alpha (Krippendorff 2011, with squared
differences) is 1 for full agreement and 0 for what chance would give: unlike a mean error it does not praise two
oracles for giving the same common answer to everything.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import VerdictRules, overalls, round_scores
from distillery_trainer.data.duplicates import near_duplicate_groups
from distillery_trainer.data.labels import LabelledSet
from distillery_trainer.evaluate.metrics import (
    Array,
    Report,
    Statistic,
    group_interval,
    once,
    ratio,
    rounded,
    weighted_mean,
    weighted_spearman,
)
from distillery_trainer.evaluate.noise import noise_floor

SCHEMA_VERSION = 1
SEED = 0
FEWEST = 2


def agreement(one: LabelledSet, other: LabelledSet, spec: FilterSpec) -> Report:
    """The agreement of two sets of labels, by article's id.

    Args:
        one: labels of one oracle; a positive bias means that these are higher.
        other: labels of the other one.
        spec: the filter.

    Raises:
        InputError: fewer than two articles are in both, or one of them has another text there.
    """
    a, b = _paired(one, other)
    groups = near_duplicate_groups([article.id for article in a.articles], a.texts)
    x, y = a.labels().astype(np.float64), b.labels().astype(np.float64)
    columns = {name: _figures(x[:, i], y[:, i], groups) for i, name in enumerate(spec.dimension_names)}
    return {
        "schema_version": SCHEMA_VERSION,
        "filter": spec.label,
        "oracles": [a.oracles, b.oracles],
        "articles": len(a.articles),
        "only_in": [len(one.articles) - len(a.articles), len(other.articles) - len(b.articles)],
        "mae": _with_interval(weighted_mean(np.abs(x - y).mean(axis=1)), groups),
        "overall": _figures(overalls(x, spec), overalls(y, spec), groups),
        "dimensions": columns,
        "tiers": _tiers(x, y, spec),
        "noise": [_noise(answered, spec) for answered in (a, b)],
    }


def weighted_alpha(x: Array, y: Array) -> Statistic:
    """The statistic for Krippendorff's alpha of two raters, with squared differences, under resampling."""

    def statistic(weights: Array) -> Array:
        count = 2 * weights.sum(axis=-1)
        mean = (weights @ (x + y) / count)[..., None]
        expected = 2 * (weights * ((x - mean) ** 2 + (y - mean) ** 2)).sum(axis=-1) / (count - 1)
        observed = weights @ (x - y) ** 2 / (count / 2)
        alpha: Array = 1 - ratio(observed, expected)
        return alpha

    return statistic


def _paired(one: LabelledSet, other: LabelledSet) -> tuple[LabelledSet, LabelledSet]:
    """The articles of both, in the order of the first."""
    theirs = {article.id: place for place, article in enumerate(other.articles)}
    pairs = [(place, theirs[a.id]) for place, a in enumerate(one.articles) if a.id in theirs]
    problems = [
        Problem(one.articles[i].id, "another text in the two files", "the same article")
        for i, k in pairs
        if one.articles[i].text != other.articles[k].text
    ]
    if len(pairs) < FEWEST:
        problems.append(Problem("(both files)", f"{len(pairs)} articles in both", f"at least {FEWEST}"))
    if problems:
        raise InputError("trainer agree", problems[:50])
    return one.select([i for i, _ in pairs]), other.select([k for _, k in pairs])


def _figures(x: Array, y: Array, groups: Sequence[str]) -> Report:
    statistics = {
        "mae": weighted_mean(np.abs(x - y)),
        "bias": weighted_mean(x - y),
        "spearman": weighted_spearman(x, y),
        "alpha": weighted_alpha(x, y),
    }
    return {name: _with_interval(statistic, groups) for name, statistic in statistics.items()}


def _with_interval(statistic: Statistic, groups: Sequence[str]) -> Report:
    value = once(statistic, len(groups))
    return {"value": rounded(value), "interval": None if value is None else group_interval(statistic, groups, SEED)}


def _noise(labelled: LabelledSet, spec: FilterSpec) -> Report | None:
    found = noise_floor([article.repeats for article in labelled.articles], spec.dimension_names)
    return asdict(found) if found else None


def _tiers(x: Array, y: Array, spec: FilterSpec) -> Report:
    """How many articles both put into the same tier, and who finds what at the operating tier."""
    rules = VerdictRules(spec)
    a, b = ([rules.decide(row) for row in round_scores(scores).tolist()] for scores in (x, y))
    pairs, least = list(zip(a, b, strict=True)), spec.operating_overall
    finds = [(i.overall >= least, k.overall >= least) for i, k in pairs]
    return {
        "same": sum(i.tier == k.tier for i, k in pairs),
        "found_by_both": finds.count((True, True)),
        "found_by_first_only": finds.count((True, False)),
        "found_by_second_only": finds.count((False, True)),
    }
