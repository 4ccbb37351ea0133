"""The store's database file: how it is opened and locked, what is in it, how it came to be so.

    messages     the log: one row a message, in the order of seq, contents beside it
    runs         deliveries: a mailbox's unread are one range, and what was read is another (`store_worker.sqlite_runs`)
    mailboxes    what is counted a mailbox, so that "how many unread" and "is it full" cost the same at any size
                 `indexed`: how far its deliveries are in runs; it counts those, and no others
    brokers      generations, by name
    meta         one row: history, epoch, the high-water of seq, the last `stored_at_us`; `indexed`: how far the
                 deliveries of all mailboxes are in runs
    suspects     messages whose storing ended the process (`store_worker.sqlite_poison`); nearly always empty

The unique key is (id, sender), not (sender, id): the same promise, and two gains. Ids that clients make are
ordered by time (UUIDv7), so the index grows at its end whoever sends; and a mailbox's owner can name a message by
its id alone, without knowing whose account number it bears.

The log alone is complete: runs follow it, and are made from `recipients` (`store_worker.sqlite_index`), which
are msgpack `[names, mailboxes]`: names are labels that are never given twice, so a copy stays true.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import apsw

from runtime import wal
from store_worker.journal import Unusable
from store_worker.sqlite_runs import gather

APPLICATION_ID: Final = 0x52535431
"""`RST1` in the file's header: a database of somebody else's is never written to."""

CACHE_KIB: Final = 64 * 1024
"""The last leaf of every busy mailbox should stay in memory: 10,000 of them are 40 MB."""

STATEMENTS: Final = 512
"""Prepared statements kept: one a table and length of VALUES list."""

CHECKPOINT_PAGES: Final = 4_000
"""16 MB of log before its pages are copied home: the same leaf, written by several commits, is copied once."""

CHECKED_BYTES_MAX: Final = 64 << 20
"""A database up to this size is looked through at a start, some tenths of a second; in a larger one what is damaged is
found when it is read."""

MIGRATIONS: Final[tuple[str | Callable[[apsw.Connection], None], ...]] = (
    """
    CREATE TABLE meta (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        history BLOB NOT NULL CHECK (length(history) = 16),
        epoch INTEGER NOT NULL,
        high INTEGER NOT NULL,
        stored_at_us INTEGER NOT NULL,
        unsettled INTEGER NOT NULL
    ) STRICT;
    INSERT INTO meta VALUES (1, randomblob(16), 0, 0, 0, 0);

    CREATE TABLE messages (
        seq INTEGER PRIMARY KEY,
        id BLOB NOT NULL CHECK (length(id) = 16),
        sender INTEGER NOT NULL,
        sender_name TEXT NOT NULL,
        recipients BLOB NOT NULL,
        content_type TEXT,
        sent_at_us INTEGER NOT NULL,
        stored_at_us INTEGER NOT NULL,
        reply_to BLOB,
        body BLOB NOT NULL,
        UNIQUE (id, sender)
    ) STRICT;

    CREATE TABLE deliveries (
        mailbox INTEGER NOT NULL,
        read INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        read_at_us INTEGER NOT NULL,
        PRIMARY KEY (mailbox, read, seq)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE mailboxes (
        mailbox INTEGER PRIMARY KEY,
        delivered_through INTEGER NOT NULL,
        unread INTEGER NOT NULL CHECK (unread >= 0),
        total INTEGER NOT NULL CHECK (total >= unread),
        closed INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE brokers (
        name TEXT PRIMARY KEY,
        generation INTEGER NOT NULL,
        nonce BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE suspects (
        id BLOB NOT NULL,
        sender INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        PRIMARY KEY (id, sender)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE meta ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;
    UPDATE meta SET indexed = high;
    ALTER TABLE mailboxes ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE runs (
        mailbox INTEGER NOT NULL,
        read INTEGER NOT NULL,
        last INTEGER NOT NULL,
        first INTEGER NOT NULL,
        read_at_us INTEGER NOT NULL,
        distances BLOB NOT NULL,
        PRIMARY KEY (mailbox, read, last)
    ) STRICT, WITHOUT ROWID;
    """,
    gather,
)
"""Each step once, in order; `user_version` says how many were made. A step that was released is never edited."""


LOT: Final = 50
"""Rows in one statement: up to 1.6 times as fast as one at a time in large commits, and no faster beyond."""

Bindings = list[int | str | bytes | None]
T = TypeVar("T")


def fetch(
    db: apsw.Connection, sql: str, bindings: Sequence[int | str | bytes] | Mapping[str, int | str | bytes] = ()
) -> list[tuple[Any, ...]]:
    """Return all rows. The tables are STRICT: SQLite holds columns to their types, and here they are believed."""
    return cast("list[tuple[Any, ...]]", db.execute(sql, bindings).fetchall())


def lots(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut rows into lots of at most LOT."""
    return (rows[start : start + LOT] for start in range(0, len(rows), LOT))


def values(row: str, rows: int) -> str:
    """Return the VALUES list of so many rows."""
    return ",".join([row] * rows)


def open_database(path: Path, vfs: str | None = None) -> apsw.Connection:
    """Open the database, making it if there is none, and hold its exclusive lock for as long as it is open.

    Raises Unusable, in words for a person: in use by another process, not writable, damaged, not ours, too new.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():  # SQLite would make it readable for all; opening one that is in use would end its locks
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = apsw.Connection(str(path), vfs=vfs, statementcachesize=STATEMENTS)
    except (OSError, apsw.Error) as error:
        raise _unusable(path, error) from error
    try:
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # else to close what is damaged would write to it
        version = _look(db, path)
        _configure(db)
        _migrate(db, path, version, vfs)
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    except apsw.Error as error:
        db.close()
        raise _unusable(path, error) from error
    except Unusable:
        db.close()
        raise
    return db


def _look(db: apsw.Connection, path: Path) -> int:
    """Take the lock, see that the database is ours and sound, and return its version. Nothing is written.

    The lock mode comes before the first look: the log then needs no shared memory.
    """
    db.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    db.execute("BEGIN EXCLUSIVE")
    version, application = db.pragma("user_version"), db.pragma("application_id")
    empty = db.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    if application != APPLICATION_ID and not empty:
        raise Unusable("internal", f"{path} is a database of another program. Give another data directory.")
    if version > len(MIGRATIONS):
        raise Unusable(
            "internal",
            f"{path} was written by a newer version of Restante (layout {version}, this one knows"
            f" {len(MIGRATIONS)}). Use that version, or a backup from before it.",
        )
    if path.stat().st_size <= CHECKED_BYTES_MAX:
        found = db.execute("PRAGMA quick_check(1)").fetchone()
        if found != ("ok",):
            raise _unusable(path, apsw.CorruptError(str(found and found[0])))
    db.execute("ROLLBACK")
    if what := wal.damage(path):
        raise _unusable(path, apsw.CorruptError(what))
    return int(version)


def _configure(db: apsw.Connection) -> None:
    """Make commits durable, and quick."""
    for pragma in (
        "page_size = 4096",
        "journal_mode = WAL",
        "synchronous = FULL",
        f"cache_size = -{CACHE_KIB}",
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        "temp_store = MEMORY",
        "trusted_schema = OFF",
    ):
        db.execute(f"PRAGMA {pragma}").fetchall()


def _migrate(db: apsw.Connection, path: Path, version: int, vfs: str | None) -> None:
    """Bring the database to the newest version."""
    db.execute("BEGIN EXCLUSIVE")
    wal.renew(path, vfs)  # the store before this one may have ended because a sync failed
    for step in MIGRATIONS[version:]:
        if isinstance(step, str):
            db.execute(step)
        else:
            step(db)
    if version < len(MIGRATIONS):
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {len(MIGRATIONS)}")
    db.execute("COMMIT")


def _unusable(path: Path, error: Exception) -> Unusable:
    """Say what is wrong with a database, and what to do."""
    return Unusable("storage_failed", _sentence(path, error))


def _sentence(path: Path, error: Exception) -> str:
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return f"{path} is in use by another process: one store serves a database. Stop it, or give another."
    if isinstance(error, apsw.FullError):
        return f"There is no room for {path}: {error}. Free some space and start again; what is stored is safe."
    if isinstance(error, (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError, OSError)):
        return f"Can't write {path}: {error}. Make the directory writable for this user, or give another."
    return damaged(path, error)


def damaged(path: Path, error: Exception) -> str:
    """Say that a database can't be read, and what to do."""
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):  # SQLite calls an EIO in reading corruption too
        return (
            f"{path} is damaged, or its disk can't read it: {error}. Nothing was changed, and it is not served. Look to"
            " the disk; if that is well, keep a copy of the file, and restore a backup."
        )
    return f"{path} can't be used: {error}. Nothing is lost that was stored; look to the disk, and start again."
