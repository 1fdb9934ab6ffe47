"""A Hub that lies, floods or dawdles: nothing outside of the place is touched, little is fetched, and it ends."""

from pathlib import Path
from typing import Any

import pytest

from distillery_runtime.cli.main import main as distillery

Hub = Any  # the conftest's State, which cannot be imported from here

REPOSITORY = "owner/tiny"


@pytest.fixture(autouse=True)
def _child_only_where_asked_for(request: pytest.FixtureRequest) -> None:
    if request.node.name != "test_a_bundle_that_hangs_its_libraries_does_not_get_its_place":
        request.getfixturevalue("no_child")


@pytest.fixture
def commit(hub: Hub, bundle: Path) -> str:
    """The fixture bundle on the Hub; its commit."""
    files = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    found: str = hub.store(REPOSITORY, files)
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, in another that must stay empty but for it."""
    folder = tmp_path / "around" / "place"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def left_behind(place: Path) -> list[Path]:
    return [path for path in place.parent.rglob("*") if path != place and path.is_file()]


@pytest.mark.parametrize(
    "sha",
    ["/../../../zz", "..", "", "main", "a" * 39, "A" * 40, "a" * 40 + "\n", "0" * 12 + "/../../zz", 7, None, ["a"]],
)
def test_a_commit_that_is_no_hash_is_refused_and_makes_no_folder(
    hub: Hub, commit: str, place: Path, sha: object, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.sha = sha if sha is not None else {}

    assert distillery(["pull", REPOSITORY]) == 2

    assert "expected 40 hex digits" in capfd.readouterr().err
    assert list(place.parent.rglob("*")) == [place]


def test_another_commit_than_the_one_asked_for_is_refused(
    hub: Hub, commit: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.sha = "a" * 40

    assert distillery(["pull", f"{REPOSITORY}@{commit}"]) == 2

    assert f"expected {commit}" in capfd.readouterr().err


@pytest.mark.parametrize(
    "reference", ["../zz", "owner/../zz", "owner/..", "/etc/passwd", "owner/na/me", "owner/name\n"]
)
def test_a_reference_that_leaves_its_place_is_refused(hub: Hub, place: Path, reference: str) -> None:
    assert distillery(["pull", reference]) == 2

    assert list(place.parent.rglob("*")) == [place]


def test_a_manifest_beyond_its_limit_is_not_fetched(hub: Hub, commit: str, place: Path) -> None:
    hub.repositories[REPOSITORY].commits[commit]["bundle.json"] = bytes(5 << 20)

    assert distillery(["pull", REPOSITORY]) == 2

    assert hub.fetched() == []
    assert left_behind(place) == []


def test_files_whose_sizes_are_not_the_manifests_are_not_fetched(hub: Hub, commit: str, place: Path) -> None:
    hub.sizes["student/cpu-fp32.onnx"] = 300_000_000

    assert distillery(["pull", REPOSITORY]) == 2

    assert hub.fetched() == ["bundle.json"]
    assert left_behind(place) == []


@pytest.mark.parametrize("name", ["bundle.json", "README.md", "student/cpu-fp32.onnx"])
def test_no_more_is_read_than_a_file_may_have_whatever_its_size_is_said_to_be(
    hub: Hub, commit: str, place: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server has a gigabyte of zeros to send."""
    hub.endless = name

    assert distillery(["pull", REPOSITORY]) == 2

    assert "sends more than" in capfd.readouterr().err
    assert hub.sent < 64 << 20  # the limit, and what sockets buffer
    assert left_behind(place) == []


@pytest.mark.parametrize("trickles", ["revision/main", "bundle.json", "student/cpu-fp32.onnx"])
def test_a_byte_now_and_then_is_not_waited_for_without_end(
    hub: Hub, commit: str, place: Path, trickles: str, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.trickles = trickles

    assert distillery(["pull", REPOSITORY, "--timeout-s", "1"]) == 2

    assert "--timeout-s" in capfd.readouterr().err
    assert not (place / "bundles" / "fixture-1").exists()


def test_a_pull_that_ran_out_of_time_goes_on_where_it_was(hub: Hub, commit: str, place: Path) -> None:
    hub.trickles = "student/cpu-fp32.onnx"
    assert distillery(["pull", REPOSITORY, "--out", "mine", "--timeout-s", "6"]) == 2  # for all before it
    hub.trickles = None
    hub.seen.clear()

    assert distillery(["pull", REPOSITORY, "--out", "mine"]) == 0

    assert hub.fetched()[0] == "student/cpu-fp32.onnx"
    assert "bundle.json" not in hub.fetched()
    assert [path.name for path in place.iterdir()] == ["mine"]


def test_a_line_that_breaks_again_and_again_is_taken_up_each_time(hub: Hub, commit: str, place: Path) -> None:
    hub.breaks_after = 1700

    assert distillery(["pull", REPOSITORY, "--out", "mine"]) == 0

    assert hub.fetched().count("student/cpu-fp32.onnx") == 3


def test_a_bundle_that_hangs_its_libraries_does_not_get_its_place(
    hub: Hub, commit: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("distillery_runtime.bundles.child.default_timeout_s", lambda size_bytes: 0.01)

    assert distillery(["pull", REPOSITORY, "--out", "mine"]) == 2

    assert "did not end within" in capfd.readouterr().err
    assert left_behind(place) == []
