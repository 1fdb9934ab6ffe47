"""The operating point: chosen on a curve by its aim, and moved on a bundle's own curve without a rebuild."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from distillery_runtime import InputError, load
from distillery_runtime.spec.model import OperatingPoint
from distillery_runtime.spec.selection import CurvePoint, Selection, best_point, f1, precision

Curve = tuple[CurvePoint, ...]
CURVE = (
    CurvePoint(chance=0.1, selected=20, hits=8),
    CurvePoint(chance=0.4, selected=9, hits=6),
    CurvePoint(chance=0.7, selected=3, hits=3),
)
SELECTION = Selection(
    rule=OperatingPoint(max="f1"), chance=0.4, articles=40, positives=8, drawn_from="a test", curve=CURVE
)
ARTICLES = [
    {"id": str(number), "title": f"{word} energy", "text": f"The {word} in the village saved half the bill."}
    for number, word in enumerate(["solar", "wind", "football", "lake", "sunday", "heat", "council", "pancakes"])
]


@pytest.fixture
def bundle(repository: Path) -> Path:
    return repository / "tests" / "fixtures" / "bundle-v2"


@pytest.mark.parametrize(
    ("aim", "chance"),
    [
        ({"max": "f1"}, 0.4),
        ({"min_recall": 1.0}, 0.1),
        ({"min_recall": 0.75}, 0.4),
        ({"min_recall": 0.3}, 0.7),
        ({"min_precision": 0.4}, 0.1),
        ({"min_precision": 0.6}, 0.4),
        ({"min_precision": 1.0}, 0.7),
    ],
)
def test_each_aim_has_its_point(aim: dict[str, object], chance: float) -> None:
    point = best_point(CURVE, 8, OperatingPoint.model_validate(aim))

    assert point is not None
    assert point.chance == chance


def test_an_aim_that_no_point_has_has_no_point() -> None:
    curve = CURVE[:1]

    assert best_point(curve, 8, OperatingPoint(min_precision=0.9)) is None
    assert best_point((), 0, OperatingPoint(max="f1")) is None


@st.composite
def curves(draw: st.DrawFn) -> tuple[Curve, int]:
    """A curve as articles make it: fewer and fewer selected, of which some are hits."""
    finds = draw(st.lists(st.booleans(), min_size=1, max_size=40))
    points = []
    for place in range(len(finds)):
        above = finds[place:]
        points.append(CurvePoint(chance=(place + 1) / 41, selected=len(above), hits=sum(above)))
    return tuple(points), sum(finds)


@settings(max_examples=50)
@given(curves(), st.floats(0.05, 1.0))
def test_the_chosen_point_keeps_what_was_asked_and_no_other_is_better(made: tuple[Curve, int], share: float) -> None:
    curve, positives = made
    best = best_point(curve, positives, OperatingPoint(max="f1"))
    recall = best_point(curve, positives, OperatingPoint(min_recall=share))
    precise = best_point(curve, positives, OperatingPoint(min_precision=share))

    assert (best is None) == (positives == 0)
    assert best is None or f1(best, positives) == max(f1(point, positives) for point in curve)
    assert recall is None or (
        recall.hits >= share * positives
        and all(point.hits < share * positives for point in curve if point.chance > recall.chance)
    )
    assert precise is None or (
        precision(precise) >= share
        and all(precision(point) < share for point in curve if point.chance < precise.chance)
    )


@pytest.mark.parametrize(
    "asked",
    [
        *("", "recall=0.5", "min_recall", "min_recall=", "min_recall=2", "chance=0", "chance=x", "max=recall"),
        *("min_precision=-1", "chance=1e-3", "tier=4"),
    ],
)
def test_what_is_no_operating_point_is_refused_with_those_that_are(asked: str) -> None:
    with pytest.raises(InputError, match="min_recall=R"):
        SELECTION.moved(asked)


def test_a_point_that_the_curve_does_not_have_is_refused_with_what_it_has() -> None:
    few = SELECTION.model_copy(update={"curve": CURVE[:1]})

    with pytest.raises(InputError, match=r"precision of at most 0\.40"):
        few.moved("min_precision=0.9")


@pytest.mark.parametrize(
    "curve",
    [
        (CURVE[1], CURVE[0]),
        (CURVE[0], CurvePoint(chance=0.2, selected=30, hits=8)),
        (CurvePoint(chance=0.2, selected=3, hits=4),),
        (CurvePoint(chance=0.2, selected=20, hits=9),),
        (CurvePoint(chance=0.2, selected=41, hits=8),),
    ],
)
def test_an_impossible_curve_is_refused(curve: Curve) -> None:
    with pytest.raises(ValidationError):
        Selection(rule="tier", chance=None, articles=40, positives=8, drawn_from="a test", curve=curve)


def test_a_result_is_selected_from_the_operating_point_on_and_says_which(bundle: Path) -> None:
    for select, at in ((None, 0.45), ("min_recall=1", 0.2), ("chance=.01", 0.01), ("min_precision=1", 0.7)):
        scores = load(bundle, select=select).score_batch(ARTICLES)

        assert {score.selected_from for score in scores} == {at}
        assert [score.selected for score in scores] == [(score.chance or 0) >= at for score in scores]


def test_selected_by_tier_is_the_operating_tier(bundle: Path) -> None:
    scorer = load(bundle, select="tier")

    scores = scorer.score_batch(ARTICLES)

    assert {score.selected_from for score in scores} == {None}
    assert [s.selected for s in scores] == [(s.overall or 0) >= scorer.spec.operating_overall for s in scores]


def test_no_stage_but_the_last_selects_wherever_the_point_is_moved(bundle: Path) -> None:
    for select in ("chance=0.001", "chance=0.05", "chance=0.25", "chance=0.9", "tier"):
        scores = load(bundle, select=select).score_batch(ARTICLES)

        assert {score.stage for score in scores if score.selected} <= {"student"}


def test_the_verdict_is_on_scores_and_the_expected_overall_is_the_plain_mean(bundle: Path) -> None:
    scorer = load(bundle)

    scores = scorer.score_batch(ARTICLES)

    weights = [dimension.weight for dimension in scorer.spec.dimensions]
    for score in scores:
        assert score.expected is not None
        mean = sum(w * v for w, v in zip(weights, score.expected.values(), strict=True))
        assert score.expected_overall == pytest.approx(mean, abs=1e-4)


def test_a_bundle_of_format_1_selects_by_its_tier_and_has_no_chance(repository: Path) -> None:
    folder = repository / "tests" / "fixtures" / "bundle-v1"
    scorer = load(folder, select="tier")

    scores = scorer.score_batch(ARTICLES)

    assert {(score.chance, score.selected_from) for score in scores} == {(None, None)}
    assert [score.expected for score in scores] == [score.scores for score in scores]
    with pytest.raises(InputError, match="format 1"):
        load(folder, select="min_recall=.9")


@pytest.mark.parametrize("change", [lambda m: m["stages"][1].update(chance=None), lambda m: m.update(selection=None)])
def test_a_bundle_of_format_2_without_a_chance_or_selection_is_refused(
    bundle: Path, tmp_path: Path, change: Callable[[dict[str, object]], None]
) -> None:
    from distillery_runtime import BundleError
    from tests.runtime.bundles.test_bundle import rewrite

    folder = shutil.copytree(bundle, tmp_path / "bundle")
    rewrite(folder, change)

    with pytest.raises(BundleError, match="chances and a selection in format 2"):
        load(folder)
