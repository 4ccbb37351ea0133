"""Files that are replaced as a whole or not at all, and read by nobody else."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

SMALL_BYTES_MAX: Final = 1 << 20
"""Far more than any settings or profile need: a mistaken path must not fill the memory."""


def write_private(path: Path, content: bytes) -> None:
    """Replace a file atomically and durably by one of mode 0600, in a folder of mode 0700 if it must be made.

    Raises OSError; then the old file is as it was.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Without it a power cut may take the new name away."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: str | os.PathLike[str], check: Callable[[os.stat_result], None] | None = None) -> bytes:
    """What a small file holds. `check` may object to what it is, before it is read. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if check is not None:
            check(os.fstat(file.fileno()))
        return file.read(SMALL_BYTES_MAX)
