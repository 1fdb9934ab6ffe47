"""Finding filters by name, version or path, and reading their configs."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillery_runtime.errors import InputError, SpecError
from distillery_trainer.filters.find import all_filters, filters_root, find_filter, load_filter, read_config


def put(root: Path, name: str, version: str) -> Path:
    folder = root / name / version
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: x\n")
    return folder


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
def test_an_unknown_filter_is_refused_with_a_list_of_those_known(filters_root: Path, name: str) -> None:
    put(filters_root, "topic", "v1")
    put(filters_root, "other", "v2")

    with pytest.raises(InputError) as error:
        find_filter(name)

    assert str(error.value) == (
        f"--filter: {name!r}: no such filter, expected a folder with a config.yaml, or one of: other/v2, topic/v1"
    )


def test_without_any_filter_the_message_says_none(filters_root: Path) -> None:
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
