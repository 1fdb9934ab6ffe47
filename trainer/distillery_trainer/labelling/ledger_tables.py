"""The ledger's tables: rows are added and never changed, which the database itself refuses."""

import json
import secrets
import sqlite3
from pathlib import Path

from distillery_runtime.errors import InputError, Problem

SCHEMA_VERSION = 1
TABLES = ("about", "askings", "calls", "outcomes", "jobs")

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


def connect(path: Path) -> sqlite3.Connection:
    """Opens a ledger, made if it is not there.

    Raises:
        InputError: the file is no ledger, or one of another version.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")
        _create_if_new(connection)
        _check(connection, path)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise InputError(str(path), [Problem("(file)", str(error), "a ledger of trainer label")]) from error
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
    found = connection.execute("SELECT value FROM about WHERE name = 'schema_version'").fetchone()
    if found is None or json.loads(found[0]) != SCHEMA_VERSION:
        problem = Problem("schema_version", str(found and found[0]), str(SCHEMA_VERSION))
        raise InputError(str(path), [problem])
