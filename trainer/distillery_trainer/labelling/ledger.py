"""The ledger: every call that was begun, and how it ended, so that no reply is paid twice and no call is forgotten.

A call is written down before it is made and its outcome as soon as it is there. A kill between the two leaves a call
without an outcome, which may have been paid: the next process to open the ledger counts it as lost. Its maximum stays
reserved against the budget; what it probably cost is estimated from the calls whose cost is known. Calls of a batch are
not lost with the process; `batch_calls` asks the provider for them.
"""

import datetime
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distillery_runtime.errors import Problem
from distillery_runtime.files.lock import only_process
from distillery_trainer.labelling.database import connect, reported
from distillery_trainer.oracle.protocol import Call, Usage

Mode = Literal["live", "batch"]
MODES: tuple[Mode, ...] = ("live", "batch")
Kind = Literal["reply", "refused", "failed", "stopped", "lost"]
_INSERT_OUTCOME = "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended.

    `kind`: `reply`, a whole reply came; `refused`, none for this article; `failed`, worth another try; `stopped`, no
    use in going on; `lost`, nobody knows. `cost_usd` is computed from `usage`, or, where `is_known` is false, the most
    that the call can have cost.
    """

    kind: Kind
    cost_usd: float
    is_known: bool
    reason: str = ""
    detail: str = ""
    raw: str = ""
    model: str = ""
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class PastCall:
    """A call that has ended, with its outcome; `call` numbers all calls of a ledger upwards.

    `cost_usd` is what it cost, or, where that is not known, probably cost.
    """

    call: int
    key: str
    mode: Mode
    outcome: Outcome
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Spent:
    """US dollars: `known_usd` by what providers counted, `unsure_usd` at most for calls whose cost is not known.

    `likely_usd`: what the latter probably cost.
    """

    known_usd: float
    unsure_usd: float
    likely_usd: float

    @property
    def total_usd(self) -> float:
        """What counts against a budget."""
        return self.known_usd + self.unsure_usd


@dataclass(frozen=True, slots=True)
class CostRatio:
    """What calls cost, relative to the maximum that was reserved: of all `replies` together, and the highest of one."""

    replies: int
    mean: float
    highest: float

    def likely_usd(self, most_usd: float) -> float:
        """What a call of this maximum probably costs: the maximum itself where there is no reply yet."""
        return most_usd * min(self.mean, 1.0) if self.replies else most_usd


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch that has begun and not ended; `remote` is None where the provider's name for it is not known."""

    name: str
    remote: str | None


