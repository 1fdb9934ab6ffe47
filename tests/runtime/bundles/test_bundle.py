"""Bundles: nothing damaged, linked, unlisted or too new ever scores."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from distillery_runtime import BundleError, InputError, load
from distillery_runtime.format.manifest import Manifest, parse_manifest, seal

FILES = ("bundle.json", "filter.json", "calibration.json", "golden.jsonl", "quality.json", "reference.json",
         "README.md", "probe/tokenizer.json", "probe/encoder.onnx", "probe/head.onnx", "student/tokenizer.json",
         "student/cpu-fp32.onnx")  # fmt: skip


def rewrite(bundle: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Changes the manifest's content and seals it again, as someone with intent would."""
    content = json.loads((bundle / "bundle.json").read_bytes())
    change(content)
    data = json.dumps(content).encode()
    try:
        (bundle / "bundle.json").write_bytes(seal(Manifest.model_validate_json(data)))
    except ValueError:  # not a valid manifest: as it is
        (bundle / "bundle.json").write_bytes(data)


def test_an_untouched_bundle_loads(bundle: Path) -> None:
    assert load(bundle).bundle.startswith("fixture-1@")


@pytest.mark.parametrize("name", FILES)
def test_any_one_byte_changed_is_refused(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    generator = random.Random(name)
    for _ in range(12):
        place, bit = generator.randrange(len(data)), 1 << generator.randrange(8)
        data[place] ^= bit
        (bundle / name).write_bytes(data)

        with pytest.raises(BundleError):
            load(bundle)

        data[place] ^= bit


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(bundle: Path, name: str) -> None:
    (bundle / name).unlink()

    with pytest.raises(BundleError):
        load(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_or_longer_file_is_refused(bundle: Path, name: str) -> None:
    data = (bundle / name).read_bytes()
    for changed in (data[:-1], data + b"\n", b""):
        (bundle / name).write_bytes(changed)

        with pytest.raises(BundleError):
            load(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_symbolic_link_is_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(bundle / name, elsewhere)
    (bundle / name).symlink_to(elsewhere)

    with pytest.raises(BundleError, match="symbolic link"):
        load(bundle)


def linked_copy(bundle: Path, folder: Path) -> Path:
    """The bundle as installers and backups give it a second place: real folders, each file a second name."""
    return Path(shutil.copytree(bundle, folder, copy_function=os.link))


def test_hard_linked_bundles_load_and_so_do_their_originals(bundle: Path, tmp_path: Path) -> None:
    copies = [linked_copy(bundle, tmp_path / name) for name in ("cache", "backup")]

    for folder in (bundle, *copies):
        assert load(folder).bundle.startswith("fixture-1@")


@pytest.mark.parametrize("name", FILES)
def test_what_is_written_through_a_hard_link_is_found(bundle: Path, tmp_path: Path, name: str) -> None:
    copy = linked_copy(bundle, tmp_path / "copy")
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(bytes([data[0] ^ 1]) + data[1:])

    with pytest.raises(BundleError):
        load(bundle)


def test_a_bundle_in_a_read_only_store_with_one_old_time_loads(bundle: Path) -> None:
    for path in (*bundle.rglob("*"), bundle):
        os.utime(path, (1, 1))
        path.chmod(0o555 if path.is_dir() else 0o444)

    try:
        assert load(bundle).bundle.startswith("fixture-1@")
    finally:
        for path in (bundle, *bundle.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_bundle_behind_linked_folders_loads(bundle: Path, tmp_path: Path) -> None:
    """A profile or a release is often a link to a folder; what it points to is one bundle all the same."""
    (tmp_path / "profile").symlink_to(bundle.parent)
    (tmp_path / "current").symlink_to(tmp_path / "profile" / bundle.name)

    for folder in (tmp_path / "profile" / bundle.name, tmp_path / "current"):
        assert load(folder).bundle.startswith("fixture-1@")
        assert load(f"{folder}/").bundle.startswith("fixture-1@")


@pytest.mark.parametrize("target", ["nothing", "loop"])
def test_a_link_to_no_folder_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / target)

    with pytest.raises(BundleError, match="no such folder"):
        load(tmp_path / "loop")


def put_pipe(path: Path) -> None:
    os.mkfifo(path)


def put_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):  # a socket's path may have 100 bytes
        made.bind(path.name)


def put_device_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def put_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("put", [put_pipe, put_socket, put_device_link, put_folder])
@pytest.mark.parametrize("name", ["bundle.json", "filter.json", "student/cpu-fp32.onnx", "extra"])
def test_what_is_no_plain_file_is_refused_and_never_waited_for(
    bundle: Path, put: Callable[[Path], None], name: str
) -> None:
    (bundle / name).unlink(missing_ok=True)
    put(bundle / name)

    with pytest.raises(BundleError, match=r"plain file|not listed|without a listed file"):
        load(bundle)


@pytest.mark.parametrize("folders", ["empty", "probe/empty", "a/b/c"])
def test_a_folder_without_a_listed_file_is_refused(bundle: Path, folders: str) -> None:
    (bundle / folders).mkdir(parents=True)

    with pytest.raises(BundleError, match="a folder without a listed file"):
        load(bundle)


def test_a_linked_folder_is_refused(bundle: Path, tmp_path: Path) -> None:
    shutil.move(bundle / "probe", tmp_path / "probe")
    (bundle / "probe").symlink_to(tmp_path / "probe")

    with pytest.raises(BundleError, match="symbolic link"):
        load(bundle)


def test_an_unlisted_file_is_refused(bundle: Path) -> None:
    (bundle / "probe" / "extra.py").write_text("print('hello')", encoding="utf-8")

    with pytest.raises(BundleError, match="not listed"):
        load(bundle)


@pytest.mark.parametrize(
    "path", ["../outside.onnx", "/etc/passwd", "probe/../../x", "probe//head.onnx", "C:\\x", "probe\\head.onnx", "",
             ".", "./probe/head.onnx", "bundle.json", ".hidden", "probe/head.onnx\n"]
)  # fmt: skip
def test_a_path_that_leaves_the_folder_is_refused(bundle: Path, path: str) -> None:
    def change(content: dict[str, object]) -> None:
        content["files"][0]["path"] = path  # type: ignore[index]

    rewrite(bundle, change)

    with pytest.raises(BundleError):
        load(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(extra=1), "extra: an unknown key"),
        (lambda m: m["files"][0].update(mode="x"), r"files\[0\].mode: an unknown key"),
        (lambda m: m["files"][0].update(role="code"), r"files\[0\].role"),
        (lambda m: m.update(format_version=3), "format_version 3.*upgrade"),
        (lambda m: m.update(format_version=2), "chances and a selection in format 2"),
        (lambda m: m.update(format_version=999), "upgrade"),
        (lambda m: m.update(format_version="1"), "format_version"),
        (lambda m: m["stages"][-1].update(threshold=1.0), "no threshold on the last stage"),
        (lambda m: m["stages"][0].update(threshold=11.0), "threshold"),
        (lambda m: m["files"].append(m["files"][0]), "each file listed once"),
        (lambda m: m.update(stages=[]), "stages"),
        (lambda m: m["filter"].update(name="other"), "filter"),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_refused_with_its_name(
    bundle: Path, change: Callable[[dict[str, object]], None], message: str
) -> None:
    rewrite(bundle, change)

    with pytest.raises(BundleError, match=message):
        load(bundle)


def test_a_manifest_that_is_not_canonical_is_refused(bundle: Path) -> None:
    content = json.loads((bundle / "bundle.json").read_bytes())
    (bundle / "bundle.json").write_text(json.dumps(content), encoding="utf-8")

    with pytest.raises(BundleError, match="seal"):
        load(bundle)


def test_sealing_and_parsing_are_inverse(bundle: Path) -> None:
    data = (bundle / "bundle.json").read_bytes()

    assert seal(parse_manifest(data, "x")) == data


def test_a_resealed_bundle_with_other_weights_fails_its_golden_articles(bundle: Path) -> None:
    """The seal finds damage; the golden articles find a wrong model."""
    graph = bundle / "student" / "cpu-fp32.onnx"
    data = graph.read_bytes()
    place = data.index((4.0).hex().encode()) if (4.0).hex().encode() in data else data.rindex(b"\x00\x00\x80\x40")
    graph.write_bytes(data[:place] + b"\x00\x00\xa0\x40" + data[place + 4 :])

    def change(content: dict[str, object]) -> None:
        for entry in content["files"]:  # type: ignore[attr-defined]
            if entry["path"] == "student/cpu-fp32.onnx":
                entry["sha256"] = hashlib.sha256(graph.read_bytes()).hexdigest()

    rewrite(bundle, change)

    with pytest.raises(BundleError, match="self-test"):
        load(bundle)


def test_another_bundle_than_expected_is_refused(bundle: Path) -> None:
    full_id = hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()

    assert load(bundle, expected_id=full_id)
    assert load(bundle, expected_id=full_id.upper())
    with pytest.raises(BundleError, match=f"expected {'0' * 64}"):
        load(bundle, expected_id="0" * 64)


@pytest.mark.parametrize("digits", [0, 8, 12, 32, 63, 65])
def test_a_part_of_an_id_is_no_promise(bundle: Path, digits: int) -> None:
    full_id = hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()

    for wrong in ((full_id * 2)[:digits], "x" * 64, "0x" + full_id[2:]):
        with pytest.raises(InputError, match="64 hex digits"):
            load(bundle, expected_id=wrong)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(BundleError):
            load(path)


def test_cuda_where_there_is_none_is_an_error_and_not_the_cpu(bundle: Path) -> None:
    import onnxruntime

    from distillery_runtime import ProviderError

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA may work here")

    with pytest.raises(ProviderError, match="distillery-runtime-gpu"):
        load(bundle, provider="cuda")


def _reseal(bundle: Path, name: str, data: bytes) -> None:
    """Replaces a file of the bundle and seals the manifest again, as someone with intent would."""
    (bundle / name).write_bytes(data)

    def change(content: dict[str, object]) -> None:
        for entry in content["files"]:  # type: ignore[attr-defined]
            if entry["path"] == name:
                entry.update(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))

    rewrite(bundle, change)


def test_dimensions_that_were_reordered_are_refused(bundle: Path) -> None:
    content = json.loads((bundle / "filter.json").read_bytes())
    content["dimensions"].reverse()
    _reseal(bundle, "filter.json", json.dumps(content).encode())

    with pytest.raises(BundleError, match="dimensions in their order"):
        load(bundle)


def test_calibration_of_other_dimensions_is_refused(bundle: Path) -> None:
    data = (bundle / "calibration.json").read_bytes().replace(b"relevance", b"resonance")
    _reseal(bundle, "calibration.json", data)

    with pytest.raises(BundleError, match="dimensions in their order"):
        load(bundle)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("filter.json", b'{"dimensions": [{"weight": 1' + b"0" * 400 + b"}]}"),
        ("filter.json", b"[" * 100_000),
        ("probe/tokenizer.json", b'{"version": "1.0"}'),
        ("student/cpu-fp32.onnx", b"\x08\x01"),
        ("golden.jsonl", b"\n"),
        ("calibration.json", b"{}"),
    ],
)
def test_a_resealed_bundle_with_nonsense_inside_is_refused(bundle: Path, name: str, data: bytes) -> None:
    _reseal(bundle, name, data)

    with pytest.raises(BundleError):
        load(bundle)


