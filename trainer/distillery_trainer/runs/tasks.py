"""Tasks of a run: each is done once for its inputs, so that running again goes on where it stopped.

A task writes its one output (a file or a folder) into `work/`, from where it is renamed into place and then recorded
in `stages/<name>.json` with the task's key and the output's digest. A kill at any moment leaves either the old state,
work to go on with, or a finished output that is found and recorded next time.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from distillery_runtime.errors import Problem
from distillery_runtime.files.lock import only_process
from distillery_trainer.store.files import digest, promote, tree_digest, write_json


@dataclass(frozen=True, slots=True)
class Task:
    """One link of the chain.

    `output` is the file or folder in the run that it makes. `inputs` is everything it depends on besides the tasks
    named in `after`, as JSON; `code_version` is raised when the task's meaning changes. `make` writes the output to
    the path that it is given, and may find there what an interrupted call has left.
    """

    name: str
    output: str
    after: tuple[str, ...]
    inputs: object
    code_version: int
    make: Callable[[Path], None]


class TaskFolder:
    """A folder that tasks write into, and their state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def execute(
        self,
        tasks: Sequence[Task],
        say: Callable[[str], None],
        begin: Callable[[], None] = lambda: None,
        finish: Callable[[dict[str, str]], None] = lambda _keys: None,
    ) -> None:
        """Brings every task up to date, in order, skipping those whose key and output have not changed.

        Args:
            tasks: the chain.
            say: callback for progress messages.
            begin: called first, once no other process can be at work here.
            finish: called last, with each task's key.

        Raises:
            InputError: another process is at work in this folder.
        """
        problem = Problem(str(self.folder), "another trainer is at work in this run", "one at a time")
        self.folder.mkdir(parents=True, exist_ok=True)
        with only_process(self.folder / ".lock", "trainer fit", problem):
            begin()
            keys = task_keys(tasks)
            for task in tasks:
                if self.is_done(task.name, keys[task.name]):
                    say(f"{task.name}: done before")
                    continue
                say(f"{task.name} ...")
                self._execute(task, keys[task.name])
            shutil.rmtree(self.folder / "work", ignore_errors=True)
            finish(keys)

    def _execute(self, task: Task, key: str) -> None:
        work = self.folder / "work" / f"{task.name}-{key[:16]}" / Path(task.output).name
        finished = work.parent / "finished.json"
        target = self.folder / task.output
        if not finished.is_file():
            work.parent.mkdir(parents=True, exist_ok=True)
            task.make(work)
            write_json(finished, {"sha256": tree_digest(work)})
        if work.exists():
            promote(work, target)
        record = {"schema_version": 1, "key": key, "output": task.output, "sha256": tree_digest(target)}
        if record["sha256"] != _digest_in(finished):
            finished.unlink()  # changed since it was made, or the record is damaged: make it again
            self._execute(task, key)
            return
        write_json(self.folder / "stages" / f"{task.name}.json", record)
        shutil.rmtree(work.parent)

    def is_done(self, name: str, key: str) -> bool:
        """Whether a task's output is there, made for this key and unchanged since."""
        path = self.folder / "stages" / f"{name}.json"
        if not path.is_file():
            return False
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            target = self.folder / record["output"]
            return bool(record["key"] == key and target.exists() and record["sha256"] == tree_digest(target))
        except (ValueError, KeyError, TypeError, RecursionError):  # a damaged record proves nothing
            return False


def _digest_in(record: Path) -> object:
    """The digest that a record of finished work holds; None where it is damaged."""
    try:
        return json.loads(record.read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def task_keys(tasks: Sequence[Task]) -> dict[str, str]:
    """Each task's key: the digest of its inputs, its code version, and the keys of the tasks before it."""
    keys: dict[str, str] = {}
    for task in tasks:
        before = [keys[name] for name in task.after]
        keys[task.name] = digest([task.name, task.code_version, task.inputs, before])
    return keys
