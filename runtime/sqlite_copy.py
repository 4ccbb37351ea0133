"""A consistent copy of a SQLite database that is in use, with SQLite's own backup (https://sqlite.org/backup.html).

    Copy      pages in steps, between the source's commits; what the source's connection changes meanwhile SQLite writes
              into the copy as well, so the copy is of the moment at which its last step ended
    settle    the finished copy becomes one file that needs no log beside it; is read through; is on disk; has its name

A step takes as many pages as were added since the last one, and STEP_PAGES more: so it ends, however busy the source.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import apsw
import msgspec

from runtime.control import BackupFailed, Done, Facts, Refused

STEP_PAGES: Final = 256
"""1 MiB, a millisecond or two: who sends meanwhile waits no longer than for somebody else's commit."""

UNSETTLED: Final = ".unsettled"
"""What a copy's name ends in until it is whole, checked and on disk."""


class Copy:
    """A copy under way. All calls come from the thread of the source's connection."""

    def __init__(self, source: apsw.Connection, path: Path) -> None:
        """Begin a copy, in a new file of mode 0600 beside `path`. Raises BackupFailed if there is one, or no room."""
        self.path = path.with_name(path.name + UNSETTLED)
        _make(path, self.path)
        self._pages = 0
        self._step_pages = STEP_PAGES
        self._copy: apsw.Connection | None = None
        try:
            self._copy = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
            # No journal and no sync: a copy that fails is thrown away, and `settle` syncs what is whole.
            for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = OFF", "synchronous = OFF"):
                self._copy.execute(f"PRAGMA {pragma}").fetchall()
            self._backup = self._copy.backup("main", source, "main")
        except apsw.Error as error:
            self.abandon()
            raise _failed(self.path, error) from error

    @property
    def progress(self) -> tuple[int, int]:
        """Pages done, and pages in all, as of the last step."""
        return self._pages - self._backup.remaining, self._pages

    def step(self) -> bool:
        """Copy some pages; True if that were the last. Raises BackupFailed, and then leaves no file."""
        assert self._copy is not None
        try:
            finished = self._backup.step(self._step_pages)
            pages = self._backup.page_count
            self._step_pages = STEP_PAGES + max(0, pages - (self._pages or pages))  # the first tells no growth
            self._pages = pages
            if finished:
                self._backup.finish()
                self._copy.close()
                self._copy = None
        except apsw.Error as error:
            self.abandon()
            raise _failed(self.path, error) from error
        return finished

    def abandon(self) -> None:
        """Throw away what there is."""
        if self._copy is not None:
            with contextlib.suppress(apsw.Error):
                self._copy.close(force=True)
            self._copy = None
        self.path.unlink(missing_ok=True)


def settle(unsettled: Path) -> None:
    """Check a finished copy, sync it, and give it its name. Raises BackupFailed, and then leaves no file."""
    try:
        db = apsw.Connection(str(unsettled), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            db.execute("PRAGMA journal_mode = DELETE").fetchall()
            found = db.execute("PRAGMA quick_check(1)").get
        finally:
            db.close()
        if found != "ok":
            raise BackupFailed("storage_failed", f"The copy is damaged ({found}): look to the disk.")
        _sync(unsettled)
        unsettled.rename(unsettled.with_name(unsettled.name.removesuffix(UNSETTLED)))
        _sync(unsettled.parent)
    except (apsw.Error, OSError) as error:
        unsettled.unlink(missing_ok=True)
        raise _failed(unsettled, error) from error
    except BackupFailed:
        unsettled.unlink(missing_ok=True)
        raise


def open_settled(path: Path) -> apsw.Connection:
    """A settled copy, to be read only: nothing is made beside it. Raises BackupFailed."""
    try:
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        return apsw.Connection(f"{path.absolute().as_uri()}?immutable=1", flags=flags)
    except apsw.Error as error:
        raise _failed(path, error) from error


def check(db: apsw.Connection, path: Path, application_id: int, layout_max: int) -> int:
    """Read a settled copy through, indexes held against tables; its layout. Raises BackupFailed."""
    try:
        if db.pragma("application_id") != application_id:
            raise BackupFailed("wrong_file", f"{path} is not a database of this service.")
        layout = int(db.pragma("user_version"))
        if layout > layout_max:
            raise BackupFailed("too_new", f"{path} was written by a newer version of Restante. Use that version.")
        found = db.execute("PRAGMA integrity_check(1)").get
    except apsw.Error as error:
        raise BackupFailed("damaged", f"{path} is damaged: {error}.") from error
    if found != "ok":
        raise BackupFailed("damaged", f"{path} is damaged: {found}.")
    return layout


def _make(path: Path, unsettled: Path) -> None:
    """The new file, which nobody else can read. Raises BackupFailed."""
    if path.exists():
        raise BackupFailed("exists", f"{path} exists: a backup overwrites nothing.")
    try:
        os.close(os.open(unsettled, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise BackupFailed("storage_failed", f"Can't write {unsettled}: {error.strerror}.") from error


def _failed(path: Path, error: Exception) -> BackupFailed:
    if isinstance(error, apsw.FullError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return BackupFailed("storage_full", f"There is no room for a backup at {path.parent}.")
    return BackupFailed("storage_failed", f"The copy to {path.parent} failed: {error}.")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- for whoever restores ---------------------------------------------------------------------------------


def run(
    prog: str, argv: Sequence[str], check_file: Callable[[Path], Facts], adopt_file: Callable[[Path], Facts]
) -> int:
    """The command line of a service's backups: `check FILE` or `adopt FILE`. Figures on stdout, as JSON; exit code 0.

    What fails is told there too, as `Refused` is on the control socket, with exit code 1.
    """
    work = {"check": check_file, "adopt": adopt_file}
    if len(argv) != 2 or argv[0] not in work:
        sys.stderr.write(f"usage: python -P -m {prog} check|adopt FILE\n")
        return 2
    reply: Done | Refused
    try:
        reply = Done(work[argv[0]](Path(argv[1])))
    except BackupFailed as failed:
        reply = Refused(failed.code, failed.text)
    sys.stdout.write(msgspec.json.encode(reply).decode() + "\n")
    return 0 if isinstance(reply, Done) else 1
