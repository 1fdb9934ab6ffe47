"""Heads that learn together on a frozen encoder: no fold teaches the heads that it tests, and a kill costs one fold."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from distillery_runtime.articles.text import ArticleText
from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.data.labels import LabelledArticle, LabelledSet
from distillery_trainer.filters.overrides import apply_overrides
from distillery_trainer.models import frozen
from distillery_trainer.runs.joint import Joint, Member
from distillery_trainer.runs.tasks import TaskFolder

pytest.importorskip("torch")

from distillery_trainer.models import joint_heads
from distillery_trainer.neural import shared_layer  # needs torch

GREEN = ("river", "wind", "tree", "sun")
TOWN = ("city", "school", "art", "old")
FOLDS, SHARED, EACH = 3, 30, 60  # articles of both filters; articles of each


@pytest.fixture(scope="module", autouse=True)
def _few_steps() -> Iterator[None]:
    """What these heads learn they learn in 100 steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint_heads, "FEWEST_STEPS", 100)
        yield


def labelled(prefix: str, places: range, is_turned: bool) -> LabelledSet:
    """Articles of green words or of the town's; what is green is relevant, or turned the other way round."""
    articles = []
    for place in places:
        words = np.random.default_rng(place).choice(GREEN if place % 2 else TOWN, 12)
        text = " ".join([*words.tolist(), *["a", "the"] * (place % 7)])
        labels = (8.0, 6.0) if (place % 2 == 1) != is_turned else (1.0, 6.0)
        articles.append(LabelledArticle(f"{prefix}{place}", ArticleText("", text, text), labels, {}, None))
    return LabelledSet(tuple(articles))


@pytest.fixture(scope="module")
def members(spec: FilterSpec, encoder_base: Path) -> list[Member]:
    """Two filters with 60 articles each, 30 of them in both."""
    chosen = {"backend": "frozen", "frozen.embedder": str(encoder_base), "frozen.layers": [1, 2],
              "frozen.pooling": "mean_max", "window.max_tokens": 40}  # fmt: skip
    one = apply_overrides(spec, {f"student.{key}": value for key, value in chosen.items()})
    other = apply_overrides(one, {"name": "turned"})
    return [
        Member(one, labelled("a", range(EACH), is_turned=False)),
        Member(other, labelled("b", range(EACH - SHARED, 2 * EACH - SHARED), is_turned=True)),
    ]


def fitted(members: list[Member], folder: Path, splits: Path | None = None) -> Joint:
    made = Joint(members, folder, 0, 0 if splits else FOLDS, splits)
    TaskFolder(folder).execute(made.tasks(), lambda _: None)
    return made


@pytest.fixture(scope="module")
def joint(members: list[Member], tmp_path_factory: pytest.TempPathFactory) -> Joint:
    return fitted(members, tmp_path_factory.mktemp("joint"))


