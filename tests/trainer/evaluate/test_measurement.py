"""Measuring all systems: a case computed by hand, slices, and the cascade's mixture."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distillery_runtime.articles.text import ArticleText
from distillery_runtime.spec.model import FilterSpec, Slice
from distillery_runtime.spec.routing import Routing, handed_on
from distillery_trainer.data.labels import LabelledArticle, LabelledSet
from distillery_trainer.evaluate.evaluation import (
    CascadeUse,
    Evaluation,
    Missed,
    PrefilterUse,
    Ranking,
    RecallAt,
    UnreadCounts,
)
from distillery_trainer.evaluate.measurement import HeldOut, evaluate
from distillery_trainer.evaluate.metrics import Decisions, Errors
from distillery_trainer.evaluate.parts import all_parts, in_slice
from distillery_trainer.filters.overrides import apply_overrides
from distillery_trainer.models.protocol import FitData

LABELS = [8.0, 2.0, 5.0, 4.0]
STUDENT = [7.0, 3.0, 3.0, 4.0]
PROBE = [6.0, 1.0, 3.0, 1.0]


def both(values: Sequence[float]) -> np.ndarray:
    """Scores whose two dimensions, and so their overall, are these values: (N, 2) float32."""
    return np.array([[value, value] for value in values], dtype=np.float32)


def articles(labels: np.ndarray, titles: Sequence[str] | None = None, **fields: Sequence[str]) -> LabelledSet:
    """Articles with these labels; a field's values by article."""
    made = []
    for i, row in enumerate(labels.tolist()):
        title = titles[i] if titles else "Title"
        own = {"source": "", "language": "", "id": f"a{i}"} | {key: values[i] for key, values in fields.items()}
        text = ArticleText(title, f"common words {i}", f"{title}\n\ncommon words {i}")
        made.append(LabelledArticle(f"a{i}", text, tuple(row), own, None))
    return LabelledSet(tuple(made))


def seen(labelled: LabelledSet, groups: Sequence[str], probe: np.ndarray, student: np.ndarray,
         threshold: float | None = None, **more: Sequence[object]) -> HeldOut:  # fmt: skip
    """Held-out articles that no window cut and that were labelled once."""
    usual = {"truncated": [False] * len(groups), "repeats": []}
    return HeldOut(labelled, groups, probe, student, Routing(threshold), **(usual | more))


@pytest.fixture
def open_spec(spec: FilterSpec) -> FilterSpec:
    """The filter without its gatekeeper, so that the overall is the weighted mean alone."""
    return apply_overrides(spec, {"gatekeepers": []})


@pytest.fixture
def data() -> FitData:
    labels = both([1, 2, 3, 6])
    return FitData(["common words here", "common words there"] * 2, labels, ["common words"] * 4, labels)


def report(spec: FilterSpec, data: FitData, threshold: float | None = 2.0) -> Evaluation:
    groups = [f"a{i}" for i in range(4)]
    return evaluate(spec, data, seen(articles(both(LABELS)), groups, both(PROBE), both(STUDENT), threshold), 0)


def test_the_students_errors_are_those_computed_by_hand(open_spec: FilterSpec, data: FitData) -> None:
    found = report(open_spec, data).total.student

    assert (found.n, found.mae, found.rmse) == (4, 1.0, 1.224745)  # errors 1, 1, 2, 0
    # Ranks of labels 4, 1, 3, 2 and of scores 4, 1.5, 1.5, 3: 3 / sqrt(5 * 4.5).
    assert found.overall == Errors(mae=1.0, rmse=1.224745, bias=-0.5, spearman=0.632456)


def test_the_students_decisions_are_those_counted_by_hand(open_spec: FilterSpec, data: FitData) -> None:
    tiers = report(open_spec, data).total.student.tiers

    assert tiers == {
        "high": Decisions(positives=1, predicted=1, precision=1.0, recall=1.0, f1=1.0),
        "medium": Decisions(positives=3, predicted=2, precision=1.0, recall=0.666667, f1=0.8),
    }


def test_the_constants_error_is_that_of_the_training_mean(open_spec: FilterSpec, data: FitData) -> None:
    found = report(open_spec, data).total.constant

    assert found.mae == 2.25  # the mean of 1, 2, 3, 6 is 3: errors 5, 1, 2, 1


def test_the_cascade_takes_the_probe_below_the_threshold_and_the_student_elsewhere(
    open_spec: FilterSpec, data: FitData
) -> None:
    found = report(open_spec, data).total.cascade

    assert found.mae == 1.75  # 7, 1, 3, 1 against 8, 2, 5, 4


