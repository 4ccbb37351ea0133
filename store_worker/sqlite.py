"""The journal on disk: SQLite through apsw, one file, one writer, every commit synced.

The exclusive lock is taken when the file is opened and held for life (RULES 8), so there is one writer, and RULES 14
holds of itself: seqs are given inside the only transaction there can be.

What a failure means is decided by when it comes. Before COMMIT, SQLite's rollback leaves nothing. In COMMIT, a full
disk means that the last page of the log, the one that makes the transaction count, was not written: rolled back.
Anything else in COMMIT (a failed sync above all: the kernel may have written the pages or dropped them) is an
unknown outcome, and this process must not go on: only a fresh look at the file can tell.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw

from restante.wire.limits import MAILBOX_UNREAD_MAX
from restante.wire.store_link import CountMailbox, Failed, MailboxCounted, PageRead, ReadPage, ReadStatus, StatusRead
from runtime.sqlite_copy import Copy
from store_worker.journal import JournalError, OutcomeUnknown, RolledBack, Started, Unusable, Write, Written
from store_worker.sqlite_index import Bounds, Index
from store_worker.sqlite_poison import SETTLE, Suspicion
from store_worker.sqlite_reads import Reads
from store_worker.sqlite_schema import damaged, fetch, open_database
from store_worker.sqlite_writes import Writer

T = TypeVar("T")


class SqliteJournal:
    """A journal in one SQLite file."""

    def __init__(
        self,
        path: Path,
        *,
        unread_max: int = MAILBOX_UNREAD_MAX,
        vfs: str | None = None,
        bounds: Bounds = Bounds(),  # noqa: B008 — frozen
    ) -> None:
        """Open `path`, making it if there is none. Raises Unusable. `vfs` names an apsw VFS, for tests."""
        self._path = path
        self._db = open_database(path, vfs)
        self._index = Index(self._db, bounds, unread_max)
        self._reads = Reads(self._db, self._index)
        self._suspicion = Suspicion()
        self._owed: dict[str, tuple[int, bytes]] = {}
        """Generations, with their nonces, that a full disk had no room for."""
        self._high = 0
        self._stored_at_us = 0

    def start(self) -> Started:
        def count() -> Started:
            sql = "SELECT history, epoch, high, stored_at_us, unsettled FROM meta"
            ((history, epoch, self._high, self._stored_at_us, unsettled),) = fetch(self._db, sql)
            self._suspicion = Suspicion.read(self._db, unsettled)
            self._index.replay()
            self._db.execute("UPDATE meta SET epoch = epoch + 1, unsettled = unsettled + 1")
            generations = dict(fetch(self._db, "SELECT name, generation FROM brokers"))
            return Started(epoch + 1, history, self._high, generations)

        return self._transaction(count)

    def open(self, name: str, nonce: bytes) -> int:
        row = self._reading(lambda: self._db.execute(_SELECT_BROKER, (name,)).fetchone())
        generation, last = self._owed.get(name) or row or (0, b"")
        if nonce == last:
            return int(generation)
        generation += 1
        try:
            self._durably(_UPSERT_BROKER, (name, generation, nonce))
            self._owed.pop(name, None)
        except RolledBack as error:
            if error.code != "storage_full":
                raise
            # A full disk has no room to count, and reading must go on. The epoch is durable, and everything said on
            # the link bears it: so this generation serves until the epoch ends, or is counted by the next commit.
            self._owed[name] = (generation, nonce)
        return int(generation)

    def commit(self, writes: Sequence[Write], now_us: int) -> list[Written]:
        if not self._suspicion.awake:
            return self._commit(writes, now_us)
        try:
            written = [self._suspicion.commit(w, partial(self._commit_one, now_us), self._durably) for w in writes]
        except RolledBack as error:  # one message was: those before it are stored
            raise RolledBack("unavailable", _PERHAPS_IN_PART) from error
        with contextlib.suppress(RolledBack):  # then it stays suspicious, and slow; what was stored is stored
            self._settle()
        return written

    def page(self, query: ReadPage) -> tuple[PageRead, bytes]:
        return self._reading(lambda: self._reads.page(query, self._high))

    def status(self, query: ReadStatus) -> StatusRead | Failed:
        return self._reading(lambda: self._reads.status(query))

    def count(self, query: CountMailbox) -> MailboxCounted:
        mailbox = self._reading(lambda: self._index.mailboxes.of(query.mailbox))
        return MailboxCounted(unread=mailbox.unread, total=mailbox.total)

    def catch_up(self) -> bool:
        def step() -> None:
            self._index.step()
            indexed = self._index.save(self._high)
            self._db.execute("UPDATE meta SET indexed = ?", (indexed,))

        if self._index.tail.rows:
            self._transaction(step)
            self._index.settle()
        return self._index.tail.rows > 0

    def copy_to(self, path: Path) -> Copy:
        """Begin a backup, to be stepped between commits. Raises BackupFailed."""
        return Copy(self._db, path)

    def close(self) -> None:
        """Note that this epoch ended well, and let go of the file and its lock."""
        with contextlib.suppress(apsw.Error, JournalError):
            if not (self._suspicion.awake or self._suspicion.settled):
                self._settle()
        with contextlib.suppress(apsw.Error):
            self._db.close()

    # --- transactions and errors --------------------------------------------------------------------------

    def _commit_one(self, now_us: int, write: Write) -> Written:
        (written,) = self._commit([write], now_us)
        return written

    def _commit(self, writes: Sequence[Write], now_us: int) -> list[Written]:
        now_us = max(now_us, self._stored_at_us)
        suspicion = self._suspicion
        settling = not (suspicion.awake or suspicion.settled)
        writer = Writer(self._db, self._index, self._high, now_us, suspicion.poison)

        def execute() -> list[Written]:
            written = [writer.write(write) for write in writes]
            writer.finish()
            for name, (generation, nonce) in self._owed.items():
                self._db.execute(_UPSERT_BROKER, (name, generation, nonce))
            if settling:
                self._db.execute(SETTLE)
            return written

        written = self._transaction(execute)
        self._high, self._stored_at_us = writer.high, now_us
        self._index.settle()
        self._owed.clear()
        if settling:
            suspicion.settle()
        return written

    def _settle(self) -> None:
        self._durably(SETTLE, ())
        self._suspicion.settle()

    def _durably(self, sql: str, bindings: Sequence[int | str | bytes]) -> None:
        self._transaction(lambda: self._db.execute(sql, bindings))

    def _transaction(self, work: Callable[[], T]) -> T:
        """Do work in a transaction, durably. Raises JournalError; what else work raises goes through, rolled back."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            done = work()
        except apsw.Error as error:
            self._roll_back()
            raise self._rolled_back(error) from error
        except BaseException:
            self._roll_back()
            raise
        try:
            self._db.execute("COMMIT")
        except apsw.FullError as error:
            self._roll_back()
            raise self._rolled_back(error) from error
        except apsw.Error as error:
            raise OutcomeUnknown("storage_failed", f"{self._path}: the commit failed: {error}") from error
        return done

    def _roll_back(self) -> None:
        self._index.restore(self._high)
        if self._db.in_transaction:  # SQLite may have rolled back by itself
            self._db.execute("ROLLBACK")

    def _reading(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except apsw.Error as error:
            raise self._rolled_back(error) from error

    def _rolled_back(self, error: apsw.Error) -> JournalError:
        if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
            return Unusable("storage_failed", damaged(self._path, error))
        if isinstance(error, apsw.FullError):
            return RolledBack("storage_full", "The server's disk is full; nothing was stored.")
        if isinstance(error, _DISK_ERRORS):
            return RolledBack("storage_failed", f"The server's disk failed ({error}); nothing was stored.")
        raise error  # our bug: a statement that is wrong, a constraint that was not kept


_PERHAPS_IN_PART = (
    "The server's disk is full, or failed, while it stored message by message after several crashes; whether this was"
    " stored is not known."
)
_SELECT_BROKER = "SELECT generation, nonce FROM brokers WHERE name = ?"
_UPSERT_BROKER = """
    INSERT INTO brokers (name, generation, nonce) VALUES (?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET generation = excluded.generation, nonce = excluded.nonce
"""
_DISK_ERRORS = (apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError, apsw.NoMemError)
