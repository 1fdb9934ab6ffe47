"""`trainer fit`, killed at many moments and run again, ends in the files of a run that nobody disturbed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillery_trainer.filters.scaffold import init_filter

WORKER = Path(__file__).with_name("fit_kill_worker.py")
QUICK = ["student.static.training.epochs=3", "cascade.probe.training.epochs=3", "cascade.probe.hidden=[8]"]
KILLED = ["before_every_rename", "before_the_first_file", "from_outside"]


class Report:
    """What the worker did: by kind of kill the run's folder, the moments of its kills, and how the last call ended."""

    def __init__(self, folder: Path, happened: dict[str, Any]) -> None:
        self.folder = folder
        self.happened = happened

    def files(self, name: str) -> dict[str, bytes]:
        """A run's files but for the lock, the cache, and the manifest's command, which differ by their folder."""
        folder = self.folder / name
        found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        return {n: p.read_bytes() for n, p in found.items() if not n.startswith((".", "cache/", "manifest.json"))}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, topic_rows: Callable[[int], list[dict[str, Any]]]) -> Report:
    folder = tmp_path_factory.mktemp("kills")
    runs = {name: str(folder / name) for name in ("undisturbed", *KILLED)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILLERY_FILTERS", str(folder / "filters"))
        topic = init_filter("topic")
    labels = folder / "labels.jsonl"
    labels.write_text("".join(json.dumps(row) + "\n" for row in topic_rows(80)), encoding="utf-8")
    arguments = ["fit", "--filter", str(topic), "--labels", str(labels), "--backend", "static"]
    for setting in QUICK:
        arguments += ["--set", setting]
    job = folder / "job.json"
    job.write_text(json.dumps({"arguments": arguments, "runs": runs}))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}

    result = subprocess.run([sys.executable, WORKER, job], capture_output=True, text=True, env=environment, check=False)

    assert result.returncode == 0, result.stderr
    return Report(folder, json.loads(result.stdout))


@pytest.mark.parametrize("name", ["undisturbed", *KILLED])
def test_the_last_call_finishes_the_run(report: Report, name: str) -> None:
    assert report.happened[name]["exit"] == 0


@pytest.mark.parametrize("name", KILLED)
def test_the_evaluation_of_a_killed_run_is_that_of_an_undisturbed_one_byte_for_byte(report: Report, name: str) -> None:
    expected = (report.folder / "undisturbed" / "eval.json").read_bytes()

    assert (report.folder / name / "eval.json").read_bytes() == expected


@pytest.mark.parametrize("name", KILLED)
def test_all_files_of_a_killed_run_are_those_of_an_undisturbed_one(report: Report, name: str) -> None:
    assert report.files(name) == report.files("undisturbed")


def test_kills_came_in_every_task_and_between_them(report: Report) -> None:
    killed = report.happened["before_every_rename"]["killed"]

    outputs = {
        "splits.jsonl",
        "student",
        "calibration.json",
        "probe",
        "certificate.json",
        "predictions.jsonl",
        "eval.json",
        "report.html",
    }
    records = {
        f"stages/{name}.json"
        for name in ("split", "fit", "calibrate", "probe", "certify", "predict", "evaluate", "report")
    }
    in_work = {place.split("/")[1].split("-")[0] for place in killed if place.startswith("work/")}
    assert outputs | records | {"manifest.json", "training_metadata.json"} <= set(killed)
    assert in_work == {"split", "fit", "calibrate", "probe", "certify", "predict", "evaluate", "report"}


def test_the_kill_before_the_first_file_came(report: Report) -> None:
    assert report.happened["before_the_first_file"]["killed"] == ["config.resolved.yaml"]
