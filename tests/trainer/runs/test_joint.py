"""A joint training's articles: each text once, one split for all filters, and a label only where there is one."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from distillery_runtime.articles.text import ArticleText
from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.data.labels import LabelledArticle, LabelledSet
from distillery_trainer.data.split import SHARES
from distillery_trainer.filters.overrides import apply_overrides
from distillery_trainer.runs.joint import Joint, Member
from distillery_trainer.runs.tasks import TaskFolder

GENERATOR = np.random.default_rng(3)
TEXTS = [" ".join(f"word{i}" for i in GENERATOR.integers(0, 3000, 30)) for _ in range(240)]
SHARED = range(100, 160)  # the texts that both filters have labels for


@pytest.fixture
def encoders(spec: FilterSpec) -> tuple[FilterSpec, FilterSpec]:
    """Two filters with an encoder student, the second with one dimension."""
    one = apply_overrides(spec, {"student.backend": "encoder"})
    alone = one.model_dump(mode="json")["dimensions"][0] | {"weight": 1.0}
    return one, apply_overrides(one, {"name": "other", "dimensions": [alone], "gatekeepers": []})


@pytest.fixture
def joint(encoders: tuple[FilterSpec, FilterSpec], tmp_path: Path) -> Joint:
    """The first filter has labels for texts 0 to 159, the second for 100 to 239; their articles' ids differ."""
    members = [
        Member(encoders[0], labelled("a", range(160), 2)),
        Member(encoders[1], labelled("b", range(100, 240), 1)),
    ]
    made = Joint(members, tmp_path / "joint", 0)
    split(made)
    return made


def split(made: Joint) -> None:
    """Brings the first task up to date; the other one needs torch."""
    TaskFolder(made.folder).execute(made.tasks()[:1], lambda _: None)


def labelled(prefix: str, places: range, dimensions: int) -> LabelledSet:
    scores = GENERATOR.uniform(1, 10, (len(places), dimensions)).round(1)
    return LabelledSet(
        tuple(
            LabelledArticle(f"{prefix}{place}", ArticleText("", TEXTS[place], TEXTS[place]), tuple(row), {}, None)
            for place, row in zip(places, scores.tolist(), strict=True)
        )
    )


def test_a_text_has_one_split_whichever_filters_have_labels_for_it(joint: Joint) -> None:
    first, second = ({row.id[1:]: row for row in joint.assignments(number)} for number in (0, 1))

    assert all(first[str(place)].split == second[str(place)].split for place in SHARED)
    assert [row.id for row in joint.assignments(1)] == [f"b{place}" for place in range(100, 240)]


def test_every_filter_gets_each_splits_share(joint: Joint) -> None:
    for number in (0, 1):
        rows = joint.assignments(number)
        counts = Counter(row.split for row in rows)
        assert {name: counts[name] / len(rows) for name in SHARES} == pytest.approx(SHARES, abs=0.02)


def test_groups_are_named_by_the_filters_own_articles(encoders: tuple[FilterSpec, FilterSpec], tmp_path: Path) -> None:
    again = LabelledSet(
        tuple(
            LabelledArticle(f"b{i}", ArticleText("", text, text), (4.0,), {}, None)
            for i, text in enumerate([TEXTS[0], TEXTS[0] + " once more", *TEXTS[100:140]])
        )
    )
    made = Joint([Member(encoders[0], labelled("a", range(60), 2)), Member(encoders[1], again)], tmp_path / "joint", 0)
    split(made)

    first, second, *_ = made.assignments(1)

    assert (first.group, second.group) == ("b0", "b0")
    assert first.split == second.split == made.assignments(0)[0].split


def test_labels_stand_in_their_filters_columns_and_count_only_there(joint: Joint) -> None:
    data = joint.data
    (one, two), known = joint.members, {}
    for member, columns in ((one, slice(0, 2)), (two, slice(2, 3))):
        for article in member.labelled.articles:
            known[article.text, columns.start] = article.labels

    assert len(data.train_texts) + len(data.val_texts) == pytest.approx(240 * 0.75, abs=4)
    assert len(set(data.train_texts)) == len(data.train_texts)
    for texts, labels, weights in (
        (data.train_texts, data.train_labels, data.train_weights),
        (data.val_texts, data.val_labels, data.val_weights),
    ):
        assert weights is not None
        for text, row, counts in zip(texts, labels, weights, strict=True):
            for columns in (slice(0, 2), slice(2, 3)):
                expected = known.get((text, columns.start))
                assert (counts[columns] > 0).all() == (expected is not None)
                assert expected is None or row[columns].tolist() == pytest.approx(expected)


def test_each_filter_counts_alike_in_the_validations_error(joint: Joint) -> None:
    weights = joint.data.val_weights

    assert weights is not None
    assert weights[:, :2].sum() == pytest.approx(weights[:, 2:].sum()) == pytest.approx(1)


def test_what_other_filters_teach_beside_a_filters_own_articles_is_known(joint: Joint) -> None:
    assert sorted(joint.others(0)) == sorted(TEXTS[160:240])
    assert sorted(joint.others(1)) == sorted(TEXTS[:100])


def test_texts_that_occur_twice_in_a_filter_are_two_articles(
    encoders: tuple[FilterSpec, FilterSpec], tmp_path: Path
) -> None:
    twice = LabelledSet((*labelled("b", range(40), 1).articles, *labelled("c", range(2), 1).articles))
    made = Joint([Member(encoders[0], labelled("a", range(60), 2)), Member(encoders[1], twice)], tmp_path / "joint", 0)
    split(made)

    rows = made.assignments(1)

    assert len(rows) == 42
    assert [row.split for row in rows[40:]] == [row.split for row in rows[:2]]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"student.window.max_tokens": 100}, "student.window.max_tokens: 100 in other-1"),
        ({"student.encoder.loss": "mse"}, "student.encoder.loss: 'mse' in other-1"),
        ({"text.strip_markup": False}, "text.strip_markup: False in other-1"),
        ({"student.backend": "decoder"}, "student.backend: encoder in topic-1, decoder in other-1"),
    ],
)
def test_filters_whose_students_differ_are_refused(
    encoders: tuple[FilterSpec, FilterSpec], tmp_path: Path, changes: dict[str, object], found: str
) -> None:
    one, two = encoders
    members = [
        Member(one, labelled("a", range(60), 2)),
        Member(apply_overrides(two, changes), labelled("b", range(60), 1)),
    ]

    with pytest.raises(InputError, match=found):
        Joint(members, tmp_path / "joint", 0)


def test_static_students_one_filter_and_a_filter_twice_are_refused(spec: FilterSpec, tmp_path: Path) -> None:
    member = Member(apply_overrides(spec, {"student.backend": "static"}), labelled("a", range(60), 2))

    with pytest.raises(InputError, match="one filter, expected several"):
        Joint([member], tmp_path / "joint", 0)
    with pytest.raises(InputError, match=r"topic-1 2 times(.|\n)*static table's pass"):
        Joint([member, member], tmp_path / "joint", 0)


def test_a_filter_without_enough_articles_for_each_split_is_told(
    encoders: tuple[FilterSpec, FilterSpec], tmp_path: Path
) -> None:
    few = LabelledSet(tuple(LabelledArticle(f"b{i}", ArticleText("", TEXTS[0], TEXTS[0]), (4.0,), {}, None)
                            for i in range(20)))  # fmt: skip
    made = Joint([Member(encoders[0], labelled("a", range(60), 2)), Member(encoders[1], few)], tmp_path / "joint", 0)

    with pytest.raises(InputError, match="other-1: split calibration: none of 20 articles"):
        split(made)
