"""Calibration lint: ceilings, slopes, cliffs, gates and tiers, and the faults of tables that were once deployed."""

import json
from pathlib import Path

import pytest

from distillery_runtime.spec.calibration import Calibration, CalibrationMap, identity
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.certify.calibration_lint import (
    Fault,
    highest_overall,
    lint_calibration,
    lint_normalization,
    steepest_step,
)
from distillery_trainer.filters.find import find_filter, load_filter

DEPLOYED = Path(__file__).parents[4] / "shared" / "data" / "calibrations"
TABLES = sorted(path.parent for path in DEPLOYED.glob("**/calibration.json"))
deployed_only = pytest.mark.skipif(not TABLES, reason="needs the deployed calibration tables of ../shared")


def map_of(x: tuple[float, ...], y: tuple[float, ...], dimension: str = "relevance") -> CalibrationMap:
    """One dimension's map."""
    return CalibrationMap(dimension=dimension, method="isotonic", x=x, y=y)


def of_topic(gated: CalibrationMap) -> Calibration:
    """The maps of the filter that `trainer init` writes: relevance left alone, and the gatekeeper's."""
    return Calibration((identity(["relevance"]).maps[0], gated))


def kinds(findings: list[Fault]) -> list[tuple[str, str]]:
    """What was found where."""
    return [(finding.kind, finding.where) for finding in findings]


def test_maps_that_only_clip_have_no_fault(spec: FilterSpec) -> None:
    assert lint_calibration(identity(spec.dimension_names), spec) == []


def test_a_map_that_ends_below_ten_has_a_ceiling() -> None:
    (finding,) = lint_calibration(Calibration((map_of((0.0, 10.0), (0.0, 8.5)),)))

    assert (finding.kind, finding.says) == ("ceiling", "no score above 8.50")


def test_a_tier_above_the_highest_overall_is_out_of_reach(spec: FilterSpec) -> None:
    low = Calibration(tuple(map_of((0.0, 10.0), (0.0, 6.5), name) for name in spec.dimension_names))

    assert highest_overall(low, spec) == pytest.approx(6.5)
    assert ("unreachable_tier", spec.tiers[0].name) in kinds(lint_calibration(low, spec))


def test_a_ceiling_below_the_gate_caps_every_article(spec: FilterSpec) -> None:
    below = spec.gatekeepers[0].below
    calibration = of_topic(map_of((0.0, 10.0), (0.0, below - 0.1), "evidence_quality"))

    assert highest_overall(calibration, spec) == spec.gatekeepers[0].overall_cap
    assert ("gate_never_opens", "evidence_quality") in kinds(lint_calibration(calibration, spec))


def test_a_floor_at_the_gate_never_caps(spec: FilterSpec) -> None:
    calibration = of_topic(map_of((0.0, 10.0), (spec.gatekeepers[0].below, 10.0), "evidence_quality"))

    assert kinds(lint_calibration(calibration, spec)) == [("gate_never_closes", "evidence_quality")]


def test_a_cliff_is_told_from_one_across_the_gate(spec: FilterSpec) -> None:
    below = spec.gatekeepers[0].below
    away = of_topic(map_of((0.0, 6.0, 6.01, 10.0), (0.0, below + 1, below + 3, 10.0), "evidence_quality"))
    across = of_topic(map_of((0.0, 6.0, 6.01, 10.0), (0.0, below - 1, below + 1, 10.0), "evidence_quality"))

    assert kinds(lint_calibration(away, spec)) == [("slope", "evidence_quality"), ("cliff", "evidence_quality")]
    assert kinds(lint_calibration(across, spec))[-1] == ("cliff_at_gate", "evidence_quality")


def test_a_cliff_across_the_gate_is_found_beside_a_steeper_one(spec: FilterSpec) -> None:
    below = spec.gatekeepers[0].below
    knots = (0.0, below - 1, below + 0.5, below + 0.6, 9.5, 10.0)
    both = of_topic(map_of((0.0, 2.0, 2.01, 6.0, 6.01, 10.0), knots, "evidence_quality"))

    assert ("cliff_at_gate", "evidence_quality") in kinds(lint_calibration(both, spec))


def test_a_step_of_two_equal_knots_is_a_cliff() -> None:
    m = map_of((0.0, 5.0, 5.0, 10.0), (0.0, 2.0, 6.0, 10.0))

    step = steepest_step(m)

    assert step.high - step.low == pytest.approx(4.0, abs=0.05)
    assert kinds(lint_calibration(Calibration((m,)))) == [("slope", "relevance"), ("cliff", "relevance")]


def test_a_rise_of_several_small_steps_within_the_run_is_a_cliff() -> None:
    x = (0.0, 5.0, 5.01, 5.02, 5.03, 5.04, 10.0)
    y = (0.0, 3.0, 3.3, 3.6, 3.9, 4.2, 10.0)

    assert ("cliff", "relevance") in kinds(lint_calibration(Calibration((map_of(x, y),))))


def test_a_normalization_beyond_what_scores_can_reach_is_found(spec: FilterSpec) -> None:
    low = Calibration(tuple(map_of((0.0, 10.0), (0.0, 6.5), name) for name in spec.dimension_names))

    assert kinds(lint_normalization((4.0, 7.4), low, spec)) == [("ceiling", "normalization")]
    assert lint_normalization((4.0, 6.5), low, spec) == []


def deployed(folder: Path) -> Calibration:
    """A deployed table's maps: its knots as they are, except that scores just outside [0, 10] are clipped."""
    record = json.loads((folder / "calibration.json").read_text())
    return Calibration(
        tuple(
            map_of(tuple(m["x"]), tuple(min(max(v, 0.0), 10.0) for v in m["y"]), name)
            for name, m in record["dimensions"].items()
        )
    )


@deployed_only
def test_all_twelve_deployed_tables_are_read_and_none_is_without_fault() -> None:
    assert len(TABLES) == 12
    assert all(lint_calibration(deployed(folder)) for folder in TABLES)


@deployed_only
def test_the_deployed_filters_highest_overall_is_found() -> None:
    spec = load_filter(find_filter("sustainability_technology"))

    calibration = deployed(DEPLOYED / "sustainability_technology_v3")
    ordered = Calibration(tuple({m.dimension: m for m in calibration.maps}[n] for n in spec.dimension_names))

    assert highest_overall(ordered, spec) == pytest.approx(7.39, abs=0.005)


@deployed_only
def test_the_known_cliff_across_a_gate_is_found() -> None:
    steps = [steepest_step(m) for folder in TABLES for m in deployed(folder).maps]

    worst = max(steps, key=lambda step: step.high - step.low)

    assert worst.high - worst.low == pytest.approx(2.83, abs=0.005)
    assert worst.low < 3.0 <= worst.high  # where that filter's gatekeeper stood