def ship_student_as(bundle: Path, *names: str, records: bool = True) -> None:
    """Makes the bundle ship its student's graph under more names, with what is recorded of it or without."""
    if records:
        calibration = json.loads((bundle / "calibration.json").read_bytes())
        goldens = [json.loads(line) for line in (bundle / "golden.jsonl").read_bytes().splitlines()]
        for record in (calibration["stages"], *(golden["expected"] for golden in goldens)):
            record["student"] |= dict.fromkeys(names, record["student"]["cpu-fp32"])
        _reseal(bundle, "calibration.json", json.dumps(calibration).encode())
        _reseal(bundle, "golden.jsonl", b"".join(json.dumps(golden).encode() + b"\n" for golden in goldens))

    def change(content: dict[str, object]) -> None:
        variants = content["stages"][1]["variants"]  # type: ignore[index]
        variants.extend({"name": name, "graphs": ["student/cpu-fp32.onnx"]} for name in names)

    rewrite(bundle, change)


def test_each_stage_runs_the_variant_asked_for_or_its_own_best(bundle: Path) -> None:
    ship_student_as(bundle, "cpu-int8", "future-fp4")

    for wanted, expected in ((None, "cpu-int8"), ("cpu-int8", "cpu-int8"), ("cpu-fp32", "cpu-fp32")):
        stages = load(bundle, provider="cpu", variant=wanted).stages
        assert [stage.variant for stage in stages] == ["cpu-fp32", expected]


