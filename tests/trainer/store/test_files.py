"""Files: JSON, digests of what a run depends on, finished work moved to its place."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillery_runtime.files.safe_write import write_text
from distillery_trainer.store.files import digest, promote, tree_digest, write_json, write_jsonl

FEW = settings(derandomize=True, max_examples=25, deadline=None)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-1, 1) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@FEW
@given(JSON)
def test_json_comes_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"

    write_json(path, value)

    assert json.loads(path.read_text(encoding="utf-8")) == value


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_not_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"mae": value})

    assert not list(tmp_path.iterdir())


def test_json_lines_are_one_record_a_line(tmp_path: Path) -> None:
    rows = [{"id": "a\nb"}, {"id": "c\u2028d"}]

    write_jsonl(tmp_path / "a.jsonl", rows)

    assert [json.loads(line) for line in (tmp_path / "a.jsonl").open(encoding="utf-8", newline="\n")] == rows


@FEW
@given(st.dictionaries(st.text(max_size=3), JSON, min_size=2, max_size=4))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


@FEW
@given(JSON, JSON)
def test_equal_digests_mean_equal_json(one: object, other: object) -> None:
    canonical = [json.dumps(value, sort_keys=True) for value in (one, other)]

    assert (digest(one) == digest(other)) == (canonical[0] == canonical[1])


def test_the_digest_of_a_folder_does_not_depend_on_where_it_is(tmp_path: Path) -> None:
    for place in ("one", "two"):
        write_text(tmp_path / place / "deep" / "a.txt", "text")

    assert tree_digest(tmp_path / "one") == tree_digest(tmp_path / "two")


@pytest.mark.parametrize("change", ["content", "name", "more", "fewer", "moved between files"])
def test_the_digest_of_a_folder_changes_with_its_files(tmp_path: Path, change: str) -> None:
    write_text(tmp_path / "run" / "a.txt", "text")
    write_text(tmp_path / "run" / "b.txt", "more")
    before = tree_digest(tmp_path / "run")

    if change == "content":
        write_text(tmp_path / "run" / "a.txt", "texts")
    elif change == "name":
        (tmp_path / "run" / "a.txt").rename(tmp_path / "run" / "c.txt")
    elif change == "more":
        write_text(tmp_path / "run" / ".hidden", "")
    elif change == "fewer":
        (tmp_path / "run" / "b.txt").unlink()
    else:
        write_text(tmp_path / "run" / "a.txt", "textmore")
        write_text(tmp_path / "run" / "b.txt", "")

    assert tree_digest(tmp_path / "run") != before


@pytest.mark.parametrize("was", ["nothing", "file", "folder"])
@pytest.mark.parametrize("finished", ["file", "folder"])
def test_finished_work_replaces_whatever_was_in_its_place(tmp_path: Path, was: str, finished: str) -> None:
    def put(path: Path, kind: str, text: str) -> None:
        write_text(path / f"{text}.txt" if kind == "folder" else path, text)

    put(tmp_path / "work" / "output", finished, "new")
    if was != "nothing":
        put(tmp_path / "output", was, "old")
    expected = tree_digest(tmp_path / "work" / "output")

    promote(tmp_path / "work" / "output", tmp_path / "output")

    assert tree_digest(tmp_path / "output") == expected
    assert not (tmp_path / "work" / "output").exists()
