"""A run's tasks: each done once for its inputs, one process at a time, and a kill at any moment costs nothing."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from distillery_runtime.errors import InputError
from distillery_trainer.runs.tasks import Task, TaskFolder, task_keys
from distillery_trainer.store.files import write_json, write_jsonl

WRITING = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}

Tasks = Sequence[Task]


class Chain:
    """Three tasks, a file, a folder and a file, each made from the one before, and one that stands alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[str] = []

    def tasks(self, number: int = 1, **changes: int) -> Tasks:
        """`number` is the first task's input; a task's name given is its code version."""
        version = dict.fromkeys(("first", "second", "third", "alone"), 1) | changes
        return (
            Task("first", "first.jsonl", (), number, version["first"], lambda out: self._first(out, number)),
            Task("second", "second", ("first",), None, version["second"], self._second),
            Task("third", "third.json", ("second",), None, version["third"], self._third),
            Task("alone", "alone.json", (), None, version["alone"], self._alone),
        )

    def run(self, tasks: Tasks | None = None) -> list[str]:
        """Executes, and gives the names of the tasks that were made."""
        self.made.clear()
        TaskFolder(self.folder).execute(tasks or self.tasks(), lambda line: None)
        return list(self.made)

    def _first(self, output: Path, number: int) -> None:
        self.made.append("first")
        write_jsonl(output, [{"number": number}] * 3)

    def _second(self, output: Path) -> None:
        self.made.append("second")
        write_json(output / "one.json", (self.folder / "first.jsonl").read_text())
        write_json(output / "deep" / "two.json", 2)

    def _third(self, output: Path) -> None:
        self.made.append("third")
        write_json(output, (self.folder / "second" / "one.json").read_text())

    def _alone(self, output: Path) -> None:
        self.made.append("alone")
        write_json(output, "alone")


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # what a killed process wrote, the kernel keeps


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path / "run")


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a run by its path, but for records that a kill kept from being written: nobody reads those."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.match("stages/.*.part")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def work_of(chain: Chain, name: str) -> Path:
    """The folder in which a task is made."""
    return chain.folder / "work" / f"{name}-{task_keys(chain.tasks())[name][:16]}"


def undisturbed(tmp_path: Path, number: int = 1) -> dict[str, bytes]:
    other = Chain(tmp_path / "undisturbed")
    other.run(other.tasks(number))
    return content(other.folder)


