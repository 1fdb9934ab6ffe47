"""A bundle may share graphs and tokenizers with bundles beside it: checked as its own files are, or refused."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from distillery_runtime import BundleError, load
from distillery_runtime.bundles.load import open_bundle, open_stages
from distillery_runtime.cli.main import main as distillery
from distillery_runtime.format.manifest import Manifest, parse_manifest, seal

TOKENIZER = "probe/tokenizer.json"
GRAPH = "student/cpu-fp32.onnx"
SHARED = (TOKENIZER, "probe/encoder.onnx", "probe/head.onnx", GRAPH)
ARTICLE = {"id": "1", "title": "Wind", "text": "the wind and the sun"}


def manifest_of(bundle: Path) -> Manifest:
    return parse_manifest((bundle / "bundle.json").read_bytes(), "bundle.json")


def share(bundle: Path, *names: str) -> list[Path]:
    """Moves files of a bundle into the folder beside it, and gives their new places."""
    folder = bundle.parent / "shared"
    folder.mkdir(exist_ok=True)
    places = []
    for name in names:
        digest = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
        ending = ".tokenizer.json" if name.endswith("tokenizer.json") else Path(name).suffix
        places.append((bundle / name).rename(folder / f"{digest}{ending}"))
    return places


@pytest.fixture
def whole(bundle: Path, tmp_path: Path) -> Path:
    """The bundle as it was, elsewhere."""
    return Path(shutil.copytree(bundle, tmp_path / "elsewhere" / "whole"))


def test_a_bundle_that_shares_files_is_the_same_bundle_and_answers_alike(bundle: Path, whole: Path) -> None:
    share(bundle, *SHARED)

    shared, alone = load(bundle), load(whole)

    assert shared.bundle == alone.bundle
    assert shared.score(ARTICLE) == alone.score(ARTICLE)


def test_one_file_serves_two_stages_and_two_bundles(bundle: Path, whole: Path) -> None:
    second = Path(shutil.copytree(bundle, bundle.with_name("second")))
    for folder in (bundle, second):
        share(folder, TOKENIZER, "student/tokenizer.json")

    answers = [load(folder).score(ARTICLE) for folder in (bundle, second)]

    assert answers == [load(whole).score(ARTICLE)] * 2
    assert len(list((bundle.parent / "shared").iterdir())) == 1


def test_what_else_lies_in_the_shared_folder_does_not_matter(bundle: Path) -> None:
    share(bundle, GRAPH)
    (bundle.parent / "shared" / "of-another-bundle.onnx").write_bytes(b"x")

    assert load(bundle).score(ARTICLE).status == "scored"


def test_a_file_in_the_bundles_own_folder_comes_first(bundle: Path) -> None:
    whole = (bundle / GRAPH).read_bytes()
    (place,) = share(bundle, GRAPH)
    place.write_bytes(b"damaged")
    (bundle / GRAPH).write_bytes(whole)
    assert load(bundle).score(ARTICLE).status == "scored"

    place.write_bytes(whole)
    (bundle / GRAPH).write_bytes(b"damaged")

    with pytest.raises(BundleError, match=f"{GRAPH}: 7 bytes"):
        load(bundle)


@pytest.mark.parametrize("name", SHARED)
def test_a_missing_shared_file_is_refused_with_both_places(bundle: Path, name: str) -> None:
    (place,) = share(bundle, name)
    place.unlink()

    with pytest.raises(BundleError, match=rf"{name}: not in .*\.\./shared/{place.name}"):
        load(bundle)


def test_a_bundle_without_the_folder_beside_it_is_refused(bundle: Path, tmp_path: Path) -> None:
    share(bundle, *SHARED)
    (tmp_path / "taken_out").mkdir()
    alone = bundle.rename(tmp_path / "taken_out" / "bundle")

    with pytest.raises(BundleError, match="needs the folder `shared`"):
        load(alone)


@pytest.mark.parametrize("name", SHARED)
def test_one_other_byte_or_another_size_of_a_shared_file_is_refused(bundle: Path, name: str) -> None:
    (place,) = share(bundle, name)
    data = place.read_bytes()
    for changed in (bytes([data[0] ^ 1]) + data[1:], data[:-1], data + b"\n", b""):
        place.write_bytes(changed)

        with pytest.raises(BundleError, match=rf"{name}: \.\./shared/{place.name}"):
            load(bundle)


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_a_shared_file_that_is_no_plain_file_is_refused(bundle: Path, tmp_path: Path, name: str, what: str) -> None:
    (place,) = share(bundle, name)
    moved = place.rename(tmp_path / "moved")
    if what == "link":
        place.symlink_to(moved)
    elif what == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()

    with pytest.raises(BundleError, match="not a plain file"):
        load(bundle)


def test_a_link_in_place_of_the_shared_folder_is_refused(bundle: Path, tmp_path: Path) -> None:
    share(bundle, GRAPH)
    folder = (bundle.parent / "shared").rename(tmp_path / "moved")
    (bundle.parent / "shared").symlink_to(folder)

    with pytest.raises(BundleError, match=r"\.\./shared is a symbolic link"):
        load(bundle)


@pytest.mark.parametrize("name", ["filter.json", "calibration.json", "golden.jsonl", "quality.json", "README.md"])
def test_what_is_a_bundles_own_is_not_looked_for_elsewhere(bundle: Path, name: str) -> None:
    share(bundle, name)

    with pytest.raises(BundleError, match=f"{name}: cannot be read"):
        load(bundle)


def test_a_shared_graph_with_a_data_file_is_refused(bundle: Path) -> None:
    """Such a graph names a file beside it, and in the shared folder files have other names."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bundle / GRAPH)
    data = Path(f"{GRAPH}.data")
    onnx.save(model, bundle / GRAPH, save_as_external_data=True, location=data.name, size_threshold=100)
    list_files(bundle, data)
    assert load(bundle).score(ARTICLE).status == "scored"

    share(bundle, GRAPH)

    with pytest.raises(BundleError, match="weights are in a data file"):
        load(bundle)


def list_files(bundle: Path, data: Path) -> None:
    """Seals the bundle with its files as they are now and one data file more."""
    manifest = manifest_of(bundle)
    template = manifest.files[0]
    entries = [*manifest.files, template.model_copy(update={"path": data.as_posix(), "role": "weights"})]

    def stated() -> Iterator[object]:
        for entry in entries:
            content = (bundle / entry.path).read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            yield entry.model_copy(update={"size_bytes": len(content), "sha256": digest})

    (bundle / "bundle.json").write_bytes(seal(manifest.model_copy(update={"files": tuple(stated())})))


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_file_that_changes_after_the_check_is_refused(bundle: Path, name: str) -> None:
    (place,) = share(bundle, name)
    checked = open_bundle(bundle)
    place.write_bytes(place.read_bytes() + b"\n")

    with pytest.raises(BundleError, match="changed while the bundle was loaded"):
        open_stages(checked, "cpu", 1)


def test_a_file_that_appears_in_the_own_folder_after_the_check_is_not_opened(bundle: Path) -> None:
    share(bundle, GRAPH)
    checked = open_bundle(bundle)
    (bundle / GRAPH).write_bytes(b"not a graph")

    assert len(open_stages(checked, "cpu", 1)) == 2


def test_commands_read_a_bundle_that_shares_files(
    bundle: Path, no_child: None, capsys: pytest.CaptureFixture[str]
) -> None:
    share(bundle, *SHARED)

    assert distillery(["verify", str(bundle)]) == 0
    assert distillery(["inspect", str(bundle)]) == 0

    assert capsys.readouterr().out.count("/shared)") == len(SHARED)
