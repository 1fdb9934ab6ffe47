"""The ledger's tables: rows are added and never changed, which the database itself refuses."""

import json
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from distillery_runtime.errors import InputError, Problem

SCHEMA_VERSION = 1
BUSY_S = 5.0  # how long another program may hold a ledger
TABLES = ("about", "askings", "calls", "outcomes", "jobs")

RESTORE = (
    "an undamaged ledger: restore it from a backup, or what `sqlite3 LEDGER .recover` saves of it; or move it away and "
    "begin with --new-ledger, which asks and pays for everything again"
)
CURES = {
    sqlite3.SQLITE_FULL: "room on the disk; then give the same command again",
    sqlite3.SQLITE_IOERR: "a disk that can be written; then give the same command again",
    sqlite3.SQLITE_BUSY: "no other program at work with it; close it, then give the same command again",
    sqlite3.SQLITE_LOCKED: "no other program at work with it; close it, then give the same command again",
    sqlite3.SQLITE_READONLY: "a file and a folder that may be written",
    sqlite3.SQLITE_CANTOPEN: "a file and a folder that may be written",
    sqlite3.SQLITE_PERM: "a file and a folder that may be written",
    sqlite3.SQLITE_NOTADB: f"a ledger of trainer label. Was it one? Then {RESTORE}",
}

_CREATE = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE askings (id TEXT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE calls (
  id INTEGER PRIMARY KEY,
  asking TEXT NOT NULL REFERENCES askings (id),
  key TEXT NOT NULL,
  article TEXT NOT NULL,
  repeat INTEGER NOT NULL,
  mode TEXT NOT NULL CHECK (mode IN ('live', 'batch')),
  job TEXT,
  most_usd REAL NOT NULL,
  begun TEXT NOT NULL
);
CREATE INDEX calls_of_an_asking ON calls (asking);
CREATE TABLE outcomes (
  call INTEGER PRIMARY KEY REFERENCES calls (id),
  kind TEXT NOT NULL CHECK (kind IN ('reply', 'refused', 'failed', 'stopped', 'lost')),
  reason TEXT NOT NULL,
  detail TEXT NOT NULL,
  raw TEXT NOT NULL,
  model TEXT NOT NULL,
  input_tokens INTEGER,
  cached_tokens INTEGER,
  output_tokens INTEGER,
  thinking_tokens INTEGER,
  cost_usd REAL NOT NULL,
  is_known INTEGER NOT NULL CHECK (is_known IN (0, 1)),
  ended TEXT NOT NULL
);
CREATE TABLE jobs (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('begun', 'submitted', 'finished')),
  remote TEXT NOT NULL,
  at TEXT NOT NULL
);
"""

_SCHEMA = "SELECT name, sql FROM sqlite_schema WHERE sql NOT NULL"
# What holds of every row, beside the tables' own constraints, which a damaged file need not keep.
_TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "thinking_tokens")
_ROWS = {
    "about": "typeof(value) = 'text'",
    "askings": "typeof(id) = 'text' AND typeof(record) = 'text'",
    "calls": "typeof(asking) = 'text' AND typeof(key) = 'text' AND typeof(article) = 'text' "
    "AND typeof(repeat) = 'integer' AND mode IN ('live', 'batch') "
    "AND typeof(most_usd) = 'real' AND most_usd BETWEEN 0 AND 1e12 "
    "AND typeof(job) = iif(mode = 'batch', 'text', 'null')",
    "outcomes": "kind IN ('reply', 'refused', 'failed', 'stopped', 'lost') AND typeof(reason) = 'text' "
    "AND typeof(detail) = 'text' AND typeof(raw) = 'text' AND typeof(model) = 'text' AND is_known IN (0, 1) "
    "AND typeof(cost_usd) = 'real' AND cost_usd BETWEEN 0 AND 1e12 AND ("
    + " AND ".join(f"typeof({name}) = 'integer' AND {name} >= 0" for name in _TOKENS)
    + " OR " + " AND ".join(f"{name} IS NULL" for name in _TOKENS) + ")",
    "jobs": "typeof(name) = 'text' AND state IN ('begun', 'submitted', 'finished') AND typeof(remote) = 'text'",
}  # fmt: skip


class LedgerError(InputError):
    """A ledger is damaged, or cannot be read or written."""


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turns what SQLite raises of a damaged file, a full disk or a lock into our error; not what our own fault is.

    Raises:
        LedgerError: with SQLite's message and the cure.
    """
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except (sqlite3.Error, UnicodeDecodeError) as error:  # sqlite3 decodes the names in its messages strictly
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extension
        raise LedgerError(str(path), [Problem("(ledger)", str(error), CURES.get(code, RESTORE))]) from error


