"""A ledger that is damaged, emptied, lost or cannot be written: an error of ours with the cure, nothing paid again."""

import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from oracle_server import Answer

from distillery_runtime.errors import InputError
from distillery_trainer.cli.main import main
from distillery_trainer.labelling import database
from distillery_trainer.labelling.database import LedgerError
from distillery_trainer.labelling.driver import Pace
from distillery_trainer.labelling.job import LabelJob
from distillery_trainer.labelling.labeller import LabellingResult
from distillery_trainer.labelling.ledger import Outcome, open_ledger
from distillery_trainer.oracle.protocol import Call

Serve = Callable[..., Any]  # Any: OracleServer
Job = Callable[..., LabelJob]
Run = Callable[[LabelJob], LabellingResult]
PAGE = 4096


def change(path: Path, *statements: str) -> None:
    """Changes a ledger as its triggers forbid, with constraints off."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        for name, sql in triggers:
            if name.partition("_")[0] in tables:
                connection.execute(sql)


def rewrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def swap(path: Path, start: int, content: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[start : start + len(content)] = content
    path.write_bytes(whole)


def noise(path: Path) -> None:
    swap(path, PAGE, random.Random(0).randbytes(2 * PAGE))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "half of it": lambda path: rewrite(path, path.read_bytes()[: path.stat().st_size // 2]),
    "a page less": lambda path: rewrite(path, path.read_bytes()[:-PAGE]),
    "a header only": lambda path: rewrite(path, path.read_bytes()[:100]),
    "all pages zero": lambda path: rewrite(path, path.read_bytes()[:100] + bytes(path.stat().st_size - 100)),
    "a page of zeros": lambda path: swap(path, PAGE, bytes(PAGE)),
    "pages of noise": noise,
    "noise in the schema": lambda path: swap(path, 2000, random.Random(1).randbytes(2000)),
    "zeros throughout": lambda path: rewrite(path, bytes(path.stat().st_size)),
    "no database": lambda path: rewrite(path, b'{"id": "a0", "labels": {}}\n' * 100),
    "empty": lambda path: rewrite(path, b""),
    "gone": lambda path: path.unlink(),
    "a folder": folder,
    "another database": lambda path: (rewrite(path, b""), change(path, "CREATE TABLE bookmarks (url TEXT)")),
    "another about": lambda path: (rewrite(path, b""), change(path, "CREATE TABLE about (value TEXT)")),
    "a new ledger": lambda path: (path.unlink(), closing(database.connect(path)).__exit__(None, None, None)),
    "another version": lambda path: change(path, "UPDATE about SET value = '7' WHERE name = 'schema_version'"),
    "a version of no JSON": lambda path: change(path, "UPDATE about SET value = '{' WHERE name = 'schema_version'"),
    "no name": lambda path: change(path, "DELETE FROM about WHERE name = 'id'"),
    "a name that is no text": lambda path: change(path, "UPDATE about SET value = x'ff' WHERE name = 'id'"),
    "no outcomes": lambda path: change(path, "DROP TABLE outcomes"),
    "no triggers": lambda path: change_triggers(path),
    "a column less": lambda path: change(path, "ALTER TABLE outcomes DROP COLUMN ended"),
    "a cost in words": lambda path: change(path, "UPDATE outcomes SET cost_usd = 'much'"),
    "a cost below zero": lambda path: change(path, "UPDATE outcomes SET cost_usd = -5"),
    "an infinite cost": lambda path: change(path, "UPDATE calls SET most_usd = 9e999"),
    "a reply of bytes": lambda path: change(path, "UPDATE outcomes SET raw = x'ff00'"),
    "a reply of no encoding": lambda path: change(path, "UPDATE outcomes SET raw = CAST(x'ff00' AS TEXT)"),
    "an unknown kind": lambda path: change(path, "UPDATE outcomes SET kind = 'maybe'"),
    "tokens in part": lambda path: change(path, "UPDATE outcomes SET cached_tokens = NULL"),
    "outcomes without calls": lambda path: change(path, "DELETE FROM calls"),
    "calls without askings": lambda path: change(path, "DELETE FROM askings"),
    "no calls at all": lambda path: change(path, "DELETE FROM outcomes", "DELETE FROM calls"),
    "half of the calls": lambda path: change(
        path, "DELETE FROM outcomes WHERE call > 5", "DELETE FROM calls WHERE id > 5"
    ),
}


def change_triggers(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER outcomes_no_delete")


@pytest.fixture
def labelled(
    serve: Serve, good: Any, articles: Callable[..., Path], topic: Path, tmp_path: Path
) -> tuple[list[str], Any, Path]:
    """A command that has labelled ten articles, its server and its ledger."""
    server = serve(good)
    ledger = tmp_path / "labels.ledger.sqlite"
    command = ["label", "--filter", str(topic), "--articles", str(articles(10)),
               "--out", str(tmp_path / "labels.jsonl"),
               "--oracle", "vllm", "--model", "m", "--price", "input=1,output=2", "--base-url", f"{server.url}/v1",
               "--max-usd", "1", "--canary", "0"]  # fmt: skip
    assert main(command) == 0
    return command, server, ledger


def test_a_damaged_ledger_is_refused_with_its_cure_and_nothing_is_paid_again(
    labelled: tuple[list[str], Any, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command, server, ledger = labelled
    labels, whole = ledger.with_name("labels.jsonl"), ledger.read_bytes()
    capsys.readouterr()

    found = {kind: outcome(command, ledger, whole, damage, capsys) for kind, damage in DAMAGE.items()}

    assert {kind: code for kind, (code, _) in found.items() if code != 2} == {}
    assert [
        kind for kind, (_, said) in found.items() if "--new-ledger" not in said and "another --ledger" not in said
    ] == []
    assert len(server.asks) == 10
    assert len(labels.read_text().splitlines()) == 10


def outcome(
    command: list[str], ledger: Path, whole: bytes, damage: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """The exit code and what is said of a ledger that was damaged; it is whole again afterwards."""
    damage(ledger)
    code = main(command)
    for file in ledger.parent.glob(f"{ledger.name}*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    ledger.write_bytes(whole)
    return code, capsys.readouterr().err


@pytest.mark.parametrize("count", [6, pytest.param(400, marks=pytest.mark.slow)])
def test_bytes_that_changed_at_random_never_give_a_traceback(
    labelled: tuple[list[str], Any, Path], count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    command, _, ledger = labelled
    whole, chance = ledger.read_bytes(), random.Random(count)

    def damage(path: Path) -> None:
        content = bytearray(whole)
        for _ in range(chance.choice([1, 10, 1000])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)

    codes = {outcome(command, ledger, whole, damage, capsys)[0] for _ in range(count)}

    assert codes <= {0, 2}  # a changed letter of a text cannot be told: a dead letter, or one question asked again


def test_a_dry_run_refuses_a_lost_ledger_too(labelled: tuple[list[str], Any, Path]) -> None:
    command, _, ledger = labelled
    ledger.unlink()

    assert main([*command, "--dry-run"]) == 2


def test_a_new_ledger_is_begun_where_that_is_wanted(labelled: tuple[list[str], Any, Path]) -> None:
    command, server, ledger = labelled
    ledger.unlink()

    codes = [main([*command, "--new-ledger"]), main(command)]

    assert codes == [0, 0]
    assert len(server.asks) == 20


@pytest.mark.parametrize("kind", ["labels", "summary", "an old summary", "dead letters"])
def test_any_file_that_a_ledger_paid_for_speaks_for_it(labelled: tuple[list[str], Any, Path], kind: str) -> None:
    command, server, ledger = labelled
    labels, dead, summary = (ledger.with_name(f"labels.{end}") for end in ("jsonl", "dead.jsonl", "summary.json"))
    if kind == "dead letters":
        shutil.copy(labels, dead)
    if kind == "an old summary":
        old = {name: value for name, value in json.loads(summary.read_text()).items() if name != "ledger"}
        summary.write_text(json.dumps(old))
    kept = {"labels": labels, "dead letters": dead}.get(kind, summary)
    for file in {labels, dead, summary, ledger} - {kept}:
        file.unlink()

    code = main(command)

    assert code == 2
    assert len(server.asks) == 10


def test_a_summary_that_cannot_be_read_says_nothing(labelled: tuple[list[str], Any, Path]) -> None:
    command, _, ledger = labelled
    ledger.with_name("labels.summary.json").write_text("{")

    assert main(command) == 0


def test_another_ledger_beside_the_labels_is_refused(labelled: tuple[list[str], Any, Path]) -> None:
    command, server, ledger = labelled
    other = [*command, "--out", str(ledger.with_name("other.jsonl"))]
    main([*other, "--max-usd", "2"])

    code = main([*command, "--ledger", str(ledger.with_name("other.ledger.sqlite"))])

    assert code == 2
    assert len(server.asks) == 20


def test_a_ledger_that_another_program_holds_is_said(
    labelled: tuple[list[str], Any, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, _, ledger = labelled
    monkeypatch.setattr(database, "BUSY_S", 0.01)
    with closing(sqlite3.connect(ledger, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        code = main([*command, "--retry-dead"])

    assert (code, "close it" in capsys.readouterr().err) == (2, True)


def full(ledger: Any) -> None:  # Any: a ledger, whose database is let grow no more
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_is_an_error_of_ours_and_leaves_no_half_of_a_transaction(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "x.sqlite") as ledger:
        ledger.describe("asking", {})
        (call,) = ledger.begin("asking", [Call("k", "a", "", "")], [0.5], "live")
        full(ledger)

        for _ in range(2):
            with pytest.raises(LedgerError, match=r"full, expected room on the disk"):
                ledger.end({call: Outcome("reply", 0.1, True, raw="x" * 100_000)})
        ledger._db.execute("PRAGMA max_page_count = 100000")
        ledger.end({call: Outcome("reply", 0.1, True, raw="x" * 100_000)})

        assert [len(past.outcome.raw) for past in ledger.history("asking")] == [100_000]


@pytest.mark.parametrize("is_fixed", [True, False])
def test_a_disk_that_fills_up_stops_the_run_and_replies_are_kept_until_they_can_be_written(
    serve: Serve, reply: Any, articles: Any, job: Job, run: Run, monkeypatch: pytest.MonkeyPatch, is_fixed: bool
) -> None:
    from distillery_trainer.labelling.ledger import Ledger

    server = serve(lambda ask: Answer(reply(ask.message), delay_s=0.01))
    wanted = replace(job(server, articles(60)), pace=Pace(4, patience=replace(Pace().patience, first_wait_s=0.01)))
    end, failures = Ledger.end, []

    def failing(self: Any, outcomes: Any, job: Any = None) -> None:  # Any: those of `end`
        if len(server.asks) > 20 and (not is_fixed or len(failures) < 6):
            failures.append(outcomes)
            with database.reported(wanted.ledger):
                self._db.execute("PRAGMA max_page_count = 1")
                self._db.execute("CREATE TABLE large (content)")
        end(self, outcomes, job)

    monkeypatch.setattr(Ledger, "end", failing)
    if is_fixed:
        done = run(wanted)
        assert done.stop is not None
        assert done.stop.reason == "ledger"
    else:
        with pytest.raises(InputError, match="replies that were paid could not be written"):
            run(wanted)
    monkeypatch.setattr(Ledger, "end", end)
    asked = len(server.asks)
    run(wanted)

    assert asked < 30
    assert len(server.asks) - 60 == (0 if is_fixed else pytest.approx(4, abs=4))