def in_child(action: Callable[[], object]) -> int:
    """Runs something in a child process and gives how that ended, as `os.waitpid` says it."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    code = 1
    try:
        action()
        code = 0
    finally:
        os._exit(code)


def killed_at(event: int, action: Callable[[], object]) -> bool:
    """Runs something in a child that is killed just before its so-manieth change of a file; whether it came to that."""
    left = count(event, -1)

    def watch(name: str, arguments: tuple[object, ...]) -> None:
        writes = name in WRITING or (name == "open" and int(str(arguments[2])) & (os.O_WRONLY | os.O_RDWR))
        if writes and next(left) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched() -> None:
        sys.addaudithook(watch)
        action()

    status = in_child(watched)
    assert status in {0, signal.SIGKILL}
    return status == signal.SIGKILL


def killed_before_rename_to(place: Path, action: Callable[[], object]) -> None:
    """Runs something in a child that is killed just before a file or folder gets this place."""

    def watch(name: str, arguments: tuple[object, ...]) -> None:
        if name == "os.rename" and str(arguments[1]) == str(place):
            os.kill(os.getpid(), signal.SIGKILL)

    def watched() -> None:
        sys.addaudithook(watch)
        action()

    assert in_child(watched) == signal.SIGKILL


def test_tasks_are_made_in_order(chain: Chain) -> None:
    assert chain.run() == ["first", "second", "third", "alone"]


def test_a_second_call_makes_nothing_and_touches_no_output(chain: Chain) -> None:
    chain.run()
    before = {path: path.stat().st_mtime_ns for path in chain.folder.rglob("*") if path.name != ".lock"}

    assert chain.run() == []
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_changed_inputs_make_their_task_and_those_after_it_again(chain: Chain, tmp_path: Path) -> None:
    chain.run()

    assert chain.run(chain.tasks(number=2)) == ["first", "second", "third"]
    assert content(chain.folder) == undisturbed(tmp_path, 2)


@pytest.mark.parametrize(
    ("raised", "again"),
    [
        ("first", ["first", "second", "third"]),
        ("second", ["second", "third"]),
        ("third", ["third"]),
        ("alone", ["alone"]),
    ],
)
def test_a_raised_code_version_makes_a_task_and_those_after_it_again(
    chain: Chain, raised: str, again: list[str]
) -> None:
    chain.run()

    assert chain.run(chain.tasks(**{raised: 2})) == again


def test_going_back_to_former_inputs_makes_the_tasks_again(chain: Chain, tmp_path: Path) -> None:
    chain.run()
    chain.run(chain.tasks(number=2))

    assert chain.run() == ["first", "second", "third"]
    assert content(chain.folder) == undisturbed(tmp_path)


@pytest.mark.parametrize(
    ("name", "task"), [("first.jsonl", "first"), ("second/one.json", "second"), ("second/deep/two.json", "second")]
)
def test_an_edited_output_is_made_again(chain: Chain, tmp_path: Path, name: str, task: str) -> None:
    chain.run()
    (chain.folder / name).write_text("edited")

    assert chain.run() == [task]
    assert content(chain.folder) == undisturbed(tmp_path)


@pytest.mark.parametrize(
    ("name", "task"),
    [("first.jsonl", "first"), ("second/one.json", "second"), ("second", "second"), ("stages/third.json", "third")],
)
def test_a_deleted_output_or_record_is_made_again(chain: Chain, tmp_path: Path, name: str, task: str) -> None:
    chain.run()
    path = chain.folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()

    assert chain.run() == [task]
    assert content(chain.folder) == undisturbed(tmp_path)


def test_a_file_more_in_an_output_folder_is_an_edit(chain: Chain, tmp_path: Path) -> None:
    chain.run()
    (chain.folder / "second" / "more.txt").write_text("")

    assert chain.run() == ["second"]
    assert content(chain.folder) == undisturbed(tmp_path)


def test_a_task_that_fails_leaves_the_tasks_before_it_done(chain: Chain) -> None:
    def fails(output: Path) -> None:
        raise ValueError("broken")

    first, _, *rest = chain.tasks()
    with pytest.raises(ValueError, match="broken"):
        chain.run((first, Task("second", "second", ("first",), None, 1, fails), *rest))

    assert chain.run() == ["second", "third", "alone"]


def test_a_task_finds_what_an_interrupted_call_has_left(chain: Chain) -> None:
    found: list[bool] = []

    def goes_on(output: Path) -> None:
        found.append(output.is_dir())
        output.mkdir(exist_ok=True)
        if not found[-1]:
            raise KeyboardInterrupt

    task = Task("only", "only", (), None, 1, goes_on)
    with pytest.raises(KeyboardInterrupt):
        chain.run((task,))
    chain.run((task,))

    assert found == [False, True]


def test_what_an_interrupted_call_has_left_is_not_used_for_other_inputs(chain: Chain) -> None:
    def leaves_half(output: Path) -> None:
        output.mkdir(parents=True)
        raise KeyboardInterrupt

    def looks(output: Path) -> None:
        assert not output.exists()
        write_json(output, "new")

    with pytest.raises(KeyboardInterrupt):
        chain.run((Task("only", "only", (), "old", 1, leaves_half),))

    chain.run((Task("only", "only", (), "new", 1, looks),))

    assert content(chain.folder).keys() == {".lock", "only", "stages/only.json"}


def test_a_second_process_is_refused_while_the_first_is_at_work(chain: Chain) -> None:
    reading, writing = os.pipe()

    def waits(output: Path) -> None:
        os.write(writing, b"!")
        signal.pause()

    child = os.fork()
    if child == 0:
        chain.run((Task("slow", "slow.json", (), None, 1, waits),))
        os._exit(0)
    os.read(reading, 1)

    try:
        with pytest.raises(InputError, match="another trainer is at work in this run"):
            chain.run()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    assert chain.made == []


def test_a_killed_process_leaves_no_lock(chain: Chain) -> None:
    killed_before_rename_to(chain.folder / "first.jsonl", chain.run)

    assert chain.run()


def test_a_kill_while_a_task_is_made_loses_that_task_alone(chain: Chain, tmp_path: Path) -> None:
    work = work_of(chain, "second") / "second" / "deep" / "two.json"
    killed_before_rename_to(work, chain.run)

    assert chain.run() == ["second", "third", "alone"]
    assert content(chain.folder) == undisturbed(tmp_path)


def test_a_task_killed_when_finished_but_not_in_its_place_is_not_made_again(chain: Chain, tmp_path: Path) -> None:
    killed_before_rename_to(chain.folder / "second", chain.run)

    assert chain.run() == ["third", "alone"]
    assert content(chain.folder) == undisturbed(tmp_path)


def test_a_task_killed_in_its_place_but_not_recorded_is_not_made_again(chain: Chain, tmp_path: Path) -> None:
    killed_before_rename_to(chain.folder / "stages" / "second.json", chain.run)

    assert chain.run() == ["third", "alone"]
    assert content(chain.folder) == undisturbed(tmp_path)


def test_an_output_edited_after_a_kill_before_its_record_is_made_again(chain: Chain, tmp_path: Path) -> None:
    killed_before_rename_to(chain.folder / "stages" / "second.json", chain.run)
    (chain.folder / "second" / "one.json").write_text("edited")

    assert chain.run() == ["second", "third", "alone"]
    assert content(chain.folder) == undisturbed(tmp_path)


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("beginning", ["a new folder", "an older run"])
def test_two_kills_at_any_change_of_a_file_make_no_difference_in_the_end(
    tmp_path: Path, beginning: str, every: int
) -> None:
    older, calm = Chain(tmp_path / "older"), Chain(tmp_path / "undisturbed")
    calm.run(calm.tasks()[:3])
    if beginning == "an older run":
        older.run(older.tasks(number=2)[:3])
    differs = []

    kills = 0
    for event in count(1, every):
        chain = Chain(tmp_path / f"killed-{event}")
        tasks = chain.tasks()[:3]
        if older.folder.exists():
            shutil.copytree(older.folder, chain.folder)
        if not killed_at(event, partial(chain.run, tasks)):
            break
        kills += 1
        killed_at(event, partial(chain.run, tasks))
        chain.run(tasks)
        if content(chain.folder) != content(calm.folder):
            differs.append(event)

    assert kills > 20 // every  # so that the kills are known to come
    assert differs == []


def test_keys_depend_on_everything_before_a_task_and_on_nothing_after_it(chain: Chain) -> None:
    base = task_keys(chain.tasks())

    changed = task_keys(chain.tasks(second=2))

    assert {name for name in base if base[name] != changed[name]} == {"second", "third"}


def test_tasks_with_equal_inputs_have_different_keys(chain: Chain) -> None:
    keys = task_keys(chain.tasks())

    assert len(set(keys.values())) == len(keys)
