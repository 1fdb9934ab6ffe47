"""Runs `trainer fit` in child processes that are killed at given moments, then once to the end. Run with a job's JSON.

Each child is forked after the imports, so that many kills cost one import. The job names the command's arguments and
the folders of its runs; what happened is written to stdout as JSON.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distillery_trainer.cli.main import main

FIRST_FILE = "config.resolved.yaml"


def undisturbed(arguments: list[str], folder: Path) -> list[str]:
    """No kill at all."""
    return []


def before_the_first_file(arguments: list[str], folder: Path) -> list[str]:
    """One kill before the run's first file gets its name."""
    return list(_killed_before_renames(arguments, folder, lambda place: place == FIRST_FILE))


def before_each_output(arguments: list[str], folder: Path) -> list[str]:
    """A kill before each stage's output gets its place, and before the run's manifest does."""
    return list(_killed_before_renames(arguments, folder, lambda place: "/" not in place and place != FIRST_FILE))


def before_every_rename(arguments: list[str], folder: Path) -> list[str]:
    """A kill before each file and folder of the run, one after the other, gets its name for the first time."""
    return list(_killed_before_renames(arguments, folder, lambda place: place != FIRST_FILE))


def from_outside(arguments: list[str], folder: Path) -> list[str]:
    """Kills after some seconds, wherever the run is then."""
    killed = []
    for delay_s in (0.3, 0.7, 1.1):
        child = _start(arguments, folder, lambda: None)
        time.sleep(delay_s)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        killed.append(f"{delay_s} s")
    return killed


def _killed_before_renames(arguments: list[str], folder: Path, wanted: Callable[[str], bool]) -> Iterator[str]:
    seen: set[str] = set()
    log = folder.with_suffix(".log")
    while True:
        log.unlink(missing_ok=True)
        child = _start(arguments, folder, lambda: sys.addaudithook(_killer(folder, log, seen, wanted)))
        if os.waitpid(child, 0)[1] != signal.SIGKILL:
            return
        seen.add(log.read_text())
        yield log.read_text()


def _killer(folder: Path, log: Path, seen: set[str], wanted: Callable[[str], bool]) -> Callable[..., None]:
    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event != "os.rename" or not str(arguments[1]).startswith(f"{folder}/"):
            return
        place = Path(str(arguments[1])).relative_to(folder).as_posix()
        if wanted(place) and place not in seen:
            log.write_text(place)
            os.kill(os.getpid(), signal.SIGKILL)

    return watch


def _start(arguments: list[str], folder: Path, prepare: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        prepare()
        code = main([*arguments, "--run-dir", str(folder)])
    finally:
        os._exit(code)


def work(job: Mapping[str, Any]) -> dict[str, object]:  # Any: the job's JSON
    found: dict[str, object] = {}
    for name, folder in job["runs"].items():
        killed = globals()[name](job["arguments"], Path(folder))
        last = _start(job["arguments"], Path(folder), lambda: None)
        found[name] = {"killed": killed, "exit": os.waitstatus_to_exitcode(os.waitpid(last, 0)[1])}
    return found


if __name__ == "__main__":
    print(json.dumps(work(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