@pytest.fixture(scope="module")
def splits(members: list[Member], joint: Joint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folds of `joint`, as a file of both filters' articles."""
    path = tmp_path_factory.mktemp("splits") / "splits.jsonl"
    rows = [(row.id, row.split, row.group) for number in (0, 1) for row in joint.assignments(number)]
    lines = [json.dumps({"id": i, "split": fold, "group": f"{fold}-{i}"}) for i, fold, _ in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def held_out(joint: Joint) -> Mapping[str, Mapping[str, NDArray[np.float32]]]:
    return {path.stem: load_file(path) for path in sorted((joint.folder / "held_out").iterdir())}


def test_heads_that_learn_together_tell_each_filters_finds_out_of_fold(members: list[Member], joint: Joint) -> None:
    for number, member in enumerate(members):
        folds = [row.split for row in joint.assignments(number)]
        labels = member.labelled.labels()
        for fold in sorted(set(folds)):
            own = labels[[name == fold for name in folds]]
            raw = joint.held_out(number, fold)

            is_find = own[:, 0] > 4
            assert raw.shape == (len(own), 3)
            assert raw[is_find, 2].min() > raw[~is_find, 2].max()
            assert np.abs(raw[:, 0] - own[:, 0]).mean() < 1


def test_an_article_of_both_filters_is_in_the_same_fold_of_both(joint: Joint) -> None:
    first, second = ({row.id[1:]: row.split for row in joint.assignments(number)} for number in (0, 1))

    shared = first.keys() & second.keys()
    assert len(shared) == SHARED
    assert {first[i] for i in shared} == set(first.values()) == {"fold-0", "fold-1", "fold-2"}
    assert all(first[i] == second[i] for i in shared)


def test_no_label_of_a_fold_teaches_the_heads_that_it_tests(
    members: list[Member], joint: Joint, splits: Path, tmp_path: Path
) -> None:
    in_fold = {row.id for row in joint.assignments(1) if row.split == "fold-1"}
    changed = [
        replace(article, labels=(9.0, 9.0)) if article.id in in_fold else article
        for article in members[1].labelled.articles
    ]
    others = [members[0], replace(members[1], labelled=LabelledSet(tuple(changed)))]

    found, before = held_out(fitted(others, tmp_path / "joint", splits)), held_out(joint)

    for number, label in enumerate(joint.filters):
        assert np.array_equal(found["fold-1"][label], before["fold-1"][label]), number
        assert not np.array_equal(found["fold-0"][label], before["fold-0"][label])


def test_given_folds_are_those_that_are_held_out(
    members: list[Member], joint: Joint, splits: Path, tmp_path: Path
) -> None:
    found = fitted(members, tmp_path / "joint", splits)

    for number in (0, 1):
        rows = [[(row.id, row.split) for row in made.assignments(number)] for made in (found, joint)]
        assert rows[0] == rows[1]


def test_a_text_in_two_folds_is_refused(members: list[Member], splits: Path, tmp_path: Path) -> None:
    moved = splits.read_text(encoding="utf-8").replace(
        '{"id": "b30", "split": "fold-', '{"id": "b30", "split": "fold-x'
    )
    rows = [json.loads(line) for line in moved.splitlines()]
    for row in rows:
        if row["split"].startswith("fold-x"):
            row["split"] = f"fold-{(int(row['split'][-1]) + 1) % FOLDS}"
    (tmp_path / "splits.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    with pytest.raises(InputError, match=r"b30: in fold-., its text in fold-."):
        fitted(members, tmp_path / "joint", tmp_path / "splits.jsonl")


def test_a_group_that_two_filters_have_in_different_folds_is_refused(
    members: list[Member], splits: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in splits.read_text(encoding="utf-8").splitlines()]
    shared = {article.text for article in members[0].labelled.articles} & {
        article.text for article in members[1].labelled.articles
    }
    alone = [
        next(a.id for a in member.labelled.articles if a.text not in shared and fold_of(rows, a.id) == f"fold-{number}")
        for number, member in enumerate(members[:2])
    ]
    for row in rows:
        if row["id"] in alone:
            row["group"] = "twins"
    (tmp_path / "splits.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    with pytest.raises(InputError, match="group twins: in several folds"):
        fitted(members, tmp_path / "joint", tmp_path / "splits.jsonl")


def fold_of(rows: list[dict[str, str]], article: str) -> str:
    return next(row["split"] for row in rows if row["id"] == article)


def test_a_student_that_is_taken_answers_with_its_own_head(members: list[Member], joint: Joint, tmp_path: Path) -> None:
    texts = members[0].labelled.texts[:9]
    for number in (0, 1):
        joint.take(number, tmp_path / str(number))

    one, other = (frozen.load(tmp_path / str(n), members[n].spec.student.window).predict(texts) for n in (0, 1))

    assert one.shape == other.shape == (9, 3)
    assert np.corrcoef(one[:, 2], other[:, 2])[0, 1] < -0.8  # the second filter asks the other way round


def test_a_fold_that_was_finished_before_a_kill_is_not_fitted_again(
    members: list[Member], joint: Joint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Joint(members, tmp_path / "joint", 0, FOLDS)
    fits: list[int] = []
    real = shared_layer.fit_layers

    def killed_at_the_second(*arguments: Any) -> Any:  # Any: as the function's own
        fits.append(len(fits))
        if len(fits) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(shared_layer, "fit_layers", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        TaskFolder(made.folder).execute(made.tasks(), lambda _: None)

    again = fitted(members, tmp_path / "joint")

    assert len(fits) == 1 + 1 + FOLDS  # the first fold, the kill, two folds and all articles
    for fold, by_filter in held_out(joint).items():
        for label, raw in by_filter.items():
            assert np.array_equal(held_out(again)[fold][label], raw)
