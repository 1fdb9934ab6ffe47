"""A set of bundles: what they have in common once, and each of them the bundle that it was."""

import shutil
from pathlib import Path

import pytest

from distillery_exporter.bundle.writer import write_manifest
from distillery_exporter.cli import main as exporter
from distillery_exporter.share import share, size_bytes
from distillery_runtime import BundleError, InputError, load, load_panel
from distillery_runtime.bundles.load import open_bundle
from distillery_runtime.format.integrity import read_manifest
from distillery_runtime.spec.model import FilterSpec

ARTICLES = [{"id": str(i), "title": "Wind", "text": text} for i, text in enumerate(["the solar grid", "a ferry", ""])]


@pytest.fixture
def bundle(repository: Path, tmp_path: Path) -> Path:
    """A copy of the fixture bundle of format 2."""
    return Path(shutil.copytree(repository / "tests" / "fixtures" / "bundle-v2", tmp_path / "bundle"))


@pytest.fixture
def sibling(bundle: Path, tmp_path: Path) -> Path:
    """Another filter's bundle, with the fixture's models."""
    folder = Path(shutil.copytree(bundle, tmp_path / "sibling"))
    made = open_bundle(folder)
    spec = made.spec.model_copy(update={"name": "sibling"})
    (folder / "filter.json").write_text(spec.model_dump_json(indent=1), encoding="utf-8")
    reseal(folder, spec)
    return folder


def reseal(folder: Path, spec: FilterSpec) -> None:
    """Lists a bundle's files as they are now."""
    manifest = read_manifest(folder)[0]
    assert manifest.selection is not None
    (folder / "bundle.json").unlink()
    write_manifest(folder, spec, manifest.stages, manifest.selection, {"oracle": "none"})


def test_each_bundle_of_a_set_is_the_bundle_that_it_was(bundle: Path, sibling: Path, tmp_path: Path) -> None:
    alone = [load(folder) for folder in (bundle, sibling)]

    found = share([bundle, sibling], tmp_path / "set")

    panel = load_panel([made.folder for made in found])
    assert [scorer.bundle for scorer in panel.scorers] == [scorer.bundle for scorer in alone]
    assert panel.score_batch(ARTICLES) == [tuple(scorer.score(article) for scorer in alone) for article in ARTICLES]


def test_what_bundles_have_in_common_is_there_once(bundle: Path, sibling: Path, tmp_path: Path) -> None:
    before = sum(path.stat().st_size for folder in (bundle, sibling) for path in folder.rglob("*") if path.is_file())

    found = share([bundle, sibling], tmp_path / "set")

    files = [path for path in (tmp_path / "set").rglob("*") if path.is_file()]
    models = [path for path in files if path.suffix == ".onnx" or path.name == "tokenizer.json"]
    assert {path.parent.name for path in models} == {"shared"}
    assert sum(path.stat().st_size for path in files) == size_bytes(found) < before


def test_every_bundle_of_a_set_opens_without_the_others(bundle: Path, sibling: Path, tmp_path: Path) -> None:
    found = share([bundle, sibling], tmp_path / "set")

    shutil.rmtree(found[0].folder)

    assert load(found[1].folder).score(ARTICLES[0]).status == "scored"


def test_a_bundle_can_be_added_to_a_set(bundle: Path, sibling: Path, tmp_path: Path) -> None:
    (first,) = share([bundle], tmp_path / "set")
    shared = share([bundle, sibling], tmp_path / "both")[1].files.shared
    alone = set(first.files.shared)

    (second,) = share([sibling], tmp_path / "set")

    assert alone == {"probe/tokenizer.json", "student/tokenizer.json"}
    assert alone <= set(second.files.shared) <= set(shared)
    assert load(first.folder).score(ARTICLES[0]).status == "scored"


def test_a_set_can_be_made_of_a_set(bundle: Path, sibling: Path, tmp_path: Path) -> None:
    first = share([bundle, sibling], tmp_path / "set")

    second = share([made.folder for made in first], tmp_path / "again")

    names = [sorted(p.relative_to(s) for p in s.rglob("*")) for s in (tmp_path / "set", tmp_path / "again")]
    assert names[0] == names[1]
    assert [made.id for made in second] == [made.id for made in first]


def test_two_bundles_of_one_filter_and_version_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 bundles"):
        share([bundle, bundle], tmp_path / "set")

    assert not (tmp_path / "set").exists()


def test_a_damaged_bundle_makes_no_set(bundle: Path, sibling: Path, tmp_path: Path) -> None:
    (sibling / "README.md").write_text("another card", encoding="utf-8")

    with pytest.raises(BundleError, match=r"README\.md"):
        share([bundle, sibling], tmp_path / "set")

    assert not (tmp_path / "set").exists()


def test_a_bundle_that_does_not_load_makes_no_set(bundle: Path, sibling: Path, tmp_path: Path) -> None:
    """Sound by its manifest, but it answers otherwise than its golden articles say."""
    made = open_bundle(sibling)
    lines = (sibling / "golden.jsonl").read_text(encoding="utf-8").replace('"tokens":', '"tokens":1')
    (sibling / "golden.jsonl").write_text(lines, encoding="utf-8")
    reseal(sibling, made.spec)

    with pytest.raises(BundleError, match="self-test"):
        share([bundle, sibling], tmp_path / "set")

    assert [path.name for path in (tmp_path / "set").iterdir()] == ["shared"]


def test_another_folder_in_a_bundles_new_place_is_not_replaced(bundle: Path, tmp_path: Path) -> None:
    mine = tmp_path / "set" / "fixture-1" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep", encoding="utf-8")

    assert exporter(["share", str(bundle), "--out", str(tmp_path / "set")]) == 2

    assert mine.read_text(encoding="utf-8") == "keep"


def test_the_command_says_what_was_saved(
    bundle: Path, sibling: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exporter(["share", str(bundle), str(sibling), "--out", str(tmp_path / "set")]) == 0

    assert "shares 6 files" in capsys.readouterr().out
