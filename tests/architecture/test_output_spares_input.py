"""No command of ours writes where it reads: every option that names an output is tried with every input's name."""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distillery_exporter import cli as exporter
from distillery_runtime.cli import main as distillery
from distillery_runtime.cli.same_file import refuse_replaced, refuse_same_file
from distillery_runtime.errors import InputError
from distillery_trainer.cli import main as trainer

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests" / "fixtures" / "bundle-v1"
PROGRAMS = {"distillery": distillery, "trainer": trainer, "exporter": exporter}
FILTER = next(ROOT.glob("filters/*/v*/config.yaml")).parent
OUTPUTS = {"--out", "--dropped", "--ledger", "--run-dir"}
# Inputs of each command that has an output: {} is the file that the output must spare.
COMMANDS: dict[str, list[list[str]]] = {
    "distillery score": [["--bundle", "BUNDLE", "{}"]],
    "distillery bench": [["--bundle", "BUNDLE", "--articles", "{}"]],
    "distillery pull": [],  # reads no file
    "trainer guard": [["--articles", "{}"]],
    "trainer screen": [["--articles", "{}", "--seeds", "OTHER", "--count", "1"],
                       ["--articles", "OTHER", "--seeds", "{}", "--count", "1"]],
    "trainer mine": [["--articles", "{}", "--bundle", "BUNDLE", "--count", "1"],
                     ["--articles", "OTHER", "--bundle", "BUNDLE", "--known", "{}", "--count", "1"]],
    "trainer audit": [["--filter", "FILTER", "--labels", "{}"],
                      ["--filter", "FILTER", "--labels", "OTHER", "--splits", "{}"]],
    "trainer review import": [["--run", "FOLDER", "--sheet", "{}"]],
    "trainer label": [["--filter", "FILTER", "--articles", "{}", "--oracle", "recorded", "--recorded", "OTHER"],
                      ["--filter", "FILTER", "--articles", "OTHER", "--oracle", "recorded", "--recorded", "{}"]],
    "trainer report": [["FOLDER"]],
    "exporter sign": [["BUNDLE", "--key", "{}"]],
    # These write a folder; see the tests below.
    "trainer prepare": [], "trainer shrink": [], "trainer fit": [], "trainer review export": [], "exporter build": [],
    "exporter share": [],
}  # fmt: skip
CONTENT = b'{"id": "1", "title": "t", "text": "solar wind over the river"}\n'