def test_share_and_misses_of_the_cascade_are_counted(open_spec: FilterSpec, data: FitData) -> None:
    probe, student = both([6, 1, 6, 1, 8]), both([7, 3, 6, 4, 8])  # the probe stops two, one of them a find

    found = evaluate(open_spec, data, seen(articles(both([5] * 5)), list("abcde"), probe, student, 2.0), 0)

    assert found.cascade == CascadeUse(threshold=2.0, share_probe=0.4, missed=Missed(student_positives=4, dropped=1))


def test_a_gatekeeper_applies_to_labels_and_scores_before_tiers_are_counted(spec: FilterSpec, data: FitData) -> None:
    labels = np.array([[9, 1], [9, 9], [9, 1], [9, 9]], dtype=np.float32)
    held_out = seen(articles(labels), ["a", "b", "c", "d"], labels, labels)

    tiers = evaluate(spec, data, held_out, 0).total.student.tiers

    assert tiers["medium"].positives == 2  # evidence_quality 1 caps the overall at 3, below medium


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1000), st.floats(0, 10))
def test_without_a_router_the_probe_answers_exactly_the_articles_below_the_threshold(
    open_spec: FilterSpec, seed: int, threshold: float
) -> None:
    probe = both(np.random.default_rng(seed).integers(0, 21, size=30) / 2)

    assert handed_on(probe, Routing(threshold), open_spec).tolist() == (probe[:, 0] >= threshold).tolist()


def test_without_a_threshold_the_cascade_is_the_student(open_spec: FilterSpec, data: FitData) -> None:
    found = report(open_spec, data, threshold=None)

    assert found.total.cascade == found.total.student
    assert found.cascade.share_probe == 0.0


def test_above_every_overall_the_cascade_is_the_probe(open_spec: FilterSpec, data: FitData) -> None:
    total = report(open_spec, data, threshold=9.0).total

    assert total.cascade == total.probe


def test_all_systems_are_reported_on_the_same_articles(open_spec: FilterSpec, data: FitData) -> None:
    total = report(open_spec, data).total

    assert {name: system.n for name, system in total.by_name().items()} == dict.fromkeys(
        ("constant", "tfidf_ridge", "static", "probe", "student", "cascade"), 4
    )


def test_a_slice_holds_its_own_articles_and_a_slice_below_ten_is_left_out(open_spec: FilterSpec, data: FitData) -> None:
    slices = [
        {"name": "dutch", "field": "language", "includes": "nl"},
        {"name": "rest", "field": "language", "excludes": "nl"},
    ]
    spec = apply_overrides(open_spec, {"evaluation.slices": slices})
    labels, scores = both([5.0] * 19), both([6.0] * 10 + [8.0] * 9)
    tested = articles(labels, language=["nl"] * 10 + ["en"] * 9)

    parts = evaluate(spec, data, seen(tested, [f"g{i}" for i in range(19)], scores, scores), 0).parts

    assert {n: (part.student.n, part.student.mae) for n, part in parts.items() if ":" not in n} == {
        "total": (19, pytest.approx(1.947368)), "dutch": (10, 1.0)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Slice(name="s", field="source"), True),
        (Slice(name="s", field="source", includes="arxiv"), True),
        (Slice(name="s", field="source", includes="news"), False),
        (Slice(name="s", field="source", excludes="arxiv"), False),
        (Slice(name="s", field="source", excludes="news"), True),
        (Slice(name="s", field="source", includes="arxiv", excludes="org"), False),
        (Slice(name="s", field="language", excludes="en"), True),
        (Slice(name="s", field="language", excludes=""), False),
    ],
)
def test_an_article_belongs_to_a_slice_by_what_its_field_contains(part: Slice, expected: bool) -> None:
    assert in_slice(part, {"source": "arxiv.org", "language": "", "id": "a"}) is expected


def test_the_prefilter_is_reported_with_the_positives_it_would_lose(open_spec: FilterSpec, data: FitData) -> None:
    rules = [
        {"name": "deals", "mode": "block", "where": "title", "words": ["deal*"]},
        {"name": "lists", "mode": "shadow", "where": "title", "words": ["ten ways"]},
    ]
    spec = apply_overrides(open_spec, {"prefilter": rules})
    tested = articles(both(LABELS), titles=["Best deals", "A deal", "Deals", "Ten ways"])

    found = evaluate(spec, data, seen(tested, list("abcd"), both(PROBE), both(STUDENT)), 0).prefilter

    assert found == PrefilterUse(blocked=3, blocked_positive=2, shadowed=1)


def test_the_same_articles_give_the_same_bytes(open_spec: FilterSpec, data: FitData) -> None:
    first, second = (json.dumps(report(open_spec, data).to_record(), allow_nan=False) for _ in range(2))

    assert first == second


