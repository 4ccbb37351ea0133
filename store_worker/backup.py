"""Backups of the store: how one is made while it serves, and what becomes of one that is restored.

The database is locked for life (RULES 8), so it is the store itself that copies it: a few pages a turn of its loop,
between commits, in the loop's thread. What takes long and needs no order (reading the copy through, syncing it) is done
in the control socket's worker.

    control's worker      copy(path) waits ············································ settle, figures ─▶ Done
    the loop's thread            └─▶ CopyWanted ─▶ StepCopy, StepCopy, StepCopy … ─┘

For whoever restores, as a process of its own, since the command imports no service; the figures come as JSON:

    python -P -m store_worker.backup check FILE     reads a backup through
    python -P -m store_worker.backup adopt FILE     makes a copied backup the beginning of a new history
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import apsw

from runtime import sqlite_copy
from runtime.control import BackupFailed, Facts, Job
from runtime.sqlite_copy import Copy
from store_worker.journal import Unusable
from store_worker.sqlite_index import behind
from store_worker.sqlite_schema import APPLICATION_ID, MIGRATIONS, fetch, open_database

SEQ_LEAP: Final = 1 << 40
"""By how much a restored store's seqs leap: past all that were given after the backup was made (at 100,000 a second,
four months' worth), so that none is ever given twice (RULES 14). An acknowledgement made before the restore can then
not name another message. 2^53, which JavaScript can count to, leaves room for 8,000 restores."""


@runtime_checkable
class Copyable(Protocol):
    """A journal that can be copied while it is used."""

    def copy_to(self, path: Path) -> Copy:
        """Begin a copy. Raises BackupFailed."""


class Copying:
    """Copies of a journal: wanted in the control's worker, made in the loop's thread."""

    def __init__(self, journal: Copyable, wanted: Callable[[], None]) -> None:
        """`wanted` is called, in the worker's thread, when the loop is to call `step` until it says that it's over."""
        self._journal = journal
        self._tell_wanted = wanted
        self._lock = threading.Lock()
        self._wish: Wish | None = None
        self._copy: Copy | None = None
        self._closed = False

    def make(self, path: Path, job: Job) -> Facts:
        """Make a backup at `path`, and return its figures. Raises BackupFailed."""
        wish = Wish(path, job)
        with self._lock:
            if self._closed:
                raise _stopping()
            assert self._wish is None, "the control socket works on one request at a time"
            self._wish = wish
        self._tell_wanted()
        sqlite_copy.settle(wish.made.result())
        return figures(path)

    # --- in the loop's thread -----------------------------------------------------------------------------

    def step(self) -> bool:
        """Do a little of what is wanted. True if that is over, well or not."""
        wish = self._wish
        if wish is None:
            return True
        try:
            if self._copy is None:
                self._copy = self._journal.copy_to(wish.path)
            finished = self._copy.step()
            if not finished:
                wish.job.report(*self._copy.progress)
                return False
        except BackupFailed as failed:
            self._end(wish, failed)
            return True
        copied, self._copy, self._wish = self._copy.path, None, None
        wish.made.set_result(copied)
        return True

    def close(self) -> None:
        """Abandon what is under way: the store ends."""
        with self._lock:
            self._closed = True
        if self._wish is not None:
            self._end(self._wish, _stopping())

    def _end(self, wish: Wish, failed: BackupFailed) -> None:
        if self._copy is not None:
            self._copy.abandon()
        self._copy = self._wish = None
        wish.made.set_exception(failed)


class Wish:
    """A copy that is wanted, and what is set when it is made: where it lies, unsettled."""

    def __init__(self, path: Path, job: Job) -> None:
        self.path = path
        self.job = job
        self.made: Future[Path] = Future()


def _stopping() -> BackupFailed:
    return BackupFailed("unavailable", "The store is stopping.")


# --- what is in a backup ----------------------------------------------------------------------------------


def figures(path: Path, *, thorough: bool = False) -> Facts:
    """What a settled backup holds; `thorough`, every index is held against its table. Raises BackupFailed.

    `account_max` is the highest account that anything in it names: the accounts' backup must know it.
    """
    db = sqlite_copy.open_settled(path)
    try:
        layout = sqlite_copy.check(db, path, APPLICATION_ID, len(MIGRATIONS)) if thorough else db.pragma("user_version")
        ((history, high),) = fetch(db, "SELECT hex(history), high FROM meta")
        ((messages, sender_max),) = fetch(db, "SELECT count(*), coalesce(max(sender), 0) FROM messages")
        ((unread, mailbox_max),) = fetch(db, _MAILBOXES)
        tail = [mailbox for mailbox, _ in behind(db)]
    except apsw.Error as error:
        raise BackupFailed("damaged", f"{path} is damaged: {error}.") from error
    finally:
        db.close()
    return {
        "layout": layout,
        "history": history.lower(),
        "high": high,
        "messages": messages,
        "unread": unread + len(tail),
        "account_max": max(sender_max, mailbox_max, *tail),
    }


_MAILBOXES = "SELECT coalesce(sum(unread), 0), coalesce(max(mailbox), 0) FROM mailboxes"


def adopt(path: Path) -> Facts:
    """Begin a new history with a copied backup, so that no cursor of the old one is taken for one of the new.

    Raises BackupFailed.
    """
    try:
        db = open_database(path)
    except Unusable as error:
        raise BackupFailed(error.code, error.text) from error
    try:
        db.execute("UPDATE meta SET history = randomblob(16), high = high + ?, unsettled = 0", (SEQ_LEAP,))
        db.execute("PRAGMA journal_mode = DELETE").fetchall()
    except apsw.Error as error:
        raise BackupFailed("storage_failed", f"{path} can't be written: {error}.") from error
    finally:
        db.close()
    return figures(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Do as the command line says; the exit code."""
    return sqlite_copy.run("store_worker.backup", sys.argv[1:] if argv is None else argv, _check, adopt)


def _check(path: Path) -> Facts:
    return figures(path, thorough=True)


if __name__ == "__main__":
    sys.exit(main())
