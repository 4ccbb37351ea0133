"""How a client finds the server on its own machine: each server leaves its addresses in a file of its own.

`chat serve` announces in `servers/` of the user's state folder; a server that runs for the whole machine (a system
unit, a container whose folder is mounted) in `/run/restante/address`. The addresses hold a public key and no secret.

Of several servers the newest is found, and when it ends, the one before it. A server holds a lock on its file while it
lives, so one that was killed outright is not taken for one that runs. The machine's file has no lock: whoever connects
finds out.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

from restante.files import read_file
from restante.places import in_user_state
from restante.wire.address import Address, Announcement, parse_announcement

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = "servers"
SYSTEM_FILE: Final[str | os.PathLike[str]] = "/run/restante/address"


class Announced:
    """A server's announcement: it stands until `withdraw`, or until the process that made it is gone."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def withdraw(self) -> None:
        """Take it back, unless another file has taken its place. Raises OSError."""
        try:
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self.path).st_ino == os.fstat(self._descriptor).st_ino:  # noqa: PTH116 - see places
                    os.unlink(self.path)  # noqa: PTH108
        finally:
            os.close(self._descriptor)


def announce(here: Address, public: Address) -> Announced:
    """Leave a server's addresses for this user's clients. Removes what dead servers left. Raises OSError."""
    import fcntl

    folder = in_user_state(FOLDER)
    os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103
    for path in _files(folder):
        _remove_if_dead(path)
    # Two servers of one key may live beside each other (a copied folder); two on one port can't.
    path = f"{folder}/{here.port}-{here.key.hex()}"
    fresh = f"{folder}/.{os.getpid()}.new"
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, str(Announcement(here=here, public=public)).encode())
        os.utime(descriptor, ns=(now_ns := time.time_ns(), now_ns))  # finer than the kernel's own: it tells the newest
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # before it has its name: nobody sees it unlocked
        os.replace(fresh, path)  # noqa: PTH105
    except BaseException:
        os.close(descriptor)
        raise
    return Announced(path, descriptor)


def find_local(key: bytes | None = None) -> Announcement | None:
    """What a server on this machine announced, that of `key` if one is given; None if there is none.

    The user's own, of several the newest, before the machine's.
    """
    for announcement in (*_living(in_user_state(FOLDER)), _read(SYSTEM_FILE)):
        if announcement is not None and key in (None, announcement.here.key):
            return announcement
    return None


def _living(folder: str) -> Iterator[Announcement | None]:
    """What servers that live have announced, the newest first."""
    aged = []
    for path in _files(folder):
        with contextlib.suppress(OSError):  # it ended while we looked
            aged.append((os.stat(path).st_mtime_ns, path))  # noqa: PTH116
    for _, path in sorted(aged, reverse=True):
        if not _is_dead(path):
            yield _read(path)


def _files(folder: str) -> list[str]:
    try:
        return [f"{folder}/{name}" for name in os.listdir(folder) if not name.startswith(".")]  # noqa: PTH208
    except OSError:
        return []


def _is_dead(path: str) -> bool:
    """Whether no process holds the file's lock. A file that is gone, or isn't ours to read, is as good as dead."""
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return False  # a file system without locks: whoever connects finds out
    finally:
        os.close(descriptor)
    return True


def _remove_if_dead(path: str) -> None:
    if _is_dead(path):
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108


def _read(path: str | os.PathLike[str]) -> Announcement | None:
    """The announcement at a place; None if it is not there, not ours to read, or half a file of somebody else's."""
    try:
        return parse_announcement(read_file(path).decode())
    except (OSError, ValueError):
        return None
