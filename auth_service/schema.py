"""The accounts' tables, as numbered migrations, and how a database is brought up to date.

A database says in `user_version` how many of the migrations it has had. They run under a lock beside the file, which
covers the switch to WAL as well (SQLite answers that one with *busy* at once): two workers that start together both
find it done. A migration that was released is never changed; the next is appended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apsw

from runtime import wal
from runtime.errors import SetupError

MIGRATIONS: Final = (
    # Names are never given twice: an account's row stays. Ids are immutable and never given twice either (RULES 13).
    # An operation's key covers what was asked, see `accounts.operation_key`.
    """
    CREATE TABLE accounts (
        account        INTEGER PRIMARY KEY AUTOINCREMENT,
        name           TEXT NOT NULL UNIQUE CHECK (name = lower(name)),
        display_name   TEXT NOT NULL,
        password_hash  TEXT NOT NULL,
        role           TEXT NOT NULL DEFAULT 'member' CHECK (role IN ('member', 'admin')),
        status         TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled', 'deleted')),
        created_at_us  INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE tokens (
        token            INTEGER PRIMARY KEY AUTOINCREMENT,
        hash             BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
        account          INTEGER NOT NULL REFERENCES accounts (account),
        device           TEXT NOT NULL,
        created_at_us    INTEGER NOT NULL,
        expires_at_us    INTEGER NOT NULL,
        last_used_at_us  INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX tokens_of_account ON tokens (account);
    CREATE INDEX tokens_by_expiry ON tokens (expires_at_us);

    CREATE TABLE operations (
        op       BLOB PRIMARY KEY CHECK (length(op) = 32),
        account  INTEGER NOT NULL REFERENCES accounts (account),
        token    INTEGER NOT NULL,
        salt     BLOB NOT NULL,
        ended    TEXT NOT NULL,
        at_us    INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX operations_by_age ON operations (at_us);
    """,
)

APPLICATION_ID: Final = 0x52414343
"""`RACC` in a database's header: another program's file, or another service's, is not taken for ours."""


def prepare(connection: apsw.Connection, path: Path, vfs: str | None = None) -> None:
    """Bring the database up to date, and see that it is sound. `connection` has its busy timeout set.

    Raises SetupError for a database that is damaged, that is another program's, or that a newer version has migrated;
    apsw.Error for what else SQLite meets.
    """
    with _lock(path.with_name(path.name + ".lock")):
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # else to close what is damaged would write to it
        version = _version(connection, path)
        found = connection.execute("PRAGMA quick_check(1)").get
        what = wal.damage(path) if found == "ok" else str(found)
        if what:
            raise damaged(path, what)
        connection.pragma("journal_mode", "wal")
        if version < len(MIGRATIONS):
            _migrate(connection, version)
        with contextlib.suppress(apsw.BusyError):  # whoever is in the way has seen to it at its own start
            renew_log(connection, path, vfs)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)


def renew_log(connection: apsw.Connection, path: Path, vfs: str | None) -> None:
    """See that all that is read is on disk, before anything is appended to it: a sync may have failed before.

    Raises apsw.BusyError if another worker is changing something.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        wal.renew(path, vfs)
    finally:
        connection.execute("ROLLBACK")


def damaged(path: Path, what: str) -> SetupError:
    """What to tell somebody whose database is broken."""
    return SetupError(
        f"The accounts' database {path} is damaged ({what}); nothing was changed. "
        "Restore it from a backup, its -wal file with it, or move both away to begin with no accounts."
    )


def _version(connection: apsw.Connection, path: Path) -> int:
    version = int(connection.pragma("user_version"))
    if version > len(MIGRATIONS):
        raise SetupError(
            f"{path} was made by a newer version (schema {version}, this one knows {len(MIGRATIONS)}); "
            "nothing was changed. Start that version, or restore the backup made before it."
        )
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    if tables and connection.pragma("application_id") != APPLICATION_ID:
        raise SetupError(f"{path} is not a database of accounts; nothing was changed. Give another directory.")
    return version


def _migrate(connection: apsw.Connection, version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for migration in MIGRATIONS[version:]:
            connection.execute(migration)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock; a process that dies lets go of it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
