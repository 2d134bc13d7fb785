"""What the application must not lose, in SQLite: ticks, reports, notifications."""

import json
import sqlite3
import threading
import time

SCHEMA = """
CREATE TABLE IF NOT EXISTS ticks (
    id            INTEGER PRIMARY KEY,
    instrument_id INTEGER NOT NULL,
    ts            TEXT NOT NULL,
    price         REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS ticks_by_instrument ON ticks (instrument_id, ts, id);
CREATE TABLE IF NOT EXISTS reports (
    id              TEXT PRIMARY KEY,
    user            TEXT NOT NULL,
    idempotency_key TEXT,
    params          TEXT NOT NULL,
    report          TEXT NOT NULL,
    UNIQUE (user, idempotency_key)
);
CREATE TABLE IF NOT EXISTS notifications (
    id       TEXT PRIMARY KEY,
    user     TEXT,
    job      TEXT,
    status   TEXT NOT NULL,
    link     TEXT,
    received TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS notifications_by_user ON notifications (user, received);
"""


class Store:
    """One connection behind one lock: SQLite writes one at a time anyhow."""

    def __init__(self, path):
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            path, timeout=10, isolation_level=None, check_same_thread=False
        )
        self._connection.row_factory = sqlite3.Row
        _use_wal(self._connection)
        # An answered tick survives a power cut, not only a crash of the process.
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(SCHEMA)

    def close(self):
        self._connection.close()

    def add_tick(self, instrument_id, ts, price):
        self._write(
            "INSERT INTO ticks (instrument_id, ts, price) VALUES (?, ?, ?)",
            (instrument_id, ts, price),
        )

    def ticks(self, instrument_id, limit):
        """The newest ticks, oldest of them first."""
        rows = self._read(
            "SELECT ts, price FROM ticks WHERE instrument_id = ? ORDER BY ts DESC, id DESC LIMIT ?",
            (instrument_id, limit),
        )
        return [[row["ts"], row["price"]] for row in reversed(rows)]

    def add_report(self, report, key, params):
        # Another process on the same file may have been faster: the first one stays.
        self._write(
            "INSERT OR IGNORE INTO reports (id, user, idempotency_key, params, report)"
            " VALUES (?, ?, ?, ?, ?)",
            (report["report_id"], report["user_id"], key, params, json.dumps(report)),
        )

    def report(self, user, key):
        """(params, report) stored under this user's idempotency key, or None."""
        rows = self._read(
            "SELECT params, report FROM reports WHERE user = ? AND idempotency_key = ?",
            (user, key),
        )
        return (rows[0]["params"], json.loads(rows[0]["report"])) if rows else None

    def owner_of_key(self, key):
        """The one user who sent this idempotency key, or None when unknown or ambiguous."""
        rows = self._read("SELECT user FROM reports WHERE idempotency_key = ? LIMIT 2", (key,))
        return rows[0]["user"] if len(rows) == 1 else None

    def add_notification(self, notification):
        # Senders of webhooks repeat themselves; the id says so.
        self._write(
            "INSERT OR IGNORE INTO notifications (id, user, job, status, link, received)"
            " VALUES (:id, :user, :job, :status, :link, :received)",
            notification,
        )

    def notifications(self, user, limit):
        """The newest notifications of a user, newest first."""
        rows = self._read(
            "SELECT id, job, status, link, received FROM notifications"
            " WHERE user = ? ORDER BY received DESC, rowid DESC LIMIT ?",
            (user, limit),
        )
        return [dict(row) for row in rows]

    def _write(self, statement, values):
        with self._lock:
            self._connection.execute(statement, values)

    def _read(self, statement, values):
        with self._lock:
            return self._connection.execute(statement, values).fetchall()


def _use_wal(connection, patience=10):
    """SQLite's own timeout does not cover this one statement: several processes that start
    on a new file at the same time must try again themselves."""
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
