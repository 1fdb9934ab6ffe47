"""The `trainer` command: help, exit codes, and what it says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillery_runtime.version import __version__
from distillery_trainer.cli import main as cli
from distillery_trainer.cli.main import main
from distillery_trainer.runs.fit import FitRequest

COMMANDS = ("fit", "lint", "evaluate", "compare", "gate", "schema", "init")

Rows = Callable[[int], list[dict[str, Any]]]
Write = Callable[..., Path]


def exit_code(*arguments: str) -> int:
    """How the command ends, be it by returning or by argparse."""
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


@pytest.fixture
def labels(write_rows: Write, topic_rows: Rows) -> str:
    return str(write_rows("labels.jsonl", topic_rows(30)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[FitRequest]:
    """The requests that would be fitted."""
    requests: list[FitRequest] = []
    monkeypatch.setattr(cli, "fit", lambda request, say: requests.append(request) or tmp_path)
    monkeypatch.setattr(cli, "summarise", lambda run: "a summary")
    return requests


@pytest.mark.parametrize("command", [(), *((command,) for command in COMMANDS)], ids=" ".join)
def test_help_is_printed_and_ends_with_0(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code = exit_code(*command, "--help")

    assert code == 0
    assert capsys.readouterr().out.startswith(f"usage: {' '.join(['trainer', *command])}")


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"distillery-trainer {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("distil",),
        ("fit",),
        ("init",),
        ("fit", "--filter", "topic", "--labels"),
        ("fit", "--filter", "topic", "--labels", "x", "--backend", "linear"),
        ("fit", "--filter", "topic", "--labels", "x", "--limit", "0"),
        ("fit", "--filter", "topic", "--labels", "x", "--epochs", "many"),
        ("fit", "--filter", "topic", "--labels", "x", "--seed", "-1"),
        ("fit", "--filter", "topic", "--labels", "x", "--seed", str(2**32)),
        ("fit", "--filter", "topic", "--labels", "x", "--seed", "1", "--seeds", "1", "2"),
    ],
    ids=" ".join,
)
def test_wrong_use_ends_with_2_and_shows_the_usage(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code = exit_code(*arguments)

    assert code == 2
    assert "usage: trainer" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tropic", "topic/v7", "", "/no/such/folder", "no/such/folder"])
def test_a_filter_that_is_not_there_ends_with_2_and_is_named(
    new_filter: Path, labels: str, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    code = exit_code("fit", "--filter", name, "--labels", labels)

    assert code == 2
    assert f"--filter: {name!r}: no such filter" in capsys.readouterr().err


def test_an_unknown_path_of_set_ends_with_2_and_is_named(
    new_filter: Path, labels: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = exit_code("fit", "--filter", "topic", "--labels", labels, "--set", "cascade.target=0.1")

    assert code == 2
    assert "cascade.target: no such key" in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting", ["cascade.target_miss_rate", "cascade.target_miss_rate=[", "cascade.target_miss_rate=2"]
)
def test_a_setting_that_cannot_be_applied_ends_with_2_and_is_named(
    new_filter: Path, labels: str, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    code = exit_code("fit", "--filter", "topic", "--labels", labels, "--set", setting)

    assert code == 2
    assert "cascade.target_miss_rate" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("fit",), ("prepare", "--out", "prepared"), ("audit",)], ids=lambda c: str(c[0]))
def test_without_labels_a_message_names_the_filter_and_where_they_are_looked_for(
    new_filter: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    code = exit_code(*command, "--filter", "topic")

    assert code == 2
    assert f"of topic-1: not given, expected --labels FILE, a file {Path('labels/topic-1.jsonl')} or {new_filter}" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("in_filter", [False, True])
def test_labels_are_found_where_they_are_written_or_beside_the_config(
    new_filter: Path, labels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_filter: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    place = new_filter / "labels.jsonl" if in_filter else tmp_path / "labels" / "topic-1.jsonl"
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(Path(labels).read_bytes())

    code = exit_code("prepare", "--filter", "topic", "--out", "prepared", "--floor", "0")

    assert code == 0
    assert len((tmp_path / "prepared" / "splits.jsonl").read_text().splitlines()) == 30


def test_of_two_labels_files_none_is_guessed(
    new_filter: Path, labels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels").mkdir()
    for place in (new_filter / "labels.jsonl", tmp_path / "labels" / "topic-1.jsonl"):
        place.write_bytes(Path(labels).read_bytes())

    code = exit_code("fit", "--filter", "topic")

    assert code == 2
    assert "both" in capsys.readouterr().err


def test_labels_that_are_not_there_end_with_2(new_filter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = exit_code("fit", "--filter", "topic", "--labels", "missing.jsonl")

    assert code == 2
    assert "--labels: missing.jsonl: no such file" in capsys.readouterr().err


def test_a_run_folder_that_cannot_be_made_ends_with_2(new_filter: Path, labels: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    code = exit_code(
        "fit",
        "--filter",
        "topic",
        "--labels",
        labels,
        "--backend",
        "static",
        "--run-dir",
        str(tmp_path / "file" / "run"),
    )

    assert code == 2


def test_an_interrupted_fit_ends_with_130_and_says_how_to_go_on(
    new_filter: Path, labels: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(request: FitRequest, say: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "fit", interrupted)

    code = exit_code("fit", "--filter", "topic", "--labels", labels)

    assert code == 130
    assert "the same command goes on where this one stopped" in capsys.readouterr().err


def test_options_of_fit_become_overrides(new_filter: Path, labels: str, asked: list[FitRequest]) -> None:
    exit_code(
        "fit", "--filter", "topic", "--labels", labels, "--backend", "static", "--epochs", "3", "--max-tokens", "64",
        "--limit", "25", "--seed", "4", "--set", "cascade.confidence=0.9", "--set", "gatekeepers=[]",
    )  # fmt: skip

    assert (asked[0].limit, asked[0].seed) == (25, 4)
    assert asked[0].overrides == {
        "student.backend": "static",
        "cascade.probe.embedder": "static",
        "student.window.max_tokens": 64,
        "cascade.probe.window.max_tokens": 64,
        "student.static.training.epochs": 3,
        "cascade.confidence": 0.9,
        "gatekeepers": [],
    }


def test_set_wins_over_a_named_option(new_filter: Path, labels: str, asked: list[FitRequest]) -> None:
    exit_code(
        "fit", "--filter", "topic", "--labels", labels, "--max-tokens", "64", "--set", "student.window.max_tokens=96"
    )

    assert asked[0].overrides["student.window.max_tokens"] == 96


def test_labels_may_be_given_in_several_lists(new_filter: Path, asked: list[FitRequest]) -> None:
    exit_code("fit", "--filter", "topic", "--labels", "a", "b", "--labels", "c")

    assert asked[0].labels == [Path("a"), Path("b"), Path("c")]


def test_results_go_to_stdout_and_news_to_stderr(
    new_filter: Path, labels: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["student.static.training.epochs=1", "cascade.probe.training.epochs=1", "cascade.probe.hidden=[4]"]
    settings = [part for setting in quick for part in ("--set", setting)]
    run = tmp_path / "run"

    code = exit_code(
        "fit",
        "--filter",
        "topic",
        "--labels",
        labels,
        "--backend",
        "static",
        "--folds",
        "0",
        "--run-dir",
        str(run),
        *settings,
    )

    captured = capsys.readouterr()
    assert code == 0
    assert captured.out.splitlines()[-1] == str(run)
    assert "test MAE" in captured.out
    assert "evaluate ..." in captured.err
    assert "evaluate ..." not in captured.out


def test_a_filter_without_problems_ends_with_0(new_filter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = exit_code("lint", "--filter", "topic")

    assert code == 0
    assert capsys.readouterr().out == f"{new_filter}: no problems\n"


def test_lint_lists_the_problems_of_every_filter_and_ends_with_2(
    new_filter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("init", "water") == 0
    (new_filter / "README.md").unlink()
    capsys.readouterr()

    code = exit_code("lint")

    assert code == 2
    assert capsys.readouterr().out.splitlines() == [
        f"{new_filter}: 1 problems",
        "  README.md: no such file, expected a file of this name",
        f"{new_filter.parents[1] / 'water' / 'v1'}: no problems",
    ]


def test_lint_without_any_filter_ends_with_2(filters_root: Path) -> None:
    assert exit_code("lint") == 2


def test_init_says_what_to_do_next_and_lint_agrees_with_it(
    filters_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = exit_code("init", "water")

    assert code == 0
    assert "trainer lint --filter water" in capsys.readouterr().out
    assert exit_code("lint", "--filter", "water") == 0


@pytest.mark.parametrize("name", ["Water", "../water"])
def test_a_name_that_is_none_ends_with_2(filters_root: Path, name: str) -> None:
    assert exit_code("init", name) == 2


def test_the_schema_is_that_of_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    code = exit_code("schema")

    assert code == 0
    assert "dimensions" in json.loads(capsys.readouterr().out)["required"]
