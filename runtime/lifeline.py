"""What a child of the supervisor needs: the pipe on which it reports. (Its lifeline goes to
``Loop(lifeline=…)``.)

The supervisor starts a child with ``--lifeline-fd N --notify-fd M``. N is the read end of a pipe that
nobody writes to: when the supervisor is gone, however it went, N is at its end, and the child stops (RULES
23). M takes notes, a JSON object a line::

    {"ready": true, "endpoint": "tcp://127.0.0.1:5571"}
"""

from __future__ import annotations

import contextlib
import os

import msgspec

#: Bytes of one note. A pipe takes this much in one piece (PIPE_BUF), so no note is ever torn.
NOTE_BYTES_MAX = 4_096


class Notifier:
    """Writes notes for the supervisor; with ``descriptor`` None (started by hand, or by Docker) it writes
    nowhere.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
            os.set_blocking(descriptor, False)

    def note(self, **fields: object) -> None:
        """Send one note; ``ready=True`` is the one that the supervisor waits for.

        A supervisor that is gone, or reads no more, loses it; the lifeline then says the rest. Raises
        ValueError for a note larger than ``NOTE_BYTES_MAX``.
        """
        line = msgspec.json.encode(fields) + b"\n"
        if len(line) > NOTE_BYTES_MAX:
            raise ValueError(f"a note of {len(line)} bytes; at most {NOTE_BYTES_MAX} fit")
        if self._descriptor is not None:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(self._descriptor, line)
