"""Labelled articles are read strictly: every problem of every line of every file, with file and article number."""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distillery_runtime.errors import InputError, Problem
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.data.labels import MAX_LISTED, files_digest, label_notes, oracle_step, read_labels

Row = Callable[..., dict[str, Any]]
Write = Callable[..., Path]

GOOD = {"relevance": 5, "evidence_quality": 4.5}
FAULTS: dict[str, tuple[object, str]] = {
    "above": (GOOD | {"relevance": 10.5}, ".labels.relevance"),
    "below": (GOOD | {"relevance": -0.5}, ".labels.relevance"),
    "string": (GOOD | {"evidence_quality": "4"}, ".labels.evidence_quality"),
    "boolean": (GOOD | {"relevance": True}, ".labels.relevance"),
    "null": (GOOD | {"relevance": None}, ".labels.relevance"),
    "missing": ({"relevance": 5}, ".labels.evidence_quality"),
    "unknown": (GOOD | {"readiness": 5}, ".labels.readiness"),
    "list": ([5, 4.5], ".labels"),
    "none": (None, ".labels"),
}


def _any_fault(files: list[list[str | None]]) -> bool:
    return any(fault for faults in files for fault in faults)


def problems_of(files: Sequence[Path], spec: FilterSpec) -> list[Problem]:
    with pytest.raises(InputError) as error:
        read_labels(files, spec)
    return list(error.value.problems)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from([None, *FAULTS]), max_size=6), min_size=1, max_size=3).filter(_any_fault))
def test_every_fault_of_every_line_of_every_file_is_listed_in_order(
    spec: FilterSpec, row: Row, files: list[list[str | None]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths, expected = [], []
        for place, faults in enumerate(files):
            path = Path(folder) / f"{place}.jsonl"
            rows = [row(f"{place}-{i}", labels=FAULTS[f][0] if f else GOOD) for i, f in enumerate(faults)]
            path.write_text("".join(json.dumps(one) + "\n" for one in rows))
            paths.append(path)
            expected += [f"{path}: article {i + 1}{FAULTS[f][1]}" for i, f in enumerate(faults) if f]

        found = problems_of(paths, spec)

    assert [problem.path for problem in found] == expected


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "10.000001", "-1e-9", '"5"', "false", "[]"])
def test_a_label_that_is_no_number_from_0_to_10_is_refused(spec: FilterSpec, write_rows: Write, value: str) -> None:
    line = f'{{"id": "a", "text": "Some.", "labels": {{"relevance": {value}, "evidence_quality": 1}}}}'

    found = problems_of([write_rows("one.jsonl", [line])], spec)

    assert len(found) == 1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 10)), min_size=1, max_size=8))