class Ledger:
    """One open ledger. Use `open_ledger`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self._path = path
        ((found,),) = self._execute("SELECT value FROM about WHERE name = 'id'")
        self.id: str = json.loads(found)

    def describe(self, asking: str, record: Mapping[str, object]) -> None:
        """Keeps what an asking consists of, once, so that the ledger can be read by itself."""
        text = json.dumps(record, ensure_ascii=False, sort_keys=True)
        self._execute("INSERT OR IGNORE INTO askings VALUES (?, ?)", (asking, text))

    def begin(
        self, asking: str, calls: Sequence[Call], most_usd: Sequence[float], mode: Mode, batch: str | None = None
    ) -> list[int]:
        """Writes down calls that are about to be made, all or none, and gives their numbers.

        Args:
            asking: what they ask, by the id given to `describe`.
            calls: the calls.
            most_usd: the most that each can cost.
            mode: live, or in a batch.
            batch: our name of the batch, whose beginning is written down with its calls.
        """
        with self._transaction(outlives_power=mode == "batch"):
            if batch is not None:
                self._insert("INSERT INTO jobs VALUES (NULL, ?, 'begun', '', ?)", (batch, _now()))
            return [
                self._insert(
                    "INSERT INTO calls VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (asking, call.key, call.article_id, call.repeat, mode, batch, most, _now()),
                )
                for call, most in zip(calls, most_usd, strict=True)
            ]

    def end(self, outcomes: Mapping[int, Outcome], batch: str | None = None) -> None:
        """Writes down how calls ended, all or none, and that the batch of this name is finished with them."""
        with self._transaction():
            for call, outcome in outcomes.items():
                used = outcome.usage
                tokens = (
                    (used.input_tokens, used.cached_tokens, used.output_tokens, used.thinking_tokens)
                    if used
                    else (None,) * 4
                )
                ended = (outcome.kind, *map(_storable, (outcome.reason, outcome.detail, outcome.raw, outcome.model)))
                cost = (outcome.cost_usd, int(outcome.is_known), _now())
                self._insert(_INSERT_OUTCOME, (call, *ended, *tokens, *cost))
            if batch is not None:
                self._insert("INSERT INTO jobs VALUES (NULL, ?, 'finished', '', ?)", (batch, _now()))

    def submitted(self, batch: str, remote: str) -> None:
        """Keeps the provider's name of a batch."""
        with reported(self._path):
            self._insert("INSERT INTO jobs VALUES (NULL, ?, 'submitted', ?, ?)", (batch, remote, _now()))

    def open_batches(self, asking: str) -> list[OpenBatch]:
        """An asking's batches that have begun and not ended, in the order in which they began."""
        states: dict[str, str | None] = {}
        rows = self._execute(
            "SELECT name, state, remote FROM jobs WHERE name IN (SELECT job FROM calls WHERE asking = ?) ORDER BY id",
            (asking,),
        )
        for name, state, remote in rows:
            if state == "finished":
                states.pop(name, None)
            else:
                states[name] = remote or None
        return [OpenBatch(name, remote) for name, remote in states.items()]

    def calls_of(self, batch: str) -> dict[str, tuple[int, float]]:
        """The calls of a batch without an outcome, by key: their numbers and the most that each can cost."""
        rows = self._execute(
            "SELECT key, id, most_usd FROM calls WHERE job = ? AND id NOT IN (SELECT call FROM outcomes)", (batch,)
        )
        return {key: (call, most) for key, call, most in rows}

    def close_lost(self) -> int:
        """Counts live calls of processes that ended before them as lost, and says how many there were."""
        rows = self._execute(
            "SELECT id, most_usd FROM calls WHERE mode = 'live' AND id NOT IN (SELECT call FROM outcomes)"
        )
        lost = {call: Outcome("lost", most, most == 0, "the process ended during the call") for call, most in rows}
        self.end(lost)
        return len(lost)

    def history(self, asking: str) -> Iterator[PastCall]:
        """The calls of an asking that have ended, in the order in which they began."""
        rows = self._execute(
            "SELECT id, key, mode, kind, cost_usd, is_known, reason, detail, raw, model, input_tokens, output_tokens, "
            "cached_tokens, thinking_tokens FROM calls JOIN outcomes ON call = id WHERE asking = ? ORDER BY id",
            (asking,),
        )
        ratios = {mode: self.cost_ratio(asking, mode) for mode in MODES}
        for call, key, mode, kind, cost, known, reason, detail, raw, model, *tokens in rows:
            usage = None if tokens[0] is None else Usage(*tokens)
            outcome = Outcome(kind, cost, bool(known), reason, detail, raw, model, usage)
            yield PastCall(call, key, mode, outcome, cost if known else ratios[mode].likely_usd(cost))

    def cost_ratio(self, asking: str, mode: Mode) -> CostRatio:
        """What the replies of an asking cost, in one mode, relative to what was reserved for them."""
        ((replies, cost, most, highest),) = self._execute(
            "SELECT count(*), sum(cost_usd), sum(most_usd), max(cost_usd / most_usd) FROM calls JOIN outcomes "
            "ON call = id WHERE asking = ? AND mode = ? AND is_known AND input_tokens NOT NULL AND most_usd > 0",
            (asking, mode),
        )
        return CostRatio(replies, cost / most, highest) if replies else CostRatio(0, 0.0, 0.0)

    def spent(self) -> Spent:
        """What all calls of this ledger have cost, those of other filters and prompts included.

        A call that has not ended counts at the most that it can cost.
        """
        known = unsure = likely = 0.0
        for asking, mode, paid, at_most in self._execute(
            "SELECT asking, mode, coalesce(sum(cost_usd) FILTER (WHERE is_known), 0), coalesce(sum(CASE WHEN call IS "
            "NULL THEN most_usd WHEN is_known THEN 0 ELSE cost_usd END), 0) FROM calls LEFT JOIN outcomes ON call = id "
            "GROUP BY asking, mode"
        ):
            known, unsure = known + paid, unsure + at_most
            likely += self.cost_ratio(asking, mode).likely_usd(at_most) if at_most else 0.0
        return Spent(known, unsure, likely)

    def last_call(self) -> int:
        """The number of the last call that was begun, 0 where there is none."""
        ((last,),) = self._execute("SELECT coalesce(max(id), 0) FROM calls")
        return int(last)

    def _insert(self, statement: str, values: tuple[object, ...]) -> int:
        return int(self._db.execute(statement, values).lastrowid or 0)

    def _execute(
        self, statement: str, values: tuple[object, ...] = ()
    ) -> list[Any]:  # Any: rows of the columns selected
        with reported(self._path):
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self, outlives_power: bool = True) -> Iterator[None]:
        """All or nothing. What is committed always outlives a kill, and a loss of power where that is asked for."""
        with reported(self._path):
            self._db.execute(f"PRAGMA synchronous = {'FULL' if outlives_power else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:  # whatever it was, none of it may stay
                if self._db.in_transaction:  # a full disk has ended it already
                    self._db.execute("ROLLBACK")
                raise


@contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """Opens a ledger for this process alone, made if it is not there.

    Raises:
        InputError: another process is at work with it, or the file is damaged or no ledger of this version.
    """
    problem = Problem(str(path), "another process is labelling with this ledger", "one at a time")
    path.parent.mkdir(parents=True, exist_ok=True)
    with only_process(path.with_name(f".{path.name}.lock"), "trainer label", problem):
        connection = connect(path)
        try:
            yield Ledger(connection, path)
        finally:
            connection.close()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _storable(text: str) -> str:
    """Half a character, as JSON can spell it and no encoding can carry it, becomes a question mark."""
    return text.encode(errors="replace").decode()
