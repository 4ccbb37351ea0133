"""Data on stdout, message by message: what was written and flushed may be acknowledged, and nothing else (RULES 24)."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from typing import IO


class Output:
    """Standard output, which says when what was written is out of our hands."""

    def __init__(self, stream: IO[bytes] | None = None) -> None:
        self._stream = _stdout() if stream is None else stream
        self._file = _regular_file(self._stream)

    def write(self, data: str | bytes) -> None:
        """Write and flush. Raises OSError: EPIPE if nobody reads any more, ENOSPC if the disk is full."""
        self._stream.write(data if isinstance(data, bytes) else data.encode("utf-8", "replace"))
        self._stream.flush()

    def settle(self) -> None:
        """Return when what was written would survive: a regular file is synced, all else is gone. Raises OSError."""
        if self._file is not None:
            os.fsync(self._file)


def _stdout() -> IO[bytes]:
    if sys.stdout is None:  # started with `>&-`
        raise OSError(errno.EBADF, "standard output is closed")
    return sys.stdout.buffer


def _regular_file(stream: IO[bytes]) -> int | None:
    """The stream's descriptor if it leads into a file on a disk."""
    try:
        descriptor = stream.fileno()
    except (io.UnsupportedOperation, ValueError):
        return None
    return descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
