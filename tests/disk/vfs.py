"""A disk that fails on demand, and writes down all that is done to it.

`Disk` is an apsw VFS over the real one: SQLite reads and locks real files, so what it sees is what a process sees while
the power is on. Every write, truncation, sync, creation and deletion is written down in `log`; `tests.disk.platter`
tells from it what a power cut would have left at any moment.

`fault` is asked before each of them, and raises what the disk would answer: apsw.FullError, apsw.IOError. A write that
fails may have written a part of its bytes before, and a sync that fails loses what it should have kept: the kernel
marks such pages clean, so that they are read as if written, and never are (fsync(2), "fsyncgate").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Literal

import apsw
from msgspec import Struct

Kind = Literal["create", "write", "truncate", "sync", "lose", "delete", "sync_directory"]


class Op(Struct, frozen=True):
    """One thing done to the disk."""

    kind: Kind
    file: str
    """The file's name, without its directory: a database and what belongs to it lie in one."""
    offset: int = 0
    """Where a write begins; the length that a truncation leaves."""
    data: bytes = b""


Fault = Callable[[Op], None]
"""Returns if the disk does as told; else raises an apsw.Error."""

_names = count(1)


def healthy(_op: Op) -> None:
    """No fault."""


class Disk(apsw.VFS):
    """Registered under `name` until `unregister`."""

    def __init__(self) -> None:
        self.name = f"power-{next(_names)}"
        self.fault: Fault = healthy
        self.log: list[Op] = []
        self._present: set[str] = set()
        super().__init__(self.name, base="")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        file = DiskFile(self, Path(path).name, name, flags)
        if path and file.name not in self._present:
            self._present.add(file.name)
            self.log.append(Op("create", file.name))
        return file

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        name = Path(filename).name
        self.fault(Op("delete", name))
        super().xDelete(filename, syncdir)
        self._present.discard(name)
        self.log.append(Op("delete", name))
        if syncdir:
            self.log.append(Op("sync_directory", name))


class DiskFile(apsw.VFSFile):
    """A file of a `Disk`."""

    def __init__(self, disk: Disk, name: str, full: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self.name = name
        self._disk = disk
        self._directory_synced = not name.endswith(("-wal", "-journal"))
        super().__init__("", full, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        op = Op("write", self.name, offset, bytes(data))
        try:
            self._disk.fault(op)
        except apsw.IOError:
            half = op.data[: len(op.data) // 2]
            super().xWrite(half, offset)
            self._disk.log.append(Op("write", self.name, offset, half))
            raise
        super().xWrite(data, offset)
        self._disk.log.append(op)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        op = Op("truncate", self.name, newsize)
        self._disk.fault(op)
        super().xTruncate(newsize)
        self._disk.log.append(op)

    def xSync(self, flags: int) -> None:  # noqa: N802
        op = Op("sync", self.name)
        try:
            self._disk.fault(op)
        except apsw.Error:
            self._disk.log.append(Op("lose", self.name))
            raise
        super().xSync(flags)
        self._disk.log.append(op)
        if not self._directory_synced:  # SQLite's own VFS syncs the directory with a new journal's first sync
            self._directory_synced = True
            self._disk.log.append(Op("sync_directory", self.name))


@contextmanager
def disk() -> Iterator[Disk]:
    """A disk that is unregistered at the end."""
    made = Disk()
    try:
        yield made
    finally:
        made.unregister()
