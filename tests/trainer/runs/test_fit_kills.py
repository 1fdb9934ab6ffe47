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
pytestmark = pytest.mark.slow  # test_tasks kills a chain of tasks within its process

KILLED = ["before_each_output", "before_every_rename", "before_the_first_file", "from_outside"]
OUTPUTS = {"splits.jsonl", "held_out", "student", "calibration.json", "probe", "selection.json", "certificate.json",
           "predictions.jsonl", "eval.json", "report.html"}  # fmt: skip
STAGES = ("split", "hold_out", "fit", "calibrate", "probe", "select", "certify", "predict", "evaluate", "report")


class Worker:
    """Runs each kind of kill once, on a run folder of its own, and keeps what happened."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self.folder = folder
        self._arguments = arguments
        self._happened: dict[str, dict[str, Any]] = {}

    def happened(self, *names: str) -> dict[str, dict[str, Any]]:
        """By kind of kill; those not seen yet run in one process."""
        new = {name: str(self.folder / name) for name in names if name not in self._happened}
        if new:
            job = self.folder / "job.json"
            job.write_text(json.dumps({"arguments": self._arguments, "runs": new}))
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
            result = subprocess.run(
                [sys.executable, WORKER, job], capture_output=True, text=True, env=environment, check=False
            )
            assert result.returncode == 0, result.stderr
            self._happened |= json.loads(result.stdout)
        return {name: self._happened[name] for name in names}

    def files(self, name: str) -> dict[str, bytes]:
        """A run's files but for the lock, the cache, and the manifest's command, which differ by their folder."""
        folder = self.folder / name
        found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        return {n: p.read_bytes() for n, p in found.items() if not n.startswith((".", "cache/", "manifest.json"))}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, topic_rows: Callable[[int], list[dict[str, Any]]]) -> Worker:
    folder = tmp_path_factory.mktemp("kills")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILLERY_FILTERS", str(folder / "filters"))
        topic = init_filter("topic")
    labels = folder / "labels.jsonl"
    labels.write_text("".join(json.dumps(row) + "\n" for row in topic_rows(80)), encoding="utf-8")
    arguments = ["fit", "--filter", str(topic), "--labels", str(labels), "--backend", "static",
                 "--folds", "2"]  # fmt: skip
    for setting in QUICK:
        arguments += ["--set", setting]
    return Worker(folder, arguments)


@pytest.mark.parametrize("name", KILLED)
def test_a_killed_run_ends_in_the_files_of_an_undisturbed_one_byte_for_byte(worker: Worker, name: str) -> None:
    happened = worker.happened("undisturbed", name)

    assert [found["exit"] for found in happened.values()] == [0, 0]
    assert "eval.json" in worker.files("undisturbed")
    assert worker.files(name) == worker.files("undisturbed")


def test_kills_came_before_each_output(worker: Worker) -> None:
    killed = worker.happened("undisturbed", "before_each_output")["before_each_output"]["killed"]

    assert OUTPUTS | {"manifest.json", "training_metadata.json"} <= set(killed)


def test_kills_came_in_every_task_and_between_them(worker: Worker) -> None:
    killed = worker.happened("before_every_rename")["before_every_rename"]["killed"]

    in_work = {place.split("/")[1].split("-")[0] for place in killed if place.startswith("work/")}
    assert OUTPUTS | {f"stages/{name}.json" for name in STAGES} | {"manifest.json"} <= set(killed)
    assert in_work == {*STAGES}


def test_the_kill_before_the_first_file_came(worker: Worker) -> None:
    happened = worker.happened("before_the_first_file")

    assert happened["before_the_first_file"]["killed"] == ["config.resolved.yaml"]
