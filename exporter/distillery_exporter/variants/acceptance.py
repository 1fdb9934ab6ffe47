"""The decision gate: what another form of a model changes against fp32, and whether it may be used in its place."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.calibration import Calibration, CalibrationMap
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.routing import Routing
from distillery_runtime.spec.verdict import Verdict, decide, round_scores

Scores = NDArray[np.floating]

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


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a variant changed on N held-out articles.

    `mae_to_fp32`: over all scores. `spearman`: of the overall with that of fp32; None where either is constant.
    `spearman_uncapped`: the same of the weighted mean of scores, before a gatekeeper caps it: a cap puts many articles
    at one value, and whoever comes just above it passes half of them.
    `label_mae`, `label_mae_fp32`: to the oracle's labels. `tier_flips`, `gatekeeper_flips`: articles with another tier,
    another gatekeeper, of those that the stage answers with either form. `route_flips`: articles that one form answers
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
    """Which articles a stage hands on.

    `wanted`: (N,) bool, the articles that the next stage places at or above the operating tier.
    """

    routing: Routing
    wanted: NDArray[np.bool_]


def compare(
    spec: FilterSpec,
    reference: Scores,
    candidate: Scores,
    labels: Scores,
    batch_difference: float,
    non_finite: int,
    route: Route | None = None,
) -> Comparison:
    """Compares a variant's scores with those of fp32.

    Args:
        spec: the filter.
        reference: (N, D) fp32's scores in [0, 10], columns in the spec's dimension order, N at least 1.
        candidate: (N, D) the variant's scores on the same articles.
        labels: (N, D) the oracle's.
        batch_difference: the largest difference found between a raw output alone and in a batch.
        non_finite: how many raw outputs were not finite.
        route: where the stage hands on; None for the last stage, which answers every article.

    Raises:
        InputError: the shapes differ, or there is no article.
        ModelError: a score is not a number in [0, 10].
    """
    if not len(reference) or not reference.shape == candidate.shape == labels.shape:
        shapes = f"shapes {reference.shape}, {candidate.shape}, {labels.shape}"
        raise InputError("gate", [Problem("scores, labels", shapes, "the same (N, D), N at least 1")])
    before, after = round_scores(reference), round_scores(candidate)
    verdicts = [(decide(old, spec), decide(new, spec)) for old, new in zip(before, after, strict=True)]
    routes = np.array([
        [_hands_on(row, verdict, route, spec) for row, verdict in zip(rows, pair, strict=True)]
        for rows, pair in zip(zip(before, after, strict=True), verdicts, strict=True)
    ])  # fmt: skip
    answered, moved = ~routes.all(axis=1), routes[:, 0] != routes[:, 1]
    tiers = answered & np.array([old.tier != new.tier for old, new in verdicts])
    gates = answered & np.array([old.gatekeeper != new.gatekeeper for old, new in verdicts])
    weights = np.array([dimension.weight for dimension in spec.dimensions])
    near = np.array([_is_near(row, old, spec, route) for row, (old, _) in zip(before, verdicts, strict=True)])
    return Comparison(
        articles=len(before),
        mae_to_fp32=float(np.abs(after - before).mean()),
        spearman=_spearman(*(np.array([pair[side].overall for pair in verdicts]) for side in (0, 1))),
        spearman_uncapped=_spearman(before @ weights, after @ weights),
        label_mae=float(np.abs(after - labels).mean()),
        label_mae_fp32=float(np.abs(before - labels).mean()),
        tier_flips=int(tiers.sum()),
        gatekeeper_flips=int(gates.sum()),
        route_flips=int(moved.sum()),
        far_flips=int(((tiers | gates | moved) & ~near).sum()),
        dropped=int((moved & routes[:, 0] & route.wanted).sum()) if route else 0,
        batch_difference=batch_difference,
        non_finite=non_finite,
    )


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
    flips = (("tier", found.tier_flips, tier), ("gatekeeper", found.gatekeeper_flips, other))
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


def _hands_on(scores: NDArray[np.float64], verdict: Verdict, route: Route | None, spec: FilterSpec) -> bool:
    """Whether the stage hands an article on; the last one none."""
    return route is not None and route.routing.hands_on(scores.tolist(), verdict.overall, spec.operating_overall)


def _is_near(scores: NDArray[np.float64], verdict: Verdict, spec: FilterSpec, route: Route | None) -> bool:
    """Whether an article is near to a tier's or a gatekeeper's boundary, or to where it is handed on."""
    by_name = dict(zip(spec.dimension_names, scores.tolist(), strict=True))
    gaps = [abs(verdict.overall - tier.min_overall) for tier in spec.tiers if tier.min_overall > 0]
    gaps += [abs(by_name[gate.dimension] - gate.below) for gate in spec.gatekeepers]
    gaps += [route.routing.margin(scores.tolist(), verdict.overall)] if route else []
    return min(gaps, default=10.0) <= NEAR


def _spearman(before: Scores, after: Scores) -> float | None:
    if np.ptp(before) == 0 or np.ptp(after) == 0:
        return None
    return float(spearmanr(before, after).statistic)
