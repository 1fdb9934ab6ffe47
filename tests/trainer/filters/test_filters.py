"""Finding filters by name, version or path, and reading their configs."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillery_runtime.errors import InputError, SpecError
from distillery_runtime.spec.model import FilterSpec
from distillery_trainer.filters import find
from distillery_trainer.filters.find import (
    all_filters,
    filters_root,
    find_filter,
    find_labels,
    is_shipped,
    load_filter,
    read_config,
    shipped_root,
)
from distillery_trainer.filters.scaffold import init_filter


def put(root: Path, name: str, version: str) -> Path:
    folder = root / name / version
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: x\n")
    return folder


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the filters are that come with the trainer: shipped/v1 and shipped/v2 alone."""
    monkeypatch.setattr(find, "_PACKAGE", tmp_path / "package")
    root = tmp_path / "package" / "shipped_filters"
    for version in ("v1", "v2"):
        put(root, "shipped", version)
    return root


@settings(max_examples=20)
@given(st.sets(st.integers(1, 120), min_size=1, max_size=6))
def test_a_name_gives_its_highest_version(versions: set[int]) -> None:
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILLERY_FILTERS", root)
        for version in versions:
            put(Path(root), "topic", f"v{version}")

        found = find_filter("topic")

    assert found.name == f"v{max(versions)}"


def test_version_10_is_above_version_9(filters_root: Path) -> None:
    put(filters_root, "topic", "v9")
    newest = put(filters_root, "topic", "v10")

    assert find_filter("topic") == newest


def test_a_name_with_a_version_gives_that_version(filters_root: Path) -> None:
    asked = put(filters_root, "topic", "v2")
    put(filters_root, "topic", "v10")

    assert find_filter("topic/v2") == asked


def test_a_path_gives_the_folder_at_that_path(filters_root: Path, tmp_path: Path) -> None:
    put(filters_root, "topic", "v1")
    elsewhere = put(tmp_path / "elsewhere", "draft", "now")

    assert find_filter(str(elsewhere)) == elsewhere


def test_a_folder_without_a_config_is_no_version(filters_root: Path) -> None:
    kept = put(filters_root, "topic", "v1")
    (filters_root / "topic" / "v2").mkdir()

    assert find_filter("topic") == kept


def test_a_folder_that_only_begins_like_a_version_is_none(filters_root: Path) -> None:
    kept = put(filters_root, "topic", "v1")
    put(filters_root, "topic", "v2-draft")

    assert find_filter("topic") == kept


@pytest.mark.parametrize("name", ["tropic", "topic/v3", "../topic", "Topic", "*", "no/such/folder", "/no/such/folder"])
def test_an_unknown_filter_is_refused_with_a_list_of_those_known(filters_root: Path, shipped: Path, name: str) -> None:
    put(filters_root, "topic", "v1")
    put(filters_root, "other", "v2")

    with pytest.raises(InputError) as error:
        find_filter(name)

    assert str(error.value) == (
        f"--filter: {name!r}: no such filter, expected a folder with a config.yaml, or one of: "
        "other/v2, shipped/v1, shipped/v2, topic/v1"
    )


def test_a_name_of_no_own_filter_is_that_of_one_that_comes_with_the_trainer(filters_root: Path, shipped: Path) -> None:
    found = find_filter("shipped")

    assert found == shipped / "shipped" / "v2"
    assert is_shipped(found)


def test_an_own_filter_comes_before_one_of_its_name_that_comes_with_the_trainer(
    filters_root: Path, shipped: Path
) -> None:
    own = put(filters_root, "shipped", "v1")

    assert find_filter("shipped") == own
    assert not is_shipped(own)
    assert find_filter("shipped/v2") == shipped / "shipped" / "v2"


def test_filters_that_come_with_the_trainer_are_those_of_the_repository(filters_root: Path, repository: Path) -> None:
    assert shipped_root() == repository / "filters"
    assert load_filter(find_filter("sustainability_technology")).name == "sustainability_technology"


def test_a_new_filter_does_not_take_the_name_of_one_that_comes_with_the_trainer(
    filters_root: Path, shipped: Path
) -> None:
    with pytest.raises(InputError, match="comes with the trainer"):
        init_filter("shipped")


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (("examples/a.jsonl",), ("examples/a.jsonl",)),
        (("examples/a.jsonl", "examples/b.jsonl"), ("examples/a.jsonl", "examples/b.jsonl")),
        (("labels.jsonl", "examples/a.jsonl"), ("labels.jsonl",)),
    ],
)
def test_labels_default_to_those_that_were_made_and_else_to_the_examples(
    there: Sequence[str], found: Sequence[str], tmp_path: Path, spec: FilterSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").mkdir()
    for name in there:
        (tmp_path / name).touch()

    assert find_labels(tmp_path, spec) == [tmp_path / name for name in found]


def test_labels_of_the_working_folder_come_before_examples(
    tmp_path: Path, spec: FilterSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, name in (("labels", f"{spec.label}.jsonl"), ("filter/examples", "a.jsonl")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).touch()

    assert find_labels(tmp_path / "filter", spec) == [Path("labels") / f"{spec.label}.jsonl"]


def test_a_filter_with_neither_labels_nor_examples_is_refused(
    tmp_path: Path, spec: FilterSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError, match="not given"):
        find_labels(tmp_path, spec)


def test_without_any_filter_the_message_says_none(
    filters_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "_PACKAGE", tmp_path)

    with pytest.raises(InputError, match="or one of: none"):
        find_filter("topic")


def test_filters_live_in_the_working_folder_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISTILLERY_FILTERS", raising=False)

    assert filters_root() == Path("filters")


def test_all_versions_of_all_filters_are_listed(filters_root: Path) -> None:
    folders = [put(filters_root, name, version) for name, version in (("a", "v1"), ("a", "v2"), ("b", "v1"))]

    assert all_filters() == folders


def test_a_config_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read_config(tmp_path)

    assert error.value.where == str(tmp_path / "config.yaml")


def test_loading_an_invalid_filter_lists_every_problem(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("schema_version: 1\nname: Topic\nversion: 0\n")

    with pytest.raises(SpecError) as error:
        load_filter(tmp_path)

    paths = {problem.path for problem in error.value.problems}
    assert {"name", "version", "summary", "dimensions", "tiers", "operating_tier", "oracle"} <= paths
