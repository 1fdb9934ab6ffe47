"""The ledger by itself: what is written stays, calls without an end count at their most, jobs are found again."""

import sqlite3
from pathlib import Path

import pytest

from distillery_runtime.errors import InputError
from distillery_trainer.labelling.ledger import Ledger, OpenBatch, Outcome, PastCall, Spent, open_ledger
from distillery_trainer.oracle.protocol import Call, Usage

CALLS = [Call(f"key-{i}", f"a{i}", "Score it.", f"Article {i}.") for i in range(3)]
REPLY = Outcome("reply", 0.01, True, raw="{}", model="m", usage=Usage(9, 8, 7, 6))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "labels.ledger.sqlite"


def begun(ledger: Ledger, most_usd: float = 0.5, job: str | None = None) -> list[int]:
    ledger.describe("asking", {"model": "m"})
    return ledger.begin("asking", CALLS, [most_usd] * 3, "batch" if job else "live", job)


def test_what_is_written_is_read_again_by_another_process(path: Path) -> None:
    with open_ledger(path) as ledger:
        first, second, _ = begun(ledger)
        ledger.end({first: REPLY, second: Outcome("refused", 0.0, True, "cut short", "d", '{"a')})

    with open_ledger(path) as ledger:
        history = list(ledger.history("asking"))

    assert history == [
        PastCall(first, "key-0", "live", REPLY, 0.01),
        PastCall(second, "key-1", "live", Outcome("refused", 0.0, True, "cut short", "d", '{"a'), 0.0),
    ]


def test_a_call_counts_at_its_most_until_it_ends(path: Path) -> None:
    with open_ledger(path) as ledger:
        calls = begun(ledger, 0.5)
        before = ledger.spent()
        ledger.end({calls[0]: REPLY, calls[1]: Outcome("failed", 0.25, False)})

        assert before == Spent(0.0, 1.5, 1.5)
        assert ledger.spent() == Spent(0.01, 0.75, pytest.approx(0.75 * 0.01 / 0.5))
        assert ledger.spent().total_usd == 0.76


def test_calls_of_a_process_that_ended_are_lost_once(path: Path) -> None:
    with open_ledger(path) as ledger:
        begun(ledger)

    with open_ledger(path) as ledger:
        assert (ledger.close_lost(), ledger.close_lost()) == (3, 0)
        assert {past.outcome.kind for past in ledger.history("asking")} == {"lost"}
        assert ledger.spent() == Spent(0.0, 1.5, 1.5)


def test_calls_of_a_batch_are_not_lost_with_the_process(path: Path) -> None:
    with open_ledger(path) as ledger:
        calls = begun(ledger, job="job-1")

    with open_ledger(path) as ledger:
        assert ledger.close_lost() == 0
        assert ledger.open_batches("asking") == [OpenBatch("job-1", None)]
        assert ledger.calls_of("job-1") == {f"key-{i}": (call, 0.5) for i, call in enumerate(calls)}


def test_a_job_is_open_until_it_is_finished(path: Path) -> None:
    with open_ledger(path) as ledger:
        calls = begun(ledger, job="job-1")
        ledger.submitted("job-1", "batches/7")
        opened = ledger.open_batches("asking"), ledger.open_batches("another")
        ledger.end(dict.fromkeys(calls, REPLY), "job-1")

        assert opened == ([OpenBatch("job-1", "batches/7")], [])
        assert ledger.open_batches("asking") == []


def test_calls_are_written_down_together_or_not_at_all(path: Path) -> None:
    with open_ledger(path) as ledger:
        calls = begun(ledger)
        with pytest.raises(sqlite3.IntegrityError):
            ledger.end({calls[0]: REPLY, 999: REPLY})

        assert list(ledger.history("asking")) == []


def test_a_call_ends_only_once(path: Path) -> None:
    with open_ledger(path) as ledger:
        calls = begun(ledger)
        ledger.end({calls[0]: REPLY})

        with pytest.raises(sqlite3.IntegrityError):
            ledger.end({calls[0]: REPLY})


def test_a_ledger_is_opened_by_one_process_at_a_time(path: Path) -> None:
    with open_ledger(path), pytest.raises(InputError, match="another process"), open_ledger(path):
        pass


@pytest.mark.parametrize("content", [b"no database at all, but a text of some length", b""])
def test_another_file_is_refused_or_begun(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)

    if content:
        with pytest.raises(InputError, match="expected a ledger"), open_ledger(path):
            pass
    else:
        with open_ledger(path) as ledger:
            assert ledger.last_call() == 0


def test_a_ledger_of_another_version_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT)")
        connection.execute("INSERT INTO about VALUES ('schema_version', '2')")

    with pytest.raises(InputError, match="schema_version: 2, expected 1"), open_ledger(path):
        pass
