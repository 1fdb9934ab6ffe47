"""The report's arithmetic: precision-recall curves, learning curves, axes and bins."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillery_trainer.evaluate.evaluation import Evaluation, SystemFigures
from distillery_trainer.evaluate.metrics import Decisions
from distillery_trainer.models.protocol import FitData
from distillery_trainer.report.advice import recall_interval
from distillery_trainer.report.charts import binned, mean_of
from distillery_trainer.report.decisions import curve, operating_point
from distillery_trainer.report.facts import Lesson
from distillery_trainer.report.learning_curve import Embeddings, Exam, learn, verdict
from distillery_trainer.report.svg import Axis, Drawing, Plot, from_zero, ticks
from distillery_trainer.report.systems import _decisions

SAID = np.array([9.0, 7.0, 7.0, 3.0])
LABEL = np.array([8.0, 2.0, 6.0, 5.0])


def test_a_curve_has_a_point_for_each_score_and_ties_are_found_together() -> None:
    points = curve(SAID, LABEL >= 5)

    assert points == [(1 / 3, 1.0), (2 / 3, 2 / 3), (1.0, 3 / 4)]


def test_the_operating_point_is_that_of_the_tiers_own_threshold() -> None:
    assert operating_point(SAID, LABEL, 5) == (2 / 3, 2 / 3)
    assert operating_point(SAID, LABEL, 9.5) is None


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), min_size=1, max_size=40))
def test_the_operating_point_lies_on_the_curve(rows: list[tuple[float, bool]]) -> None:
    said, true = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    label = np.where(true, 6.0, 0.0)

    point = operating_point(said, label, 5)

    assert point is None or point in curve(said, true)


def of_few(figures: SystemFigures, decisions: Decisions) -> SystemFigures:
    """The figures with these decisions, whose recall resampling leaves as it is."""
    recall = decisions.recall or 0.0
    return replace(figures, finds=decisions, intervals={**figures.intervals, "recall": (recall, recall)})


@pytest.mark.parametrize(("found", "positives", "low", "high"), [(2, 2, 0.158, 1.0), (0, 2, 0.0, 0.842)])
def test_a_recall_of_few_articles_never_has_an_interval_without_width(
    figures: SystemFigures, found: int, positives: int, low: float, high: float
) -> None:
    few = of_few(figures, Decisions(positives, 4, 0.5, found / positives, 0.5))

    assert recall_interval(few) == pytest.approx((low, high), abs=0.001)


def test_the_decisions_table_states_the_intervals_of_the_terminal(
    evaluation: Evaluation, figures: SystemFigures
) -> None:
    few = of_few(figures, Decisions(positives=2, predicted=4, precision=0.5, recall=1.0, f1=2 / 3))

    table = _decisions(replace(evaluation.total, student=few))

    assert "100 % to 100 %" not in table.replace("\u00a0", " ")
    assert "16 % to 100 %" in table.replace("\u00a0", " ")
    assert "7 % to 93 %" in table.replace("\u00a0", " ")


def lesson(gain: float, interval: tuple[float, float] | None, mae: float = 0.8) -> Lesson:
    return Lesson("a ridge", ((500, mae + gain), (1000, mae)), gain, interval)


@pytest.mark.parametrize(
    ("found", "begins"),
    [
        (lesson(0.05, (0.02, 0.08)), "Yes"),
        (lesson(0.01, (0.005, 0.02)), "Hardly"),
        (lesson(0.05, (-0.01, 0.1)), "No gain"),
        (lesson(-0.02, (-0.05, 0.01)), "No gain"),
        (lesson(0.05, None), "There are too few"),
    ],
)
def test_the_learning_curve_says_whether_labels_help(found: Lesson, begins: str) -> None:
    assert verdict(found).startswith(begins)


def test_more_articles_teach_more_and_the_last_doubling_is_measured() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(400, 30)).astype(np.float32)
    y = np.clip(5 + x @ rng.normal(size=(30, 2)).astype(np.float32) + rng.normal(0, 1, (400, 2)), 0, 10)
    labels, texts = y.astype(np.float32), [f"words of {i}" for i in range(400)]
    data = FitData(texts[:240], labels[:240], texts[240:300], labels[240:300])
    exam = Exam(texts[300:], labels[300:], texts[300:])

    words, embedded = learn(data, Embeddings(x[:240], x[240:300], x[300:]), exam, 0)

    assert [size for size, _ in embedded.points] == [30, 60, 120, 240]
    maes = [mae for _, mae in embedded.points]
    assert maes == sorted(maes, reverse=True)
    assert embedded.gain == pytest.approx(maes[2] - maes[3])
    assert embedded.interval is not None
    assert embedded.interval[0] < embedded.gain < embedded.interval[1]
    assert words.points[-1][1] > maes[-1]  # the texts tell nothing


@given(st.floats(1e-6, 1e6))
def test_ticks_are_few_and_reach_the_value(most: float) -> None:
    marks = ticks(most)

    assert marks[0] == 0
    assert marks[-1] >= most * (1 - 1e-6)
    assert len(marks) <= 6


def test_a_value_beyond_an_axis_lies_on_its_end() -> None:
    plot = Plot(Drawing(100, 100, "x"), 10, 10, 80, 80, Axis(0, 10, ()), from_zero(1, ""))

    assert plot.place(20, -5) == (90, 90)
    assert plot.place(-1, 9) == (10, 10)


def test_words_in_a_drawing_are_escaped() -> None:
    drawing = Drawing(10, 10, 'a "<b>"')
    drawing.text(0, 0, "<i>&")

    assert "<b>" not in drawing.document()
    assert "&lt;i&gt;&amp;" in drawing.document()


def test_bins_hold_their_lower_edge_and_both_ends() -> None:
    places = binned(np.array([-1.0, 0.0, 0.49, 0.5, 1.0, 3.0]), np.array([0.0, 0.5, 1.0]))

    assert places.tolist() == [0, 0, 0, 1, 1, 1]


def test_the_interval_of_a_mean_is_by_group() -> None:
    values = np.array([0.0, 1.0] * 20)
    alone, together = mean_of(values, [str(i) for i in range(40)], 0), mean_of(values, ["a", "b"] * 20, 0)

    assert alone.mean == together.mean == 0.5
    assert (together.low, together.high) == (0.0, 1.0)
    assert 0.3 < alone.low < alone.high < 0.7
