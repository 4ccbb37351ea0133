"""Places for ``ipc://`` sockets: a short path, a directory of ours alone, and one owner a path.

A Unix socket's path holds 107 bytes, and a second bind removes the first one's file in silence (RULES 23):
the first goes on listening where nobody can reach it. So a path is claimed by a lock beside it before it is
bound.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import weakref
from pathlib import Path

import zmq

from runtime.errors import SetupError

#: Bytes of ``sun_path`` on Linux, less the closing zero. (macOS has 103; the rest is reserve for both.)
PATH_BYTES_MAX = 103
#: What a directory's path may take, so that a name such as ``/confirmations.lock`` still fits behind it.
DIRECTORY_BYTES_MAX = 80

# Claims last as long as the process, as the kernel's lock does. A socket closed and bound anew keeps its
# claim.
_claims: dict[str, tuple[int, weakref.ref[zmq.Socket[bytes]]]] = {}


def private_ipc_dir(path: Path | None = None) -> Path:
    """Return a directory for ipc sockets, mode 0700 and ours: ``path``, made if absent, or a new short one.

    Raises :class:`SetupError` if the path is too long, is no directory, or may be entered by others.
    """
    if path is None:
        return private_ipc_dir(Path(tempfile.mkdtemp(prefix="restante-", dir=_short_base())))
    if len(os.fsencode(path)) > DIRECTORY_BYTES_MAX:
        raise SetupError(f"{path} is too long for sockets. Give a directory of at most {DIRECTORY_BYTES_MAX} bytes.")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise SetupError(f"{path} is not a directory of this user's. Remove it, or give another.")
    if found.st_mode & 0o077:
        raise SetupError(f"{path} can be entered by others. Run: chmod 700 {path}")
    return path


def _short_base() -> str:
    """The first usual place for such directories that is there, ours, and short enough (a TMPDIR may be long)."""
    bases = (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp")
    name_bytes = len("/restante-12345678")
    for base in bases:
        if os.access(base, os.W_OK | os.X_OK) and len(os.fsencode(base)) + name_bytes <= DIRECTORY_BYTES_MAX:
            return base
    raise SetupError(f"No place for sockets: none of {', '.join(filter(None, bases))} will do.")


def claim_ipc_path(path: str, socket: zmq.Socket[bytes]) -> None:
    """Make ``path`` this socket's for the life of the process.

    Raises :class:`SetupError` if the path is too long or if a living socket has it, here or in another
    process.
    """
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise SetupError(f"ipc://{path} is longer than {PATH_BYTES_MAX} bytes. Give a shorter path.")
    claimed = _claims.get(path)
    if claimed is None:
        _claims[path] = (_lock(path), weakref.ref(socket))
        return
    holder = claimed[1]()
    if holder is not None and holder is not socket and not holder.closed:
        raise SetupError(f"ipc://{path} is in use by another socket of this process.")
    _claims[path] = (claimed[0], weakref.ref(socket))


def _lock(path: str) -> int:
    descriptor = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SetupError(f"ipc://{path} is in use by another process. Stop it, or give another path.") from None
    return descriptor
