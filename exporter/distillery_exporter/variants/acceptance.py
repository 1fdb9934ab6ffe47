"""The decision gate: what another form of a model changes against fp32, and whether it may be used in its place."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.calibration import Calibration, CalibrationMap
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.routing import Routing
from distillery_runtime.spec.verdict import decide, gate_limit, round_scores
from distillery_trainer.data.predictions import Answers

Scores = NDArray[np.floating]
Matrix = NDArray[np.float64]

LEAST_SPEARMAN = 0.99
MOST_LABEL_MAE = 1.01
MOST_TIER_FLIPS = 0.005
# Half precision alone moves this many of the articles that lie at a gatekeeper's boundary: with bfloat16, 3 in 400 of a
# trained Gemma-3-270M, whose scores moved by 0.011. Hardly any may be far from it: a share, as every other limit, for
# a limit of none would refuse any variant once there are articles enough.
MOST_OTHER_FLIPS = 0.015
MOST_FAR_FLIPS = 0.0025
MOST_BATCH_DIFFERENCE = 0.1
# Whoever is nearer to a boundary than this may fall on either side of it; whoever is farther should not.
NEAR = 0.25
_SMALLEST_SPREAD = 1e-6
SMALLEST = 1e-6  # chance, as rounded


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a variant changed on N held-out articles.

    `mae_to_fp32`: over all scores. `spearman`: of the overall with that of fp32; None where either is constant.
    `spearman_uncapped`: the same of the weighted mean of scores, before a gatekeeper caps it: a cap puts many articles
    at one value, and whoever comes just above it passes half of them.
    `label_mae`, `label_mae_fp32`: to the oracle's labels. `tier_flips`, `gatekeeper_flips`: articles with another tier,
    another gatekeeper, of those that the stage answers with either form. `selection_flips`: those selected by one form
    alone, by the stage that selects. `route_flips`: articles that one form answers
    and the other hands on. `far_flips`: flips of any kind farther than 0.25 from every boundary. `dropped`: wanted
    articles that only the variant keeps from the next stage. `batch_difference`: the largest difference of a raw output
    alone and in a batch. `non_finite`: raw values.
    """

    articles: int
    mae_to_fp32: float
    spearman: float | None
    spearman_uncapped: float | None
    label_mae: float
    label_mae_fp32: float
    tier_flips: int
    gatekeeper_flips: int
    selection_flips: int
    route_flips: int
    far_flips: int
    dropped: int
    batch_difference: float
    non_finite: int

    def record(self) -> dict[str, float | int | None]:
        """As quality.json has it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Route:
    """Which articles a stage hands on, and which it would select.

    `wanted`: (N,) bool, the articles that the last stage selects; None for the last stage itself, which answers every
    article. `selects_from`: the chance from which articles are selected, None where they are by their tier.
    """

    routing: Routing
    wanted: NDArray[np.bool_] | None
    selects_from: float | None

    def select(self, chosen: NDArray[np.bool_]) -> "Route":
        """The articles of a mask."""
        return replace(self, wanted=None if self.wanted is None else self.wanted[chosen])


def compare(
    spec: FilterSpec,
    reference: Answers,
    candidate: Answers,
    labels: Scores,
    batch_difference: float,
    non_finite: int,
    route: Route,
) -> Comparison:
    """Compares a variant's answers with those of fp32.

    Args:
        spec: the filter.
        reference: fp32's answers on N articles, N at least 1.
        candidate: the variant's on the same articles.
        labels: (N, D) the oracle's.
        batch_difference: the largest difference found between a raw output alone and in a batch.
        non_finite: how many raw outputs were not finite.
        route: where the stage hands on and selects.

    Raises:
        InputError: the shapes differ, or there is no article.
        ModelError: a score is not a number in [0, 10].
    """
    if not len(labels) or not reference.scores.shape == candidate.scores.shape == labels.shape:
        shapes = f"shapes {reference.scores.shape}, {candidate.scores.shape}, {labels.shape}"
        raise InputError("gate", [Problem("scores, labels", shapes, "the same (N, D), N at least 1")])
    before, after = round_scores(reference.scores), round_scores(candidate.scores)
    verdicts = [(decide(old, spec), decide(new, spec)) for old, new in zip(before, after, strict=True)]
    overall = np.array([[pair[side].overall for side in (0, 1)] for pair in verdicts])
    chance = np.stack([reference.chance, candidate.chance], axis=1)
    routes, selections = _routes(overall, chance, route, spec), _selections(overall, chance, route, spec)
    answered, moved = ~routes.all(axis=1), routes[:, 0] != routes[:, 1]
    tiers = answered & np.array([old.tier != new.tier for old, new in verdicts])
    gates = answered & np.array([old.gatekeeper != new.gatekeeper for old, new in verdicts])
    chosen = selections[:, 0] != selections[:, 1]
    weights = np.array([dimension.weight for dimension in spec.dimensions])
    rows = zip(before, overall[:, 0], reference.chance, strict=True)
    near = np.array([_is_near(row, float(own), float(odds), spec, route) for row, own, odds in rows])
    return Comparison(
        articles=len(before),
        mae_to_fp32=float(np.abs(after - before).mean()),
        spearman=_spearman(overall[:, 0], overall[:, 1]),
        spearman_uncapped=_spearman(reference.expected @ weights, candidate.expected @ weights),
        label_mae=float(np.abs(after - labels).mean()),
        label_mae_fp32=float(np.abs(before - labels).mean()),
        tier_flips=int(tiers.sum()),
        gatekeeper_flips=int(gates.sum()),
        selection_flips=int(chosen.sum()),
        route_flips=int(moved.sum()),
        far_flips=int(((tiers | gates | moved | chosen) & ~near).sum()),
        dropped=0 if route.wanted is None else int((moved & routes[:, 0] & route.wanted).sum()),
        batch_difference=batch_difference,
        non_finite=non_finite,
    )


def _routes(overall: Matrix, chance: Matrix, route: Route, spec: FilterSpec) -> NDArray[np.bool_]:
    """Whether either form hands each article on: (N, 2); the last stage none."""
    if route.wanted is None:
        return np.zeros(overall.shape, np.bool_)
    at = math.inf if route.selects_from is None else route.selects_from
    pairs = zip(chance.reshape(-1).tolist(), overall.reshape(-1).tolist(), strict=True)
    found = [route.routing.hands_on(odds, own, spec.operating_overall, at) for odds, own in pairs]
    return np.array(found, np.bool_).reshape(overall.shape)


def _selections(overall: Matrix, chance: Matrix, route: Route, spec: FilterSpec) -> NDArray[np.bool_]:
    """Whether either form selects each article: (N, 2); a stage that hands such articles on none."""
    if route.wanted is not None:
        return np.zeros(overall.shape, np.bool_)
    return overall >= spec.operating_overall if route.selects_from is None else chance >= route.selects_from


def objections(found: Comparison) -> list[str]:
    """Why a variant may not take fp32's place; an empty list means that it may.

    Tier flips may be one in 200 articles, other flips three, and always one article; far flips one in 400.
    """
    return list(_objections(found))


def _objections(found: Comparison) -> Iterator[str]:
    if found.non_finite:
        yield f"{found.non_finite} raw outputs are not finite, expected none"
    if found.spearman_uncapped is not None and not found.spearman_uncapped >= LEAST_SPEARMAN:
        yield f"Spearman to fp32 {found.spearman_uncapped:.4f}, expected at least {LEAST_SPEARMAN}"
    if not found.label_mae <= MOST_LABEL_MAE * found.label_mae_fp32:
        yield f"label MAE {found.label_mae:.4f}, expected at most {MOST_LABEL_MAE} x fp32's {found.label_mae_fp32:.4f}"
    tier, other = (max(1, int(share * found.articles)) for share in (MOST_TIER_FLIPS, MOST_OTHER_FLIPS))
    flips = (("tier", found.tier_flips, tier), ("gatekeeper", found.gatekeeper_flips, other),
             ("selection", found.selection_flips, tier))  # fmt: skip
    for what, count, most in (*flips, ("route", found.route_flips, other)):
        if count > most:
            yield f"{count} {what} flips on {found.articles} articles, expected at most {most}"
    if found.far_flips > (far := int(MOST_FAR_FLIPS * found.articles)):
        yield f"{found.far_flips} flips farther than {NEAR} from a boundary, expected at most {far}"
    if found.dropped:
        yield f"{found.dropped} wanted articles dropped that the certificate counts as kept, expected none"
    if not found.batch_difference <= MOST_BATCH_DIFFERENCE:
        yield f"alone and in a batch differ by {found.batch_difference:.2g}, expected at most {MOST_BATCH_DIFFERENCE}"


def refit(calibration: Calibration, raw: Scores, reference: Scores) -> Calibration:
    """Moves a calibration's knots to where a variant's raw outputs put them.

    Each dimension's line of least squares from the variant's raw outputs to fp32's takes out what rounding shifted and
    stretched. fp32's outputs say more about the variant than the oracle's labels would, which are noisier by far.

    Args:
        calibration: fp32's, D maps.
        raw: (N, D) the variant's raw outputs on the calibration articles, finite.
        reference: (N, D) fp32's.

    Returns:
        D maps; one whose line is flat or falls, or whose outputs are all equal, stays as it was.
    """
    columns = zip(calibration.maps, raw.T.astype(np.float64), reference.T.astype(np.float64), strict=True)
    return Calibration(tuple(_moved(old, said, meant) for old, said, meant in columns))


def _moved(old: CalibrationMap, said: NDArray[np.float64], meant: NDArray[np.float64]) -> CalibrationMap:
    spread = float(said.var())
    slope = float(np.mean((said - said.mean()) * (meant - meant.mean()))) / spread if spread > _SMALLEST_SPREAD else 0.0
    if slope < _SMALLEST_SPREAD:
        return old
    offset = float(meant.mean()) - slope * float(said.mean())
    knots = tuple((x - offset) / slope for x in old.x)
    return CalibrationMap(
        dimension=old.dimension, method="affine" if old.method == "identity" else old.method, x=knots, y=old.y
    )


def _is_near(scores: Matrix, overall: float, chance: float, spec: FilterSpec, route: Route) -> bool:
    """Whether an article is near to a tier's or a gatekeeper's boundary, or to where it is handed on or selected."""
    by_name = dict(zip(spec.dimension_names, scores.tolist(), strict=True))
    gaps = [abs(overall - tier.min_overall) for tier in spec.tiers if tier.min_overall > 0]
    gaps += [abs(by_name[gate.dimension] - gate_limit(gate.below, spec.oracle.step)) for gate in spec.gatekeepers]
    gaps += [_margin(route, chance, at) for at in (route.routing.threshold, route.selects_from) if at is not None]
    return min(gaps, default=10.0) <= NEAR


def _margin(route: Route, chance: float, at: float) -> float:
    """By how many points, at least, the values that a chance is made from lie from where it crosses a threshold."""
    model = route.routing.model
    slope = sum(map(abs, model.weights)) if model else 0.0
    return abs(_log_odds(chance) - _log_odds(at)) / slope if slope else math.inf


def _log_odds(chance: float) -> float:
    kept = min(max(chance, SMALLEST), 1 - SMALLEST)
    return math.log(kept / (1 - kept))


def _spearman(before: Scores, after: Scores) -> float | None:
    if np.ptp(before) == 0 or np.ptp(after) == 0:
        return None
    return float(spearmanr(before, after).statistic)