def commands(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command of a parser, by its words."""
    steps = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not steps:
        yield name, parser
    for action in steps:
        for word, inner in action.choices.items():
            yield from commands(inner, f"{name} {word}")


def with_output() -> dict[str, list[str]]:
    """The commands that have an option for an output, and those options."""
    every = [pair for name, program in PROGRAMS.items() for pair in commands(program._parser(), name)]
    options = {name: [o for a in parser._actions for o in a.option_strings if o in OUTPUTS] for name, parser in every}
    return {name: found for name, found in options.items() if found}


def test_every_command_with_an_output_is_tried_here() -> None:
    assert set(with_output()) == set(COMMANDS)


CASES = [
    (name, option, given)
    for name, inputs in COMMANDS.items()
    for given in inputs
    for option in with_output()[name]
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an input, links to it, another input, and a folder that is a run's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "in.jsonl").write_bytes(CONTENT)
    (tmp_path / "other.jsonl").write_bytes(CONTENT)
    (tmp_path / "link.jsonl").symlink_to("in.jsonl")
    (tmp_path / "hard.jsonl").hardlink_to(tmp_path / "in.jsonl")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_bytes(CONTENT)
    return tmp_path


@pytest.mark.parametrize(("name", "option", "given"), CASES)
def test_an_output_that_is_an_input_is_refused(
    place: Path, name: str, option: str, given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"BUNDLE": str(BUNDLE), "OTHER": "other.jsonl", "FOLDER": "run", "{}": "in.jsonl",
             "FILTER": str(FILTER)}  # fmt: skip
    program, *command = name.split()
    spared = place / ("in.jsonl" if "{}" in given else "run/manifest.json")
    others = [] if option == "--out" or name not in ("trainer guard", "trainer screen") else ["--out", "new.jsonl"]
    aliases = ["in.jsonl", "./in.jsonl", "link.jsonl", "hard.jsonl"] if "{}" in given else ["run/manifest.json"]
    for alias in aliases:
        arguments = [*command, *(words.get(part, part) for part in given), *others, option, alias]

        assert PROGRAMS[program].main(arguments) == 2
        assert option in capsys.readouterr().err
        assert spared.read_bytes() == CONTENT
    assert not list(place.glob(".*"))


@pytest.mark.parametrize("command", [
    ["report", "run"], ["review", "import", "--run", "run", "--sheet", "other.jsonl"],
    ["mine", "--articles", "other.jsonl", "--run", "run", "--count", "1"],
])  # fmt: skip
@pytest.mark.parametrize("entry", ["labels", "pool", "certify_on", "joint"])
def test_what_a_run_was_made_from_is_spared(
    place: Path, command: list[str], entry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [{"path": str(place / "in.jsonl"), "sha256": "0"}]
    manifest = {"stages": {}, entry: {"labels": files} if entry == "joint" else files}
    (place / "run" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")

    code = trainer.main([*command, "--out", "in.jsonl"])

    assert code == 2
    assert "the same file as the input" in capsys.readouterr().err
    assert (place / "in.jsonl").read_bytes() == CONTENT


def test_derived_outputs_spare_inputs_too(place: Path) -> None:
    (place / "kept.dropped.jsonl").write_bytes(CONTENT)
    assert trainer.main(["guard", "--articles", "kept.dropped.jsonl", "--out", "kept.jsonl"]) == 2
    assert trainer.main(["guard", "--articles", "in.jsonl", "--out", "a.jsonl", "--dropped", "a.jsonl"]) == 2
    (place / "labels.dead.jsonl").write_bytes(CONTENT)
    topic = str(FILTER)
    label = ["label", "--filter", topic, "--oracle", "recorded", "--recorded", "other.jsonl", "--out", "labels.jsonl"]
    assert trainer.main([*label, "--articles", "labels.dead.jsonl"]) == 2
    part = place / ".out.jsonl.part"
    part.write_bytes(CONTENT)
    assert distillery.main(["score", "--bundle", str(BUNDLE), str(part), "--out", "out.jsonl"]) == 2

    assert (place / "kept.dropped.jsonl").read_bytes() == CONTENT
    assert (place / "labels.dead.jsonl").read_bytes() == CONTENT
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "--filter", "F", "--labels", "out/splits.jsonl", "--out", "out"],
        ["fit", "--filter", "F", "--labels", "out/splits.jsonl", "--run-dir", "out"],
        ["fit", "--filter", "F", "--labels", "in.jsonl", "--splits", "out/splits.jsonl", "--run-dir", "out"],
        ["fit", "--filter", "F", "--labels", "in.jsonl", "--distil-from", "out", "--pool", "in.jsonl", "--run-dir",
         "out"],
        ["shrink", "--filter", "F", "--articles", "in.jsonl", "--base-model", "out", "--layers", "1", "--pieces", "9",
         "--out", "out"],
        ["shrink", "--filter", "F", "--articles", "out/splits.jsonl", "--base-model", "b", "--layers", "1", "--pieces",
         "9", "--out", "out"],
    ],
)  # fmt: skip
def test_a_folder_that_holds_an_input_is_not_replaced(
    place: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "out").mkdir()
    (place / "out" / "splits.jsonl").write_bytes(CONTENT)
    topic = str(FILTER)

    assert trainer.main([topic if part == "F" else part for part in arguments]) == 2

    assert "holds the input" in capsys.readouterr().err
    assert [path.name for path in (place / "out").iterdir()] == ["splits.jsonl"]


def test_a_set_replaces_none_of_the_bundles_that_it_is_made_of(
    place: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = bundle.rename(place / "fixture-1")

    assert exporter.main(["share", str(here), "--out", "."]) == 2

    assert "holds the input" in capsys.readouterr().err
    assert not (place / "shared").exists()


def test_a_file_that_a_bundle_shares_is_spared(place: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exporter.main(["share", str(bundle), "--out", "set"]) == 0
    shared = next(Path("set", "shared").iterdir())
    before = shared.read_bytes()

    assert distillery.main(["score", "in.jsonl", "--bundle", "set/fixture-1", "--out", str(shared)]) == 2

    assert "a file of the input" in capsys.readouterr().err
    assert shared.read_bytes() == before


def test_a_bundle_gets_no_other_file(place: Path, bundle: Path) -> None:
    for arguments in (["score", "in.jsonl"], ["bench"]):
        assert distillery.main([*arguments, "--bundle", str(bundle), "--out", str(bundle / "new.json")]) == 2

    assert not (bundle / "new.json").exists()


def test_standard_streams_count_as_the_files_that_they_are(place: Path) -> None:
    for mode in ("ab", "r+b"):
        with (place / "in.jsonl").open(mode) as stream:
            before = os.dup(1)
            os.dup2(stream.fileno(), 1)
            try:
                with pytest.raises(InputError, match="stdout"):
                    refuse_same_file_of_process(place)
            finally:
                os.dup2(before, 1)
                os.close(before)


def refuse_same_file_of_process(place: Path) -> None:
    """Asks with this process's own stdout, which pytest may have replaced."""
    import sys

    replaced, sys.stdout = sys.stdout, sys.__stdout__
    try:
        refuse_same_file(None, [place / "in.jsonl"])
    finally:
        sys.stdout = replaced


@pytest.mark.parametrize("call", [refuse_same_file, refuse_replaced])
def test_other_places_are_allowed(place: Path, call: Callable[..., None]) -> None:
    call(place / "new", [place / "in.jsonl", place / "nowhere.jsonl", place / "run"])
    refuse_same_file(place / "other.jsonl", [place / "in.jsonl"])
    refuse_replaced(place / "run", [place / "in.jsonl", place / "run" / "labels.jsonl"], ["manifest.json"])
    refuse_same_file(place / "run" / "new.html", [place / "run"])
