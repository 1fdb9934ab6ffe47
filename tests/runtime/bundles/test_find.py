"""Bundles found by the names of their filters, and the starter's, of which one stands for all where one is wanted."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distillery_runtime import BundleError, InputError, load, load_panel
from distillery_runtime.bundles.find import STARTER_PACKAGE, find_bundle, find_bundles, starter_bundles
from distillery_runtime.bundles.load import open_bundle
from distillery_runtime.cli.main import main as distillery
from distillery_runtime.format.integrity import read_manifest
from distillery_runtime.format.manifest import FileEntry, FilterEntry, seal

Make = Callable[..., Path]
ARTICLE = {"id": "1", "title": "Wind", "text": "the wind and the sun"}


@pytest.fixture
def make(bundle: Path) -> Make:
    """Makes the fixture bundle one of another filter, at a place."""

    def made(place: Path, name: str, version: int = 1) -> Path:
        folder = Path(shutil.copytree(bundle, place / f"{name}-{version}"))
        spec = open_bundle(folder).spec.model_copy(update={"name": name, "version": version})
        data = spec.model_dump_json().encode()
        (folder / "filter.json").write_bytes(data)
        manifest = read_manifest(folder)[0]
        files = tuple(_stated(entry, folder) for entry in manifest.files)
        change = {"filter": FilterEntry(name=name, version=version), "files": files}
        (folder / "bundle.json").write_bytes(seal(manifest.model_copy(update=change)))
        return folder

    return made


def _stated(entry: FileEntry, folder: Path) -> FileEntry:
    from distillery_runtime.format.integrity import file_digest

    size, digest = file_digest(folder / entry.path)
    return entry.model_copy(update={"size_bytes": size, "sha256": digest})


@pytest.fixture
def starter(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed starter of three filters, the second by name of which is the first."""
    package = tmp_path / "site" / STARTER_PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for name, version in (("apples", 4), ("books", 12), ("cars", 1)):
        make(package, name, version)
    write_first(package, "books")
    monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])
    monkeypatch.delenv("DISTILLERY_BUNDLE", raising=False)
    monkeypatch.chdir(tmp_path)
    return package


def write_first(package: Path, name: str) -> None:
    (package / "starter.json").write_text(json.dumps({"schema_version": 1, "first": name}), encoding="utf-8")


@pytest.fixture
def articles(tmp_path: Path) -> Path:
    path = tmp_path / "articles.jsonl"
    path.write_text(json.dumps(ARTICLE) + "\n", encoding="utf-8")
    return path


def test_the_starters_first_bundle_is_used_alone_and_the_others_follow_by_name(starter: Path) -> None:
    assert find_bundle(None) == starter / "books-12"
    assert [folder.name for folder in starter_bundles()] == ["books-12", "apples-4", "cars-1"]


def test_a_panel_without_paths_is_all_of_the_starter(starter: Path) -> None:
    panel = load_panel()

    assert panel.score(ARTICLE) == tuple(load(folder).score(ARTICLE) for folder in starter_bundles())


def test_without_filters_results_keep_their_shape_and_with_them_there_is_one_for_each(
    starter: Path, articles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for words in ((), ("--filters", "all"), ("--filters", "cars,books")):
        assert distillery(["score", str(articles), *words]) == 0
        found[words] = [json.loads(line)["bundle"].split("@")[0] for line in capsys.readouterr().out.splitlines()]

    assert [*found.values()] == [["books-12"], ["books-12", "apples-4", "cars-1"], ["cars-1", "books-12"]]


def test_bundles_of_ones_own_come_before_the_starters(starter: Path, make: Make, tmp_path: Path) -> None:
    own = [make(tmp_path / "bundles", name) for name in ("news", "sport")]

    found = find_bundles(["all"])

    assert [folder.resolve() for folder in found] == own
    with pytest.raises(InputError, match="books: bundles found: none"):
        find_bundles(["books"])


def test_a_filter_of_two_versions_is_named_with_its_version(starter: Path, make: Make, tmp_path: Path) -> None:
    for version in (1, 2):
        make(tmp_path / "bundles", "news", version)

    with pytest.raises(InputError, match="NAME-VERSION"):
        find_bundles(["news"])

    assert [folder.name for folder in find_bundles(["news-2"])] == ["news-2"]


def test_filters_that_are_not_there_are_all_named(starter: Path) -> None:
    with pytest.raises(InputError) as caught:
        find_bundles(["books", "boats", "trains"])

    assert [problem.path for problem in caught.value.problems] == ["boats", "trains"]


def test_filters_and_bundles_are_not_given_together(starter: Path, articles: Path) -> None:
    with pytest.raises(SystemExit):
        distillery(["score", str(articles), "--filters", "all", "--bundle", str(starter / "cars-1")])


def test_without_bundles_and_starter_filters_are_refused(
    tmp_path: Path, articles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not (Path(p) / STARTER_PACKAGE).is_dir()])

    with pytest.raises(InputError, match="starter"):
        load_panel()

    assert distillery(["score", str(articles), "--filters", "all"]) == 2


@pytest.mark.parametrize(
    "content",
    ['{"schema_version": 1, "first": "boats"}', '{"schema_version": 2, "first": "books"}', '{"first": 1}', "[", ""],
)
def test_a_starter_file_that_does_not_fit_is_refused(starter: Path, content: str) -> None:
    (starter / "starter.json").write_text(content, encoding="utf-8")

    with pytest.raises(BundleError, match=r"starter\.json"):
        starter_bundles()
