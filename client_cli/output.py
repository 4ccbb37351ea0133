"""Data on stdout, message by message: what was written and flushed may be acknowledged, and nothing else (RULES 24)."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from typing import IO


class CantWrite(OSError):
    """The output took no more; `reason` says why. EPIPE: nobody reads any more."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.errno, error.strerror)

    @property
    def reason(self) -> str:
        """Why, in the system's words."""
        return "its reader is gone" if self.errno == errno.EPIPE else str(self.strerror)


class Output:
    """Standard output, which says when what was written is out of our hands."""

    def __init__(self, stream: IO[bytes] | None = None) -> None:
        self._stream = stream
        self._file: int | None = None
        """The stream's descriptor, if it leads into a file on a disk."""

    def write(self, data: str | bytes) -> None:
        """Write and flush. Raises CantWrite."""
        try:
            stream = self._opened()
            stream.write(data if isinstance(data, bytes) else data.encode("utf-8", "replace"))
            stream.flush()
        except OSError as error:
            _let_go_of_stdout()
            raise CantWrite(error) from None

    def settle(self) -> None:
        """Return when what was written would survive: a regular file is synced, all else is gone. Raises CantWrite."""
        if self._file is not None:
            try:
                os.fsync(self._file)
            except OSError as error:
                raise CantWrite(error) from None

    def _opened(self) -> IO[bytes]:
        if self._stream is None:
            if sys.stdout is None:  # started with `>&-`
                raise OSError(errno.EBADF, "standard output is closed")
            self._stream = sys.stdout.buffer
        if self._file is None:
            self._file = _regular_file(self._stream)
        return self._stream


def _let_go_of_stdout() -> None:
    """What Python still holds for stdout must not fail a second time at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        return


def _regular_file(stream: IO[bytes]) -> int | None:
    try:
        descriptor = stream.fileno()
    except (io.UnsupportedOperation, ValueError):
        return None
    return descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
