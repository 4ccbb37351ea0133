"""Backups of the accounts: how one is made while workers serve, and what becomes of one that is restored.

Any worker makes it, over a connection of its own: one long read, which in WAL holds up nobody, so the copy is of the
moment at which it began.

For whoever restores, as a process of its own, since the command imports no service; the figures come as JSON:

    python -P -m auth_service.backup check FILE     reads a backup through
    python -P -m auth_service.backup adopt FILE     makes a copied backup the accounts of a restored server
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import apsw

from auth_service import schema
from auth_service.sqlite import BUSY_MS
from runtime import sqlite_copy
from runtime.control import BackupFailed, Facts, Job
from runtime.errors import SetupError
from runtime.sqlite_copy import Copy

NUMBER_LEAP: Final = 1 << 32
"""By how much the numbers of accounts and tokens leap at a restore: past all that were given after the backup was made,
so that none is ever given twice (RULES 13), and whoever still holds one in memory holds nobody else's."""


def make(database: Path, path: Path, job: Job) -> Facts:
    """Make a backup of the accounts at `path`, and return its figures. Raises BackupFailed."""
    try:
        source = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)
    except apsw.Error as error:
        raise BackupFailed("storage_failed", f"{database} can't be read: {error}.") from error
    try:
        source.set_busy_timeout(BUSY_MS)
        copied = _copy(source, path, job)
    except apsw.Error as error:
        raise BackupFailed("storage_failed", f"{database} can't be read: {error}.") from error
    finally:
        source.close()
    sqlite_copy.settle(copied)
    return figures(path)


def _copy(source: apsw.Connection, path: Path, job: Job) -> Path:
    """Copy everything as it is now. In a read that lasts: SQLite would else begin again at each worker's change."""
    source.execute("BEGIN")
    source.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    copy = Copy(source, path)
    try:
        while not copy.step():
            job.report(*copy.progress)
    except BackupFailed:
        copy.abandon()
        raise
    source.execute("ROLLBACK")
    return copy.path


def figures(path: Path, *, thorough: bool = False) -> Facts:
    """What a settled backup holds; `thorough`, every index is held against its table. Raises BackupFailed."""
    db = sqlite_copy.open_settled(path)
    try:
        application, layouts = schema.APPLICATION_ID, len(schema.MIGRATIONS)
        layout = sqlite_copy.check(db, path, application, layouts) if thorough else db.pragma("user_version")
        ((accounts, highest),) = db.execute("SELECT count(*), coalesce(max(account), 0) FROM accounts").fetchall()
        tokens = db.execute("SELECT count(*) FROM tokens").get
    except apsw.Error as error:
        raise BackupFailed("damaged", f"{path} is damaged: {error}.") from error
    finally:
        db.close()
    return {"layout": layout, "accounts": accounts, "tokens": tokens, "account_max": highest}


def adopt(path: Path) -> Facts:
    """Make a copied backup the accounts of a restored server: numbers go on far behind. Raises BackupFailed."""
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    except apsw.Error as error:
        raise BackupFailed("storage_failed", f"{path} can't be written: {error}.") from error
    try:
        schema.prepare(db, path)
        for table in ("accounts", "tokens"):
            db.execute(
                "INSERT INTO sqlite_sequence SELECT ?1, 0 WHERE ?1 NOT IN (SELECT name FROM sqlite_sequence)", (table,)
            )
        db.execute("UPDATE sqlite_sequence SET seq = seq + ?", (NUMBER_LEAP,))
        db.execute("PRAGMA journal_mode = DELETE").fetchall()
    except SetupError as error:
        raise BackupFailed("damaged", str(error)) from error
    except apsw.Error as error:
        raise BackupFailed("storage_failed", f"{path} can't be written: {error}.") from error
    finally:
        db.close()
        path.with_name(path.name + ".lock").unlink(missing_ok=True)
    return figures(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Do as the command line says; the exit code."""
    return sqlite_copy.run("auth_service.backup", sys.argv[1:] if argv is None else argv, _check, adopt)


def _check(path: Path) -> Facts:
    return figures(path, thorough=True)


if __name__ == "__main__":
    sys.exit(main())