def test_a_variant_that_no_stage_has_is_an_error_that_names_what_each_has(bundle: Path) -> None:
    ship_student_as(bundle, "cpu-int8")

    with pytest.raises(BundleError, match=r"probe: cpu-fp32; student: cpu-fp32, cpu-int8"):
        load(bundle, variant="cpu-int4")


@pytest.mark.parametrize("name", ["cpu-int8", "future-fp4"])
def test_a_variant_without_calibration_and_golden_answers_is_refused(bundle: Path, name: str) -> None:
    ship_student_as(bundle, name, records=False)

    with pytest.raises(BundleError, match=f"variant {name}: (?s:.*)golden"):
        load(bundle)


def test_a_variant_named_twice_is_refused(bundle: Path) -> None:
    ship_student_as(bundle, "cpu-fp32", records=False)

    with pytest.raises(BundleError, match="variant names not used twice"):
        load(bundle)


def test_golden_answers_may_differ_by_what_the_form_of_the_variant_allows(bundle: Path) -> None:
    ship_student_as(bundle, "cpu-int8")

    def moved(by: float) -> bytes:
        goldens = [json.loads(line) for line in (bundle / "golden.jsonl").read_bytes().splitlines()]
        for golden in goldens:
            golden["expected"]["student"]["cpu-int8"]["raw"][0] += by
        return b"".join(json.dumps(golden).encode() + b"\n" for golden in goldens)

    _reseal(bundle, "golden.jsonl", moved(0.08))
    assert load(bundle, provider="cpu").stages[1].variant == "cpu-int8"

    _reseal(bundle, "golden.jsonl", moved(0.08))
    with pytest.raises(BundleError, match=r"variant cpu-int8: raw outputs differ by 0\.16, expected at most 0\.1"):
        load(bundle, provider="cpu")


def test_chances_that_could_be_no_numbers_are_refused(repository: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(repository / "tests" / "fixtures" / "bundle-v2", tmp_path / "bundle"))
    rewrite(folder, lambda m: m["stages"][1]["chance"].update(weights=[1e308, -1e308, 0.0]))

    with pytest.raises(BundleError, match="weights"):
        load(folder)
