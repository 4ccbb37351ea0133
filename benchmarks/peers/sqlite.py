"""The other limit: the same rows into the same log by the same SQLite, and nothing else: no process beside the sender,
no check, no frame.

The log, its settings and the size of a lot are the store's own, imported from it. Commits are of 500 messages: a sender
with 1,000 unacknowledged has one half on the disk while the other is on its way. Two peers: the log alone (a message
and its unique key, all that *accepted* needs), and with an index by mailbox as one would make it, a row for each
delivery, in the same commit.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import apsw
import msgpack

from benchmarks.peers.flight import due_together
from benchmarks.peers.peer import Message, NotOffered, Peer, Server
from benchmarks.processes import folder_bytes
from store_worker.sqlite_schema import LOT, open_database

COMMIT: Final = 500

_MESSAGE: Final = "(?,?,1,'sender',?,NULL,?,?,NULL,?)"
_DELIVERY: Final = "(?,0,?,0)"


class Folder:
    """What stands for a server: the place of the database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.endpoint = str(folder / "restante.db")

    def pids(self) -> dict[str, int]:
        return {}

    def data_bytes(self) -> int:
        return folder_bytes(self._folder)

    def stop(self) -> None:
        pass


class SqliteClient:
    """Writes, and reads, by itself."""

    def __init__(self, endpoint: str, *, indexed: bool) -> None:
        self._path = Path(endpoint)
        self._indexed = indexed
        self._db: apsw.Connection | None = None
        self._seq = 0

    def prepare(self, mailboxes: int) -> None:
        self._db = open_database(self._path)
        self._recipients = [msgpack.packb(([f"m{number:04d}"], [number])) for number in range(mailboxes)]
        if self._indexed:
            self._db.execute(_DELIVERIES)
        self._seq = int(self._database.execute("SELECT coalesce(max(seq), 0) FROM messages").get)

    def send(self, messages: Sequence[Message]) -> None:
        for start in range(0, len(messages), COMMIT):
            self._commit(messages[start : start + COMMIT])

    def send_each(self, messages: Sequence[Message]) -> None:
        raise NotOffered("without a process that gathers them, each would be a sync of its own")

    def send_at(self, schedule: Iterable[tuple[float, Message]]) -> None:
        for messages in due_together(schedule):
            self._commit(messages)

    def send_to_all(self, body: bytes, mailboxes: int) -> None:
        if not self._indexed:
            raise NotOffered("it has no mailboxes")
        db = self._database
        with db:
            self._messages([Message(0, body)])
            self._deliveries([(number, self._seq) for number in range(mailboxes)])

    def open_mailboxes(self, mailboxes: int) -> None:
        if not self._indexed:
            raise NotOffered("it has no mailboxes")

    def drain(self, mailboxes: int, expected: int) -> int:
        db, count = self._database, 0
        for number in range(mailboxes):
            rows = db.execute(_PAGE, (number, -1)).fetchall()
            with db:
                db.execute("UPDATE deliveries SET read = 1, read_at_us = 1 WHERE mailbox = ? AND read = 0", (number,))
            count += len(rows)
        return count

    def follow(
        self, mailbox: int, got: Callable[[bytes], None], ready: Callable[[], None], stop: threading.Event
    ) -> None:
        raise NotOffered("nobody could be told")

    def newest(self, mailbox: int, count: int) -> int:
        if not self._indexed:
            raise NotOffered("it has no mailboxes")
        return len(self._database.execute(_PAGE, (mailbox, count)).fetchall())

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    @property
    def _database(self) -> apsw.Connection:
        assert self._db is not None, "prepare comes first"
        return self._db

    def _commit(self, messages: Sequence[Message]) -> None:
        """One transaction, synced."""
        first = self._seq + 1
        self._database.execute("BEGIN IMMEDIATE")
        self._messages(messages)
        if self._indexed:
            self._deliveries(sorted((message.mailbox, seq) for seq, message in enumerate(messages, first)))
        self._database.execute("COMMIT")

    def _messages(self, messages: Sequence[Message]) -> None:
        now_us = time.time_ns() // 1_000
        stem = (now_us // 1_000).to_bytes(6, "big") + os.urandom(6)  # ids ordered by time, as UUIDv7 are
        for start in range(0, len(messages), LOT):
            lot = messages[start : start + LOT]
            bindings: list[int | bytes] = []
            for mailbox, body in lot:
                self._seq += 1
                message_id = stem + (self._seq & 0xFFFFFFFF).to_bytes(4, "big")
                bindings += (self._seq, message_id, self._recipients[mailbox], now_us, now_us, body)
            self._database.execute(f"INSERT INTO messages VALUES {_values(_MESSAGE, len(lot))}", bindings)

    def _deliveries(self, rows: Sequence[tuple[int, int]]) -> None:
        for start in range(0, len(rows), LOT):
            lot = rows[start : start + LOT]
            bindings = [value for row in lot for value in row]
            self._database.execute(f"INSERT INTO deliveries VALUES {_values(_DELIVERY, len(lot))}", bindings)


_DELIVERIES: Final = """
    CREATE TABLE IF NOT EXISTS deliveries (
        mailbox INTEGER NOT NULL,
        read INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        read_at_us INTEGER NOT NULL,
        PRIMARY KEY (mailbox, read, seq)
    ) STRICT, WITHOUT ROWID
"""
_PAGE: Final = """
    SELECT m.seq, m.body FROM deliveries d JOIN messages m ON m.seq = d.seq
    WHERE d.mailbox = ? AND d.read = 0 ORDER BY d.seq DESC LIMIT ?
"""


def _values(row: str, count: int) -> str:
    return ",".join([row] * count)


class Sqlite:
    """SQLite by itself."""

    durable = True

    def __init__(self, key: str, name: str, promise: str, *, indexed: bool) -> None:
        self.key = key
        self.name = name
        self.promise = promise
        self._indexed = indexed

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return f"SQLite {apsw.sqlite_lib_version()}"

    def start(self, folder: Path) -> Server:
        return Folder(folder)

    def client(self, endpoint: str, number: int) -> SqliteClient:
        if number:
            raise NotOffered("one process writes a database")
        return SqliteClient(endpoint, indexed=self._indexed)


_PROMISE: Final = "Committed by SQLite and synced (WAL, `synchronous=FULL`), 500 messages a commit"
PEERS: Final[tuple[Peer, ...]] = (
    Sqlite("sqlite", "limit: SQLite, log and index", f"{_PROMISE}, with an index by mailbox.", indexed=True),
    Sqlite("sqlite-append", "limit: SQLite, the log alone", f"{_PROMISE}; no mailboxes, only the log.", indexed=False),
)
