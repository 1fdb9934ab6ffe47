"""A run: a folder of stages, each done once for its inputs, so that running again goes on where it stopped.

A stage writes its one output (a file or a folder) into `work/`, from where it is renamed into place and then recorded
in `stages/<name>.json` with the stage's key and the output's digest. A kill at any moment leaves either the old state,
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
class Stage:
    """One link of the chain.

    `output` is the file or folder in the run that it makes. `inputs` is everything it depends on besides the stages
    named in `after`, as JSON; `code_version` is raised when the stage's meaning changes. `make` writes the output to
    the path that it is given, and may find there what an interrupted call has left.
    """

    name: str
    output: str
    after: tuple[str, ...]
    inputs: object
    code_version: int
    make: Callable[[Path], None]


class RunFolder:
    """A run's folder and the state of its stages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def execute(
        self,
        stages: Sequence[Stage],
        say: Callable[[str], None],
        begin: Callable[[], None] = lambda: None,
        finish: Callable[[dict[str, str]], None] = lambda _keys: None,
    ) -> None:
        """Brings every stage up to date, in order, skipping those whose key and output have not changed.

        Args:
            stages: the chain.
            say: callback for progress messages.
            begin: called first, once no other process can be at work here.
            finish: called last, with each stage's key.

        Raises:
            InputError: another process is at work in this folder.
        """
        problem = Problem(str(self.folder), "another trainer is at work in this run", "one at a time")
        self.folder.mkdir(parents=True, exist_ok=True)
        with only_process(self.folder / ".lock", "trainer fit", problem):
            begin()
            keys = stage_keys(stages)
            for stage in stages:
                if self.is_done(stage.name, keys[stage.name]):
                    say(f"{stage.name}: done before")
                    continue
                say(f"{stage.name} ...")
                self._execute(stage, keys[stage.name])
            shutil.rmtree(self.folder / "work", ignore_errors=True)
            finish(keys)

    def _execute(self, stage: Stage, key: str) -> None:
        work = self.folder / "work" / f"{stage.name}-{key[:16]}" / Path(stage.output).name
        finished = work.parent / "finished.json"
        target = self.folder / stage.output
        if not finished.is_file():
            work.parent.mkdir(parents=True, exist_ok=True)
            stage.make(work)
            write_json(finished, {"sha256": tree_digest(work)})
        if work.exists():
            promote(work, target)
        record = {"schema_version": 1, "key": key, "output": stage.output, "sha256": tree_digest(target)}
        if record["sha256"] != _digest_in(finished):
            finished.unlink()  # changed since it was made, or the record is damaged: make it again
            self._execute(stage, key)
            return
        write_json(self.folder / "stages" / f"{stage.name}.json", record)
        shutil.rmtree(work.parent)

    def is_done(self, name: str, key: str) -> bool:
        """Whether a stage's output is there, made for this key and unchanged since."""
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


def stage_keys(stages: Sequence[Stage]) -> dict[str, str]:
    """Each stage's key: the digest of its inputs, its code version, and the keys of the stages before it."""
    keys: dict[str, str] = {}
    for stage in stages:
        before = [keys[name] for name in stage.after]
        keys[stage.name] = digest([stage.name, stage.code_version, stage.inputs, before])
    return keys