def test_length_and_window_are_parts_of_every_filter() -> None:
    characters = [299] * 10 + [300] * 5 + [1500] * 5 + [1501] * 9
    truncated = [False] * 12 + [True] * 17

    parts = all_parts([], None, characters, truncated)

    assert parts == {
        "total": [*range(29)], "length:under_300": [*range(10)], "length:300_to_1500": [*range(10, 20)],
        "window:whole": [*range(12)], "window:truncated": [*range(12, 29)],
    }  # fmt: skip


def test_the_length_of_an_article_is_that_of_its_text(open_spec: FilterSpec, data: FitData) -> None:
    labels = both([5.0] * 22)
    tested = articles(labels, ["Title"] * 11 + ["T" * 400] * 11)

    found = evaluate(open_spec, data, seen(tested, [f"g{i}" for i in range(22)], labels, labels), 0).parts

    assert {name: part.student.n for name, part in found.items()} == {
        "total": 22, "length:under_300": 11, "length:300_to_1500": 11, "window:whole": 22
    }  # fmt: skip


def test_the_highest_ranked_articles_are_counted_by_hand(open_spec: FilterSpec, data: FitData) -> None:
    total = report(open_spec, data).total

    # Three labels reach medium. The student ranks 7, then 4, then two of 3, of which one is to be found; the probe
    # ranks 6, 3, and two of 1.
    assert total.student.recall_at == Ranking(RecallAt(3, 0.833333), RecallAt(1, 0.333333))
    assert total.constant.recall_at.positives == RecallAt(3, 0.75)


def test_student_and_probe_are_compared_with_word_counts_in_every_part(open_spec: FilterSpec, data: FitData) -> None:
    labels, rng = both(np.linspace(1, 9, 40)), np.random.default_rng(0)
    near, far = (np.clip(labels + rng.normal(0, s, (40, 2)), 0, 10).astype(np.float32) for s in (0.1, 4))

    found = evaluate(open_spec, data, seen(articles(labels), [f"g{i}" for i in range(40)], far, near), 0)

    assert set(found.differences) == set(found.parts)
    for name, part in found.parts.items():
        for system in ("student", "probe"):
            gain = getattr(found.differences[name], f"{system}_minus_tfidf_ridge").mae
            low, high = gain.interval
            assert gain.difference == pytest.approx(getattr(part, system).mae - part.tfidf_ridge.mae, abs=2e-6)
            assert low < gain.difference < high
    sure = found.differences["total"].student_minus_tfidf_ridge.mae.interval
    assert sure is not None
    assert sure[1] < 0


def test_the_share_of_what_can_be_reached_lies_between_constant_and_the_oracles_own_error(
    open_spec: FilterSpec, data: FitData
) -> None:
    thrice, once = ((1.0, 2.0), (3.0, 2.0), (1.0, 2.0)), ((9.0, 9.0),)
    repeats = [((4.0, 4.0), (5.0, 4.0))] * 9 + [thrice, (), once]
    held_out = seen(articles(both(LABELS)), list("abcd"), both(PROBE), both(STUDENT), repeats=repeats)

    floor = evaluate(open_spec, data, held_out, 0).noise_floor

    assert floor is not None
    # Nine articles are 1 apart in the first dimension, one is 2, 0 and 2 apart; none in the second.
    assert (floor.articles, floor.mae) == (10, pytest.approx((9 + 4 / 3) / 20, abs=1e-6))
    assert floor.dimensions == {"relevance": pytest.approx((9 + 4 / 3) / 10, abs=1e-6), "evidence_quality": 0.0}
    assert floor.share_of_reachable["student"] == pytest.approx((2.25 - 1) / (2.25 - floor.mae), abs=1e-6)
    assert floor.share_of_reachable["constant"] == 0.0


def test_without_enough_repeats_no_floor_is_known(open_spec: FilterSpec, data: FitData) -> None:
    held_out = seen(articles(both(LABELS)), list("abcd"), both(PROBE), both(STUDENT),
                    repeats=[((4.0, 4.0), (5.0, 4.0))] * 9 + [()])  # fmt: skip

    assert evaluate(open_spec, data, held_out, 0).noise_floor is None


def test_what_a_stage_cannot_read_is_answered_as_in_serving_and_counted(spec: FilterSpec, data: FitData) -> None:
    tested = articles(both([9] * 40))
    unreadable = np.zeros((40, 2), bool)
    unreadable[:10, 0] = unreadable[:4, 1] = unreadable[-2:, 1] = True  # the probe answers the last two
    held_out = seen(tested, [str(i) for i in range(40)], both([0] * 40), both([9] * 40), 2.0)

    found = evaluate(spec, data, replace(held_out, unreadable=unreadable), 0)

    assert found.cascade.share_probe == 0.75
    assert found.unreadable == UnreadCounts(probe=10, student=6, invalid=4, invalid_positive=4)
