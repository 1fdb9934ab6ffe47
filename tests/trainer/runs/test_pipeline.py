"""The chain of a fit: which tasks a change makes again, and which articles reach them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillery_runtime.errors import InputError
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.data.labels import LabelledSet, read_labels
from distillery_trainer.filters.overrides import apply_overrides
from distillery_trainer.runs.pipeline import Pipeline
from distillery_trainer.runs.run import Run
from distillery_trainer.runs.tasks import task_keys

Overrides = dict[str, object]
Rows = Callable[[int], list[dict[str, Any]]]
Write = Callable[..., Path]

AFTER = {"certify", "predict", "evaluate", "report"}
ALL = {"split", "fit", "calibrate", "probe", "select"} | AFTER
DEPENDS = [
    ({"cascade.target_miss_rate": 0.2}, {"certify", "evaluate", "report"}),
    ({"operating_tier": "high"}, ALL - {"split"}),  # a find head learns what the tier makes a find
    ({"oracle.step": 0.5}, ALL - {"split"}),
    ({"operating_point": {"min_recall": 0.8}}, {"select"} | AFTER),
    ({"evaluation.slices": [{"name": "dutch", "field": "language", "includes": "nl"}]}, {"evaluate", "report"}),
    ({"prefilter": [{"name": "deals", "words": ["deal"]}]}, {"certify", "evaluate", "report"}),
    ({"text.max_unknown_share": 0.5}, {"certify", "evaluate", "report"}),
    ({"cascade.probe.hidden": [7]}, {"probe"} | AFTER),
    ({"student.static.hidden": [7]}, {"fit", "calibrate", "select"} | AFTER),
    ({"student.window.max_tokens": 64}, {"fit", "calibrate", "select"} | AFTER),
    ({"student.encoder.training.epochs": 9}, set()),
    ({"summary": "Other words."}, {"report"}),
    ({"oracle.model": "another"}, set()),
    ({"gatekeepers": []}, ALL),  # the split spreads overalls, which gatekeepers cap
    ({"text.title_separator": " | "}, ALL),
]


def pipeline(spec: FilterSpec, rows: list[dict[str, Any]], write_rows: Write, seed: int = 0) -> Pipeline:
    labels = write_rows("labels.jsonl", rows)
    return Pipeline(Run(labels.parent / "run", spec, seed, lambda: read_labels([labels], spec)))


@pytest.mark.parametrize(("change", "expected"), DEPENDS, ids=[next(iter(change)) for change, _ in DEPENDS])
def test_a_change_of_the_config_makes_exactly_the_tasks_again_that_depend_on_it(
    quick: Overrides,
    spec: FilterSpec,
    topic_rows: Rows,
    write_rows: Write,
    change: dict[str, object],
    expected: set[str],
) -> None:
    rows = [row | {"title": "A title"} for row in topic_rows(8)]
    static = apply_overrides(spec, quick)

    before = task_keys(pipeline(static, rows, write_rows).tasks())
    after = task_keys(pipeline(apply_overrides(static, change), rows, write_rows).tasks())

    assert {name for name in before if before[name] != after[name]} == expected


@pytest.mark.parametrize(
    "part",
    [{"text": "Other text."}, {"labels": {"relevance": 1, "evidence_quality": 1}}, {"id": "new"}, {"source": "x"}],
)
def test_a_change_of_any_article_makes_every_task_again(
    spec: FilterSpec, topic_rows: Rows, write_rows: Write, part: dict[str, object]
) -> None:
    rows = topic_rows(8)

    before = task_keys(pipeline(spec, rows, write_rows).tasks())
    after = task_keys(pipeline(spec, [*rows[:-1], rows[-1] | part], write_rows).tasks())

    assert {name for name in before if before[name] != after[name]} == ALL


def test_another_seed_makes_every_task_again(spec: FilterSpec, topic_rows: Rows, write_rows: Write) -> None:
    before, after = (task_keys(pipeline(spec, topic_rows(8), write_rows, seed).tasks()) for seed in (0, 1))

    assert {name for name in before if before[name] != after[name]} == ALL


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\x1c"])
def test_an_id_with_a_line_separator_finds_its_split_again(
    spec: FilterSpec, topic_rows: Rows, write_rows: Write, separator: str
) -> None:
    rows = topic_rows(30)
    rows[3]["id"] = f"a{separator}b"
    chain = pipeline(spec, rows, write_rows)

    chain.tasks()[0].make(chain.run.folder / "splits.jsonl")

    assert sorted(
        place for name in ("train", "val", "calibration", "test") for place in chain.run.places(name)
    ) == list(range(30))


def test_a_source_that_no_encoding_can_carry_is_refused_with_the_labels(spec: FilterSpec, write_rows: Write) -> None:
    line = '{"id": "a", "text": "Some.", "source": "\\ud800", "labels": {"relevance": 1, "evidence_quality": 1}}'

    with pytest.raises(InputError):
        read_labels([write_rows("one.jsonl", [line])], spec)


def test_the_certificate_counts_each_near_duplicate_group_once(
    quick: Overrides, spec: FilterSpec, topic_rows: Rows, write_rows: Write
) -> None:
    rows = [row | {"id": f"{row['id']}-{copy}"} for row in topic_rows(40) for copy in "abc"]
    static = apply_overrides(spec, quick)
    labels = write_rows("labels.jsonl", rows)
    folder = labels.parent / "run"
    chain = Pipeline(Run(folder, static, 0, lambda: read_labels([labels], static)))

    for task in chain.tasks()[:6]:
        task.make(folder / task.output)

    certificate = json.loads((folder / "certificate.json").read_text())
    groups = {chain.run.groups[place] for place in chain.run.places("calibration")}
    assert len(chain.run.places("calibration")) == 3 * len(groups)
    assert certificate["articles"] == len(groups)


def test_calibration_and_test_articles_reach_no_fit(spec: FilterSpec, topic_rows: Rows, write_rows: Write) -> None:
    chain = pipeline(spec, topic_rows(40), write_rows)
    chain.tasks()[0].make(chain.run.folder / "splits.jsonl")

    data = chain.run.fit_data()

    held: LabelledSet = chain.labelled.select([*chain.run.places("calibration"), *chain.run.places("test")])
    assert len(held.articles) > 5
    assert not set(held.texts) & {*data.train_texts, *data.val_texts}
