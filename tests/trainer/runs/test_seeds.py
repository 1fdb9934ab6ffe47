"""`trainer fit --seeds`: a run for each seed, and their spread."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillery_trainer.cli.main import main

IN_PARTS = ("--backend", "static", "--folds", "0")
SMALL = ("student.static.hidden=[4]", "cascade.probe.hidden=[4]", "cascade.probe.training.epochs=2")
QUICK = (
    "--backend",
    "static",
    "--folds",
    "0",
    "--epochs",
    "2",
    *(part for setting in SMALL for part in ("--set", setting)),
)

Rows = Callable[[int], list[dict[str, Any]]]
Write = Callable[..., Path]


@pytest.fixture
def command(new_filter: Path, topic_rows: Rows, write_rows: Write, tmp_path: Path) -> list[str]:
    labels = write_rows("labels.jsonl", topic_rows(30))
    return ["fit", "--filter", "topic", "--labels", str(labels), *QUICK, "--run-dir", str(tmp_path / "runs")]


def test_each_seed_has_its_own_run_and_the_spread_is_shown(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--seeds", "3", "5"]) == 0

    out = capsys.readouterr().out
    runs = [tmp_path / "runs" / f"seed-{seed}" for seed in (3, 5)]
    assert [json.loads((run / "manifest.json").read_text())["seed"] for run in runs] == [3, 5]
    totals = [json.loads((run / "eval.json").read_text())["parts"]["total"] for run in runs]
    for name, value in (("mean", statistics.mean), ("standard deviation", statistics.stdev)):
        figures = [value([total[s]["mae"] for total in totals]) for s in ("tfidf_ridge", "probe", "student", "cascade")]
        assert [*name.split(), *(f"{figure:.3f}" for figure in figures)] in [line.split() for line in out.splitlines()]
    assert out.splitlines()[-2:] == [str(run) for run in runs]


def test_a_seed_given_twice_is_refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--seeds", "3", "3"]) == 2
    assert "--seeds: 3 3: a seed given twice" in capsys.readouterr().err


def test_several_processes_are_refused(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")

    assert main([*command, "--seeds", "3", "4"]) == 2
    assert "--seeds: processes: 2" in capsys.readouterr().err