def connect(path: Path) -> sqlite3.Connection:
    """Opens a ledger, made if it is not there.

    Raises:
        LedgerError: the file is no ledger, damaged, one of another version, or cannot be opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise LedgerError(str(path), [Problem("(ledger)", "a folder", "a ledger of trainer label: another --ledger")])
    with reported(path):
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        with reported(path):
            connection.execute("PRAGMA foreign_keys = ON")
            _create_if_new(connection)
            _check(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")  # last, for it changes the file
    except InputError:
        connection.close()
        raise
    return connection


def _create_if_new(connection: sqlite3.Connection) -> None:
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        return
    forbidden = "".join(
        f"CREATE TRIGGER {table}_no_{what.lower()} BEFORE {what} ON {table} "
        "BEGIN SELECT RAISE (ABORT, 'a ledger is only added to'); END;\n"
        for table in TABLES
        for what in ("UPDATE", "DELETE")
    )
    connection.executescript(f"BEGIN;\n{_CREATE}{forbidden}")
    for name, value in (("schema_version", SCHEMA_VERSION), ("id", secrets.token_hex(4))):
        connection.execute("INSERT INTO about VALUES (?, ?)", (name, json.dumps(value)))
    connection.execute("COMMIT")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuses what is not a whole ledger of this version, before anything is read from it or paid on its word."""
    problems = list(_version_problems(connection)) or list(_damage(connection))
    if problems:
        raise LedgerError(str(path), problems)


def _version_problems(connection: sqlite3.Connection) -> Iterator[Problem]:
    if not connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'about'").fetchone()[0]:
        yield Problem("(ledger)", "a database without the table about", "a ledger of trainer label: another --ledger")
        return
    found = dict(connection.execute("SELECT name, value FROM about"))
    version, name = _json(found.get("schema_version")), _json(found.get("id"))
    if version != SCHEMA_VERSION:
        yield Problem("schema_version", str(found.get("schema_version")), f"{SCHEMA_VERSION}; {RESTORE}")
    elif not isinstance(name, str):
        yield Problem("about.id", str(found.get("id")), f"the ledger's name; {RESTORE}")


def _damage(connection: sqlite3.Connection) -> Iterator[Problem]:
    """What SQLite itself finds, tables that are not ours, and rows that no `Ledger` has written."""
    for (found,) in connection.execute("PRAGMA quick_check(5)"):
        if found != "ok":
            yield Problem("(ledger)", str(found), RESTORE)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        _create_if_new(new)
        wanted = dict(new.execute(_SCHEMA).fetchall())
    found = dict(connection.execute(_SCHEMA).fetchall())
    for name in sorted(wanted):
        if found.get(name) != wanted[name]:
            yield Problem(name, "changed" if name in found else "missing", f"as trainer label made it; {RESTORE}")
            return  # no query below means anything
    for table, rule in _ROWS.items():
        (count,) = connection.execute(f"SELECT count(*) FROM {table} WHERE ({rule}) IS NOT 1").fetchone()  # noqa: S608 - ours
        if count:
            yield Problem(table, f"{count} rows that trainer label never writes", RESTORE)
    orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
    if orphans:
        yield Problem(str(orphans[0][0]), f"{len(orphans)} rows of a call or asking that is not there", RESTORE)


def _json(text: object) -> object:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