def test_labels_from_0_to_10_come_back_in_column_and_file_order(
    spec: FilterSpec, row: Row, labels: list[tuple[float, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.jsonl"
        rows = [row(str(i), labels={"evidence_quality": e, "relevance": r}) for i, (r, e) in enumerate(labels)]
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))

        found = read_labels([path], spec)

    assert found.labels().tolist() == np.array(labels, dtype=np.float32).tolist()


def test_several_labels_of_one_article_are_all_named(spec: FilterSpec, row: Row, write_rows: Write) -> None:
    path = write_rows("one.jsonl", [row("a", labels={"relevance": 11, "readiness": 1})])

    found = problems_of([path], spec)

    assert [problem.path.split(".labels.")[1] for problem in found] == ["relevance", "evidence_quality", "readiness"]


def test_an_article_that_is_broken_in_two_ways_is_listed_with_both(
    spec: FilterSpec, row: Row, write_rows: Write
) -> None:
    path = write_rows("one.jsonl", [row("", labels=GOOD | {"relevance": 11})])

    found = problems_of([path], spec)

    assert len(found) == 2


def test_an_id_used_in_another_file_is_refused_and_both_places_are_named(
    spec: FilterSpec, row: Row, write_rows: Write
) -> None:
    first = write_rows("first.jsonl", [row("a"), row("b")])
    second = write_rows("second.jsonl", [row("c"), row("b")])

    found = problems_of([first, second], spec)

    assert found == [Problem(f"{second}: article 2.id", "'b'", f"an id not used before ({first}: article 2)")]


def test_the_number_3_and_the_string_3_are_the_same_id(spec: FilterSpec, row: Row, write_rows: Write) -> None:
    path = write_rows("one.jsonl", [row("3"), row("x") | {"id": 3}])

    found = problems_of([path], spec)

    assert [problem.found for problem in found] == ["'3'"]


def test_lines_that_are_no_json_object_are_listed_and_the_others_are_still_checked(
    spec: FilterSpec, row: Row, write_rows: Write
) -> None:
    path = write_rows("one.jsonl", ["{", row("a"), "[1]", row("b", text=" ")])

    found = problems_of([path], spec)

    assert [problem.path for problem in found] == [f"{path}: article {number}" for number in (1, 3, 4)]


def test_a_text_that_is_only_markup_is_refused(spec: FilterSpec, row: Row, write_rows: Write) -> None:
    path = write_rows("one.jsonl", [row("a", title="", text="<br><br>")])

    found = problems_of([path], spec)

    assert found == [Problem(f"{path}: article 1.text", "nothing left after cleaning", "some text")]


def test_a_missing_file_does_not_hide_the_problems_of_the_others(
    spec: FilterSpec, row: Row, write_rows: Write, tmp_path: Path
) -> None:
    broken = write_rows("broken.jsonl", [row("a", labels=None)])

    found = problems_of([tmp_path / "missing.jsonl", broken], spec)

    assert [problem.path for problem in found] == [str(tmp_path / "missing.jsonl"), f"{broken}: article 1.labels"]


def test_files_without_an_article_are_refused(spec: FilterSpec, write_rows: Write) -> None:
    empty = write_rows("empty.jsonl", [])

    assert problems_of([empty], spec) == [Problem(str(empty), "no articles", "at least one labelled article")]


def test_of_very_many_problems_the_first_are_listed_and_the_rest_counted(
    spec: FilterSpec, row: Row, write_rows: Write
) -> None:
    path = write_rows("many.jsonl", [row(str(i), labels=None) for i in range(MAX_LISTED + 7)])

    found = problems_of([path], spec)

    assert len(found) == MAX_LISTED + 1
    assert found[-1].found == "7 problems like these"


def test_the_text_is_the_cleaned_title_and_text(spec: FilterSpec, row: Row, write_rows: Write) -> None:
    path = write_rows("one.jsonl", [row("a", title="<b>Sun</b>", text="rises  &amp;\nshines")])

    assert read_labels([path], spec).texts == ["Sun\n\nrises & shines"]


def test_who_labelled_is_told_from_the_records(spec: FilterSpec, row: Row, write_rows: Write) -> None:
    path = write_rows("one.jsonl", [row("a", oracle="model-b"), row("b"), row("c", oracle="model-a")])

    assert read_labels([path], spec).oracles == "model-a, model-b, not stated"


def test_the_fields_of_slices_are_kept_and_empty_where_absent(spec: FilterSpec, row: Row, write_rows: Write) -> None:
    path = write_rows("one.jsonl", [row("a", source="arxiv")])

    (article,) = read_labels([path], spec).articles

    assert article.fields == {"source": "arxiv", "language": "", "id": "a"}


def test_a_selection_has_the_asked_order(spec: FilterSpec, row: Row, write_rows: Write) -> None:
    labelled = read_labels([write_rows("one.jsonl", [row("a"), row("b"), row("c")])], spec)

    assert [article.id for article in labelled.select([2, 0]).articles] == ["c", "a"]


def test_the_digest_of_a_file_changes_with_its_content_and_not_with_its_place(
    write_rows: Write, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    first, second = write_rows("one.jsonl", ["a"]), write_rows("other/one.jsonl", ["a"])
    changed = write_rows("two.jsonl", ["b"])

    a, b, c = files_digest([first, second, changed])

    assert a == b
    assert a["sha256"] != c["sha256"]


@pytest.mark.parametrize("value", [0, 1.5, "half", True])
def test_an_inclusion_probability_that_is_none_is_refused(
    spec: FilterSpec, row: Callable[..., dict[str, Any]], write_rows: Callable[..., Path], value: object
) -> None:
    file = write_rows("labels.jsonl", [row("a", inclusion_probability=value)])

    with pytest.raises(InputError, match=r"inclusion_probability.*expected a number above 0, at most 1"):
        read_labels([file], spec)


def test_an_article_stands_for_one_over_its_inclusion_probability(
    spec: FilterSpec, row: Callable[..., dict[str, Any]], write_rows: Callable[..., Path]
) -> None:
    file = write_rows("labels.jsonl", [row("a", inclusion_probability=0.25), row("b")])

    np.testing.assert_array_equal(read_labels([file], spec).sampling_weights(), [4, 1])


@pytest.mark.parametrize(
    ("key", "meant"),
    [("lables", "labels"), ("label", "labels"), ("Labels", "labels"), ("Weight", "weight"), ("wieght", "weight"),
     ("repeat", "repeats"), ("flag", "flags"), ("inclusionProbability", "inclusion_probability"),
     ("costUSD", "cost_usd"), ("Title", "title"), ("Language", "language"), ("oracles", "oracle"), ("URL", "url")],
)  # fmt: skip
def test_a_key_that_looks_like_one_and_is_not_read_is_refused(
    spec: FilterSpec, row: Callable[..., dict[str, Any]], write_rows: Callable[..., Path], key: str, meant: str
) -> None:
    file = write_rows("labels.jsonl", [row("a") | {key: 1}])

    with pytest.raises(InputError, match=rf"article 1\.{key}: a key that is not read, expected {meant}"):
        read_labels([file], spec)


def test_other_keys_are_allowed(
    spec: FilterSpec, row: Callable[..., dict[str, Any]], write_rows: Callable[..., Path]
) -> None:
    more = ["label_set", "alt_labels", "text_sha", "published", "extra", "group", "stratum", "similarity", "author",
            "first_overall", "last_overall", "reason", "found", "tags", "score", "sources"]  # fmt: skip

    assert len(read_labels([write_rows("labels.jsonl", [row("a") | dict.fromkeys(more, 1)])], spec).articles) == 1


@pytest.mark.parametrize(
    "change", [{"oracle": 7}, {"oracle": ["a", "b"]}, {"source": ["a"]}, {"language": True}], ids=str
)
def test_names_that_are_none_are_refused(
    spec: FilterSpec, row: Callable[..., dict[str, Any]], write_rows: Callable[..., Path], change: dict[str, object]
) -> None:
    with pytest.raises(InputError, match=f"article 1.{next(iter(change))}"):
        read_labels([write_rows("labels.jsonl", [row("a", **change)])], spec)


def test_several_oracles_and_two_labels_of_one_text_are_noted(
    spec: FilterSpec, row: Callable[..., dict[str, Any]], write_rows: Callable[..., Path]
) -> None:
    labels = {"relevance": 1.0, "evidence_quality": 1.0}
    rows = [row("a", text="One text.", oracle="x"), row("b", text="One  text.", labels=labels, oracle="x")]
    mixed = [row("a", oracle="x"), row("b")]

    notes = label_notes(read_labels([write_rows("same.jsonl", rows)], spec))

    assert len(notes) == 1
    assert "'a' and 'b'" in notes[0]
    assert "not stated, x" in label_notes(read_labels([write_rows("mixed.jsonl", mixed)], spec))[0]
    assert label_notes(read_labels([write_rows("one.jsonl", rows[:1])], spec)) == []


@pytest.mark.parametrize(
    ("labels", "step"),
    [
        ([0, 1, 5, 10], 1.0),
        ([0, 1.5, 5, 10], 0.5),
        ([0, 1.25, 5.1, 9.9], None),
        ([3.0] * 98 + [2.7], None),  # a mean of repeated answers: half a step below a limit it would change sides
        ([3.0] * 98 + [2.5], 0.5),
    ],
)
def test_the_oracles_step_is_that_of_all_labels(labels: list[float], step: float | None) -> None:
    assert oracle_step(np.array(labels, np.float32)[:, None]) == step
