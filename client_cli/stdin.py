"""Standard input, also where there is none: `<&-` is an input that is at its end."""

from __future__ import annotations

import io
import sys
from typing import IO


def stdin() -> IO[bytes]:
    """Standard input as bytes; empty if the command was started without one."""
    return io.BytesIO() if sys.stdin is None else sys.stdin.buffer
