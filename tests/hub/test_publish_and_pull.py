"""Bundles go to a Hub and come back: the same bytes, pinned, or not at all."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distillery_exporter.cli import main as exporter
from distillery_exporter.share import share
from distillery_runtime.bundles.load import open_bundle
from distillery_runtime.cli.main import main as distillery
from distillery_runtime.format.manifest import seal
from distillery_trainer.cli.main import main as trainer

Hub = Any  # the conftest's State, which cannot be imported from here

REPOSITORY = "owner/tiny"
MANY = "many/levels/of/names"


@pytest.fixture(autouse=True)
def _child_only_where_asked_for(request: pytest.FixtureRequest) -> None:
    """The first test is the one of publishing and pulling as a user does."""
    if request.node.name != "test_what_is_pulled_is_what_was_published":
        request.getfixturevalue("no_child")


@pytest.fixture
def commit(hub: Hub, bundle: Path) -> str:
    """The fixture bundle on the Hub; its commit."""
    found: str = hub.store(REPOSITORY, everything(bundle))
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damage(hub: Hub, commit: str, name: str) -> None:
    """One other byte in a file on the server."""
    files = hub.repositories[REPOSITORY].commits[commit]
    files[name] = bytes([files[name][0] ^ 1]) + files[name][1:]


def test_what_is_pulled_is_what_was_published(
    hub: Hub, writer: None, bundle: Path, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert exporter(["publish", str(bundle), REPOSITORY]) == 0
    commit = capfd.readouterr().out.strip()

    assert distillery(["pull", REPOSITORY]) == 0

    found = open_bundle(bundle)
    pulled = place / "bundles" / found.spec.label
    assert everything(pulled) == everything(bundle)
    assert list((place / "bundles").iterdir()) == [pulled]
    assert capfd.readouterr().out.splitlines() == [
        f"bundles/{found.spec.label}: id {found.id}",
        f"pinned: distillery pull {REPOSITORY}@{commit} --expected-id {found.id}",
    ]


def test_a_bundle_of_a_set_is_published_whole(
    hub: Hub, writer: None, bundle: Path, place: Path, tmp_path: Path
) -> None:
    (made,) = share([bundle], tmp_path / "set")
    assert exporter(["publish", str(made.folder), REPOSITORY]) == 0

    assert distillery(["pull", REPOSITORY, "--out", "pulled"]) == 0

    assert made.files.shared
    assert everything(place / "pulled") == everything(bundle)


def test_publishing_prints_the_commit_and_never_the_token(
    hub: Hub, writer: None, bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert exporter(["publish", str(bundle), REPOSITORY, "--message", "First"]) == 0

    printed = capfd.readouterr()
    repository = hub.repositories[REPOSITORY]
    assert printed.out.strip() == repository.branches["main"]
    assert repository.messages[-1] == "First"
    assert "is sound" in printed.err
    assert f"{REPOSITORY}@{repository.branches['main']} --expected-id {open_bundle(bundle).id}" in printed.err
    assert os.environ["HF_TOKEN"] not in printed.out + printed.err


def test_the_trainer_names_the_command_that_publishes(capfd: pytest.CaptureFixture[str]) -> None:
    assert trainer(["publish", "bundles/my topic", REPOSITORY, "--private"]) == 2

    assert "exporter publish 'bundles/my topic' owner/tiny --private" in capfd.readouterr().err


def test_a_bundle_is_one_commit_and_the_same_bundle_none(hub: Hub, writer: None, bundle: Path) -> None:
    for _ in range(2):
        assert exporter(["publish", str(bundle), REPOSITORY]) == 0

    assert hub.repositories[REPOSITORY].messages == ["initial commit", f"Bundle {open_bundle(bundle).name}"]


def test_a_bundle_takes_the_place_of_another_in_the_branch(hub: Hub, writer: None, bundle: Path) -> None:
    hub.store(REPOSITORY, {"README.md": b"another card", "old.onnx": b"of another bundle"})

    assert exporter(["publish", str(bundle), REPOSITORY]) == 0

    repository = hub.repositories[REPOSITORY]
    assert set(repository.commits[repository.branches["main"]]) == {".gitattributes", *everything(bundle)}


def test_a_branch_is_made_and_pulled_by_name_and_main_stays(hub: Hub, writer: None, bundle: Path, place: Path) -> None:
    assert exporter(["publish", str(bundle), REPOSITORY, "--revision", "tried"]) == 0

    assert distillery(["pull", f"{REPOSITORY}@tried", "--out", "mine"]) == 0

    repository = hub.repositories[REPOSITORY]
    assert everything(place / "mine") == everything(bundle)
    assert set(repository.commits[repository.branches["main"]]) == {".gitattributes"}


def test_a_commit_stays_what_it_was_when_its_branch_moves(hub: Hub, commit: str, bundle: Path, place: Path) -> None:
    hub.repositories[REPOSITORY].commit("main", {"bundle.json": b"{}"}, "moved")

    assert distillery(["pull", f"{REPOSITORY}@{commit}", "--out", "mine"]) == 0

    assert open_bundle(place / "mine").id == open_bundle(bundle).id


def test_a_damaged_bundle_is_not_published(hub: Hub, writer: None, bundle: Path) -> None:
    (bundle / "README.md").write_text("edited", encoding="utf-8")

    assert exporter(["publish", str(bundle), REPOSITORY]) == 2

    assert hub.repositories == {}
    assert hub.seen == []


def test_a_bundle_that_answers_otherwise_than_it_should_is_not_published(hub: Hub, writer: None, bundle: Path) -> None:
    goldens = [json.loads(line) for line in (bundle / "golden.jsonl").read_text(encoding="utf-8").splitlines()]
    answer = goldens[0]["expected"]["student"]["cpu-fp32"]
    answer["raw"] = [value + 1 for value in answer["raw"]]
    reseal(bundle, "golden", "".join(json.dumps(golden) + "\n" for golden in goldens).encode())

    assert exporter(["publish", str(bundle), REPOSITORY]) == 2

    assert hub.seen == []


def test_without_a_token_nothing_is_sent(hub: Hub, bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert exporter(["publish", str(bundle), REPOSITORY]) == 2

    assert "HF_TOKEN: not set" in capfd.readouterr().err
    assert hub.seen == []


def test_a_token_that_may_not_write_is_named_but_not_shown(
    hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_a_token_that_may_read")

    assert exporter(["publish", str(bundle), REPOSITORY]) == 2

    message = capfd.readouterr().err
    assert "HF_TOKEN" in message
    assert "hf_a_token" not in message


def test_a_card_that_the_hub_refuses_is_said(
    hub: Hub, writer: None, bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reseal(bundle, content=b"---\ntags: [\n---\n")

    assert exporter(["publish", str(bundle), REPOSITORY]) == 2

    assert "Invalid metadata in README.md" in capfd.readouterr().err


def test_private_is_never_public(
    hub: Hub, writer: None, commit: str, bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert exporter(["publish", str(bundle), REPOSITORY, "--private"]) == 2

    assert "a public repository" in capfd.readouterr().err


def test_a_private_repository_opens_to_its_token_alone(
    hub: Hub, writer: None, bundle: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    assert exporter(["publish", str(bundle), "owner/secret", "--private"]) == 0
    assert distillery(["pull", "owner/secret", "--out", "mine"]) == 0
    monkeypatch.delenv("HF_TOKEN")

    assert distillery(["pull", "owner/secret", "--out", "yours"]) == 2

    assert "no such public repository, expected another spelling; if it is private" in capfd.readouterr().err


def test_another_bundle_than_the_expected_one_is_refused_before_it_is_fetched(
    hub: Hub, commit: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert distillery(["pull", REPOSITORY, "--expected-id", "0" * 64]) == 2

    assert f"expected {'0' * 64}" in capfd.readouterr().err
    assert hub.fetched() == ["bundle.json"]
    assert everything(place) == {}


@pytest.mark.parametrize("name", ["bundle.json", "README.md", "student/cpu-fp32.onnx"])
def test_a_file_that_was_damaged_on_the_server_leaves_nothing_behind(
    hub: Hub, commit: str, place: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    damage(hub, commit, name)

    assert distillery(["pull", REPOSITORY]) == 2

    assert name in capfd.readouterr().err
    assert everything(place) == {}


def test_a_file_that_the_bundle_does_not_list_is_not_fetched(hub: Hub, commit: str, place: Path) -> None:
    hub.repositories[REPOSITORY].commits[commit]["setup.py"] = b"import os"

    assert distillery(["pull", REPOSITORY, "--out", "mine"]) == 0

    assert "setup.py" not in hub.fetched()


def test_a_file_that_is_missing_on_the_server_is_an_error_of_the_repository(
    hub: Hub, commit: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    del hub.repositories[REPOSITORY].commits[commit]["golden.jsonl"]

    assert distillery(["pull", REPOSITORY]) == 2

    assert "a file of the bundle is missing" in capfd.readouterr().err
    assert everything(place) == {}


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("owner/unknown", "no such public repository"),
        (f"{REPOSITORY}@v9", "no revision 'v9'"),
        (MANY, "not a Hub id"),
    ],
)
def test_what_is_not_on_the_hub_is_named(
    hub: Hub, commit: str, place: Path, reference: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert distillery(["pull", reference]) == 2

    assert words in capfd.readouterr().err
    assert everything(place) == {}


def test_a_hub_out_of_reach_is_said_in_one_line(
    hub: Hub, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")

    assert distillery(["pull", REPOSITORY]) == 2

    assert capfd.readouterr().err.startswith(f"{REPOSITORY}: the Hub does not answer as it should (ConnectError: ")


def test_offline_is_said(
    hub: Hub, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    assert distillery(["pull", REPOSITORY]) == 2

    assert capfd.readouterr().err.strip() == f"{REPOSITORY}: HF_HUB_OFFLINE is set, expected it unset for the Hub"


def test_without_the_extra_its_name_is_said(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in [n for n in sys.modules if n.startswith("distillery_runtime.bundles.hub")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)

    assert distillery(["pull", REPOSITORY]) == 2

    assert "pip install 'distillery-runtime[hub]'" in capfd.readouterr().err


def test_the_same_bundle_is_not_fetched_again(hub: Hub, commit: str, place: Path) -> None:
    assert distillery(["pull", REPOSITORY, "--out", "mine"]) == 0
    before = everything(place)
    hub.seen.clear()

    assert distillery(["pull", REPOSITORY, "--out", "mine"]) == 0

    assert hub.fetched() == ["bundle.json"]
    assert everything(place) == before


@pytest.mark.parametrize("there", ["a thesis", "another bundle"])
def test_what_is_at_the_place_is_never_replaced(
    hub: Hub, commit: str, place: Path, there: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if there == "a thesis":
        (place / "mine").mkdir()
        (place / "mine" / "thesis.txt").write_text("keep", encoding="utf-8")
    else:
        assert distillery(["pull", REPOSITORY, "--out", "mine"]) == 0
        reseal(place / "mine")
    before = everything(place)

    assert distillery(["pull", REPOSITORY, "--out", "mine"]) == 2

    assert "a new name" in capfd.readouterr().err
    assert everything(place) == before


def reseal(folder: Path, role: str = "card", content: bytes = b"Another card.") -> None:
    """Makes another bundle of it: with one other file, and sealed again."""
    manifest = open_bundle(folder).manifest
    changed = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    files = tuple(entry.model_copy(update=changed if entry.role == role else {}) for entry in manifest.files)
    (folder / manifest.path_of(role)).write_bytes(content)
    (folder / "bundle.json").write_bytes(seal(manifest.model_copy(update={"files": files})))


def test_a_killed_pull_leaves_no_bundle_and_goes_on_when_repeated(
    hub: Hub, commit: str, bundle: Path, place: Path
) -> None:
    hub.stops_at = "student/cpu-fp32.onnx"
    hub.seen.clear()
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = {**kept, "HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "distillery_runtime", "pull", REPOSITORY, "--out", "mine"]
    with subprocess.Popen(command, env=environment, cwd=place, stderr=subprocess.DEVNULL) as process:
        assert hub.stopped.wait(30)
        process.kill()
    before = hub.fetched()
    hub.stops_at = None
    hub.goes_on.set()
    hub.seen.clear()

    assert not (place / "mine").exists()
    assert distillery(["pull", REPOSITORY, "--out", "mine"]) == 0

    assert everything(place / "mine") == everything(bundle)
    assert list(place.iterdir()) == [place / "mine"]
    assert set(before) & set(hub.fetched()) == {"student/cpu-fp32.onnx"}
    assert hashlib.sha256((place / "mine" / "bundle.json").read_bytes()).hexdigest() == open_bundle(bundle).id
