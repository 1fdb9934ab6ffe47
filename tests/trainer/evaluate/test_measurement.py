"""Measuring all systems: a case computed by hand, slices, and the cascade's mixture."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from distillery_runtime.articles.text import ArticleText
from distillery_runtime.spec.model import FilterSpec, Slice
from distillery_runtime.spec.verdict import overalls
from distillery_trainer.data.labels import LabelledArticle, LabelledSet
from distillery_trainer.data.predictions import Answers, Decided
from distillery_trainer.evaluate.evaluation import (
    CascadeUse,
    Evaluation,
    Missed,
    PrefilterUse,
    Ranking,
    RecallAt,
    SplitSizes,
    UnreadCounts,
)
from distillery_trainer.evaluate.measurement import HeldOut, evaluate
from distillery_trainer.evaluate.metrics import Decisions, Errors
from distillery_trainer.evaluate.parts import all_parts, in_slice
from distillery_trainer.filters.overrides import apply_overrides

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


def decided(scores: np.ndarray) -> Decided:
    """Decisions of scores alone: both read-outs are these, the chance rises with them, 4 and above is selected."""
    values = np.asarray(scores, np.float64)
    means = values @ [0.6, 0.4]
    return Decided(Answers(values, values, means / 10), means >= 4)


def seen(labelled: LabelledSet, groups: Sequence[str], probe: np.ndarray, student: np.ndarray,
         threshold: float | None = None, **more: object) -> HeldOut:  # fmt: skip
    """Held-out articles that no window cut and that were labelled once; where the mean is below, the probe answers.

    Every baseline answers 3.
    """
    count = len(groups)
    stopped = np.zeros(count, bool) if threshold is None else probe @ [0.6, 0.4] < threshold
    constant = dict.fromkeys(("constant", "tfidf_ridge", "static"), decided(both([3.0] * count)))
    usual: dict[str, object] = {
        "articles": labelled, "groups": groups, "baselines": constant, "probe": decided(probe),
        "student": decided(student), "stopped": stopped, "threshold": threshold, "truncated": [False] * count,
        "unreadable": np.zeros((count, 2), bool), "repeats": [], "sizes": SplitSizes(4, 4, count),
    }  # fmt: skip
    return HeldOut(**(usual | more))  # type: ignore[arg-type]  # fields by name


@pytest.fixture
def open_spec(spec: FilterSpec) -> FilterSpec:
    """The filter without its gatekeeper, so that the overall is the weighted mean alone."""
    return apply_overrides(spec, {"gatekeepers": []})


def report(spec: FilterSpec, threshold: float | None = 2.0) -> Evaluation:
    groups = [f"a{i}" for i in range(4)]
    return evaluate(spec, seen(articles(both(LABELS)), groups, both(PROBE), both(STUDENT), threshold), 0)


def test_the_students_errors_are_those_computed_by_hand(open_spec: FilterSpec) -> None:
    found = report(open_spec).total.student

    assert (found.n, found.mae, found.rmse) == (4, 1.0, 1.224745)  # errors 1, 1, 2, 0
    # Ranks of labels 4, 1, 3, 2 and of scores 4, 1.5, 1.5, 3: 3 / sqrt(5 * 4.5).
    assert found.overall == Errors(mae=1.0, rmse=1.224745, bias=-0.5, spearman=0.632456)


def test_the_students_decisions_are_those_counted_by_hand(open_spec: FilterSpec) -> None:
    tiers = report(open_spec).total.student.tiers

    assert tiers == {
        "high": Decisions(positives=1, predicted=1, precision=1.0, recall=1.0, f1=1.0),
        "medium": Decisions(positives=3, predicted=2, precision=1.0, recall=0.666667, f1=0.8),
    }


def test_an_article_that_was_drawn_with_small_odds_stands_for_many(open_spec: FilterSpec) -> None:
    rare = [replace(a, inclusion=0.25 if i == 2 else 1.0) for i, a in enumerate(articles(both(LABELS)).articles)]
    groups = [f"a{i}" for i in range(4)]

    found = evaluate(open_spec, seen(LabelledSet(tuple(rare)), groups, both(PROBE), both(STUDENT)), 0).total

    # Errors 1, 1, 2, 0 with the third four times: 10 / 7. Of finds a, c and d the third is the one that is missed.
    assert found.student.weighted["mae"] == pytest.approx(10 / 7, abs=1e-6)
    assert found.student.weighted["recall"] == pytest.approx(2 / 6, abs=1e-6)
    assert found.student.weighted["precision"] == 1.0


def test_where_all_articles_stand_for_as_many_nothing_is_weighted(open_spec: FilterSpec) -> None:
    assert report(open_spec).total.student.weighted == {}


def test_a_baselines_error_is_that_of_its_own_scores(open_spec: FilterSpec) -> None:
    found = report(open_spec).total.constant

    assert found.mae == 2.25  # errors of 3: 5, 1, 2, 1


def test_finds_are_what_is_selected_whatever_the_tiers_say(open_spec: FilterSpec) -> None:
    held_out = seen(articles(both(LABELS)), list("abcd"), both(PROBE), both(STUDENT))
    chosen = replace(held_out.student, selected=np.array([True, True, True, False]))

    found = evaluate(open_spec, replace(held_out, student=chosen), 0).total.student

    assert found.finds == Decisions(positives=3, predicted=3, precision=0.666667, recall=0.666667, f1=0.666667)
    assert found.tiers["medium"].predicted == 2


def test_each_figure_is_of_its_own_read_out(open_spec: FilterSpec) -> None:
    labels, rng = rngs_labels(40)
    expected, scores = (np.clip(labels + rng.normal(0, s, labels.shape), 0, 10) for s in (1.0, 2.0))
    chance = rng.uniform(size=40).round(1)  # with ties
    student = Decided(Answers(expected, scores, chance), chance >= 0.5)
    held_out = replace(seen(articles(labels), [f"g{i}" for i in range(40)], labels, labels), student=student)

    found = evaluate(open_spec, held_out, 0).total.student

    true, said = overalls(labels, open_spec), overalls(scores, open_spec)
    assert found.rmse == pytest.approx(np.sqrt(((expected - labels) ** 2).mean()), abs=1e-6)
    assert found.mae == pytest.approx(np.abs(scores - labels).mean(), abs=1e-6)
    assert found.slope == pytest.approx(np.polyfit(true, said, 1)[0], abs=1e-5)
    assert found.average_precision == pytest.approx(average_precision_score(true >= 4, chance), abs=1e-6)
    for name in ("recall", "precision", "f1", "average_precision", "mae"):
        low, high = found.intervals[name]
        own = getattr(found, name) if name in ("average_precision", "mae") else getattr(found.finds, name)
        assert low <= own <= high


def rngs_labels(count: int) -> tuple[np.ndarray, np.random.Generator]:
    """Labels in whole points, (N, 2), and what drew them."""
    rng = np.random.default_rng(3)
    return np.rint(rng.uniform(0, 10, (count, 2))), rng


def test_of_labels_that_are_all_the_same_no_slope_and_of_no_find_no_ranking_is_known(open_spec: FilterSpec) -> None:
    tested = articles(both([2.0] * 12))

    found = evaluate(open_spec, seen(tested, [f"g{i}" for i in range(12)], both([3] * 12), both(range(12 - 2, -2, -1))
                                     .clip(0, 10)), 0).total.student  # fmt: skip

    assert (found.slope, found.average_precision, found.finds.recall) == (None, None, None)
    assert found.intervals["recall"] is None


def test_the_cascade_takes_the_probe_below_the_threshold_and_the_student_elsewhere(open_spec: FilterSpec) -> None:
    found = report(open_spec).total.cascade

    assert found.mae == 1.75  # 7, 1, 3, 1 against 8, 2, 5, 4


def test_share_and_misses_of_the_cascade_are_counted(open_spec: FilterSpec) -> None:
    probe, student = both([6, 1, 6, 1, 8]), both([7, 3, 6, 4, 8])  # the probe stops two, one of them a find

    found = evaluate(open_spec, seen(articles(both([5] * 5)), list("abcde"), probe, student, 2.0), 0)

    assert found.cascade == CascadeUse(threshold=2.0, share_probe=0.4, missed=Missed(student_positives=4, dropped=1))


def test_a_gatekeeper_applies_to_labels_and_scores_before_tiers_are_counted(spec: FilterSpec) -> None:
    labels = np.array([[9, 1], [9, 9], [9, 1], [9, 9]], dtype=np.float32)
    held_out = seen(articles(labels), ["a", "b", "c", "d"], labels, labels)

    tiers = evaluate(spec, held_out, 0).total.student.tiers

    assert tiers["medium"].positives == 2  # evidence_quality 1 caps the overall at 3, below medium


def test_without_a_threshold_the_cascade_is_the_student(open_spec: FilterSpec) -> None:
    found = report(open_spec, threshold=None)

    assert found.total.cascade == found.total.student
    assert found.cascade.share_probe == 0.0


def test_above_every_overall_the_cascade_scores_as_the_probe_and_selects_nothing(open_spec: FilterSpec) -> None:
    total = report(open_spec, threshold=9.0).total

    assert (total.cascade.mae, total.cascade.tiers) == (total.probe.mae, total.probe.tiers)
    assert (total.cascade.finds.predicted, total.probe.finds.predicted) == (0, 1)


def test_all_systems_are_reported_on_the_same_articles(open_spec: FilterSpec) -> None:
    total = report(open_spec).total

    assert {name: system.n for name, system in total.by_name().items()} == dict.fromkeys(
        ("constant", "tfidf_ridge", "static", "probe", "student", "cascade"), 4
    )


def test_a_slice_holds_its_own_articles_and_a_slice_below_ten_is_left_out(open_spec: FilterSpec) -> None:
    slices = [
        {"name": "dutch", "field": "language", "includes": "nl"},
        {"name": "rest", "field": "language", "excludes": "nl"},
    ]
    spec = apply_overrides(open_spec, {"evaluation.slices": slices})
    labels, scores = both([5.0] * 19), both([6.0] * 10 + [8.0] * 9)
    tested = articles(labels, language=["nl"] * 10 + ["en"] * 9)

    parts = evaluate(spec, seen(tested, [f"g{i}" for i in range(19)], scores, scores), 0).parts

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


def test_the_prefilter_is_reported_with_the_positives_it_would_lose(open_spec: FilterSpec) -> None:
    rules = [
        {"name": "deals", "mode": "block", "where": "title", "words": ["deal*"]},
        {"name": "lists", "mode": "shadow", "where": "title", "words": ["ten ways"]},
    ]
    spec = apply_overrides(open_spec, {"prefilter": rules})
    tested = articles(both(LABELS), titles=["Best deals", "A deal", "Deals", "Ten ways"])

    found = evaluate(spec, seen(tested, list("abcd"), both(PROBE), both(STUDENT)), 0).prefilter

    assert found == PrefilterUse(blocked=3, blocked_positive=2, shadowed=1)


def test_the_same_articles_give_the_same_bytes(open_spec: FilterSpec) -> None:
    first, second = (json.dumps(report(open_spec).to_record(), allow_nan=False) for _ in range(2))

    assert first == second


def test_length_and_window_are_parts_of_every_filter() -> None:
    characters = [299] * 10 + [300] * 5 + [1500] * 5 + [1501] * 9
    truncated = [False] * 12 + [True] * 17

    parts = all_parts([], None, characters, truncated)

    assert parts == {
        "total": [*range(29)], "length:under_300": [*range(10)], "length:300_to_1500": [*range(10, 20)],
        "window:whole": [*range(12)], "window:truncated": [*range(12, 29)],
    }  # fmt: skip


def test_the_length_of_an_article_is_that_of_its_text(open_spec: FilterSpec) -> None:
    labels = both([5.0] * 22)
    tested = articles(labels, ["Title"] * 11 + ["T" * 400] * 11)

    found = evaluate(open_spec, seen(tested, [f"g{i}" for i in range(22)], labels, labels), 0).parts

    assert {name: part.student.n for name, part in found.items()} == {
        "total": 22, "length:under_300": 11, "length:300_to_1500": 11, "window:whole": 22
    }  # fmt: skip


def test_the_highest_ranked_articles_are_counted_by_hand(open_spec: FilterSpec) -> None:
    total = report(open_spec).total

    # Three labels reach medium. The student ranks 7, then 4, then two of 3, of which one is to be found; the probe
    # ranks 6, 3, and two of 1.
    assert total.student.recall_at == Ranking(RecallAt(3, 0.833333), RecallAt(1, 0.333333))
    assert total.constant.recall_at.positives == RecallAt(3, 0.75)


def test_student_and_probe_are_compared_with_word_counts_in_every_part(open_spec: FilterSpec) -> None:
    labels, rng = both(np.linspace(1, 9, 40)), np.random.default_rng(0)
    near, far = (np.clip(labels + rng.normal(0, s, (40, 2)), 0, 10) for s in (0.1, 2))

    found = evaluate(open_spec, seen(articles(labels), [f"g{i}" for i in range(40)], far, near), 0)

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
    open_spec: FilterSpec,
) -> None:
    thrice, once = ((1.0, 2.0), (3.0, 2.0), (1.0, 2.0)), ((9.0, 9.0),)
    repeats = [((4.0, 4.0), (5.0, 4.0))] * 9 + [thrice, (), once]
    held_out = seen(articles(both(LABELS)), list("abcd"), both(PROBE), both(STUDENT), repeats=repeats)

    floor = evaluate(open_spec, held_out, 0).noise_floor

    assert floor is not None
    # Nine articles are 1 apart in the first dimension, one is 2, 0 and 2 apart; none in the second.
    assert (floor.articles, floor.mae) == (10, pytest.approx((9 + 4 / 3) / 20, abs=1e-6))
    assert floor.dimensions == {"relevance": pytest.approx((9 + 4 / 3) / 10, abs=1e-6), "evidence_quality": 0.0}
    assert floor.share_of_reachable["student"] == pytest.approx((2.25 - 1) / (2.25 - floor.mae), abs=1e-6)
    assert floor.share_of_reachable["constant"] == 0.0


def test_without_enough_repeats_no_floor_is_known(open_spec: FilterSpec) -> None:
    held_out = seen(articles(both(LABELS)), list("abcd"), both(PROBE), both(STUDENT),
                    repeats=[((4.0, 4.0), (5.0, 4.0))] * 9 + [()])  # fmt: skip

    assert evaluate(open_spec, held_out, 0).noise_floor is None


def test_what_a_stage_cannot_read_is_counted_and_what_the_student_refuses_is_invalid(spec: FilterSpec) -> None:
    tested = articles(both([9] * 40))
    unreadable = np.zeros((40, 2), bool)
    unreadable[:10, 0] = unreadable[:4, 1] = unreadable[-2:, 1] = True  # the probe answers the last two
    held_out = seen(tested, [str(i) for i in range(40)], both([0] * 40), both([9] * 40), 2.0)

    found = evaluate(spec, replace(held_out, unreadable=unreadable, stopped=~unreadable[:, 0]), 0)

    assert found.cascade.share_probe == 0.75
    assert found.unreadable == UnreadCounts(probe=10, student=6, invalid=4, invalid_positive=4)
