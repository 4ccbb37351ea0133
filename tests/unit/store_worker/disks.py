"""Disks that fail: a VFS over apsw's own, whose files do as the test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import apsw

Fault = Callable[[str], None]
"""Called with the file's suffix before the call goes through; raises what the disk would answer."""

_names = count(1)


def healthy(_suffix: str) -> None:
    """No fault."""


def full(_suffix: str) -> None:
    """No room."""
    raise apsw.FullError("no space left")


class Disk(apsw.VFS):
    """A VFS whose writes and syncs can fail, and which remembers what was synced."""

    def __init__(self) -> None:
        self.name = f"disk-{next(_names)}"
        self.on_write: Fault = healthy
        self.on_sync: Fault = healthy
        self.synced: dict[str, bytes] = {}
        super().__init__(self.name, base="")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return DiskFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self.synced.pop(filename, None)

    def power_cut(self, into: Path) -> None:
        """Write what a power cut would have left to another directory."""
        for path, image in self.synced.items():
            (into / Path(path).name).write_bytes(image)


class DiskFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.on_write(self._suffix)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.on_sync(self._suffix)
        super().xSync(flags)
        self._disk.synced[self._path] = Path(self._path).read_bytes()

    @property
    def _suffix(self) -> str:
        return "wal" if self._path.endswith("-wal") else "db"


@contextmanager
def disk() -> Iterator[Disk]:
    made = Disk()
    try:
        yield made
    finally:
        made.unregister()
