"""SQLite's log: after a sync that failed, and after somebody or something has damaged it.

When a sync fails the kernel calls the pages clean that it could not write: they are read as if they were on disk, and
no later sync brings them there. SQLite takes what it reads in the log for committed, and appends behind it; when the
power goes, the log ends at the hole, and all that was answered since is lost. Copying the log home does not help: until
the log is begun anew, what is left of it on disk would be played over newer pages. So the log itself is written anew.

SQLite takes a log that it can't read for empty, and reads one as far as the first frame that is wrong, as it must: a
power cut leaves such logs. `damage` tells when it was no power cut.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

CHUNK_BYTES: Final = 1 << 16
"""Read and written at a time. SQLite's own VFS writes less than 128 KiB in one call, and calls more a full disk."""

HEADER_BYTES: Final = 32

MAGIC: Final = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
"""A log's first bytes: https://sqlite.org/fileformat2.html#walformat"""


def damage(database: Path) -> str:
    """What shows that the log lost something that was committed; empty if nothing does.

    A log that is cut off, or wrong further on, shows nothing: it looks as after a power cut. Raises OSError.
    """
    log = database.with_name(f"{database.name}-wal")
    if not log.exists() or log.stat().st_size <= HEADER_BYTES:
        return ""  # the header is synced before the first frame is written
    with log.open("rb") as file:
        return "" if file.read(4) in MAGIC else "its log has no header"


def renew(database: Path, vfs: str | None = None) -> None:
    """Write the database's log over itself, byte for byte, and sync it: then what can be read of it is on disk.

    The caller has the database open, and holds the lock under which its log is written. Costs milliseconds: a log is
    some megabytes. Raises apsw.Error.
    """
    log = database.with_name(f"{database.name}-wal")
    if not log.exists():
        return
    file = apsw.VFSFile(vfs or "", str(log), [apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_WAL, 0])
    try:
        size = file.xFileSize()
        for offset in range(0, size, CHUNK_BYTES):
            file.xWrite(file.xRead(min(CHUNK_BYTES, size - offset), offset), offset)
        file.xSync(apsw.SQLITE_SYNC_NORMAL)
    finally:
        file.xClose()
