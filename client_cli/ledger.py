"""The lines of a batch: which are out, and what became of them, to be told in their order.

A broken line's result is held back until those before it have theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import msgspec

from client_cli.batch_lines import LINE_BYTES_MAX, BrokenLine, lines_of, outgoing_of, parse_line

if TYPE_CHECKING:
    from restante.messages import Outcome, Outgoing


class Entry(msgspec.Struct):
    """A line that was read: waiting for its outcome, or broken."""

    number: int
    message_id: bytes | None = None
    broken: str = ""


class Totals(msgspec.Struct):
    """What has become of the lines so far."""

    read: int = 0
    accepted: int = 0
    again: int = 0
    failed: int = 0
    without_once: int = 0

    @property
    def waiting(self) -> int:
        return self.read - self.accepted - self.failed


class Ledger:
    """Which lines are out, which have come back, and in which order to tell of them."""

    def __init__(self) -> None:
        self.totals = Totals()
        self._entries: deque[Entry] = deque()

    def outgoing(self, file: IO[bytes]) -> Iterator[Outgoing]:
        """The messages of a file's lines, as they are wanted; broken lines are entered and passed over."""
        for number, raw in lines_of(file):
            self.totals.read += 1
            try:
                if raw is None:
                    raise BrokenLine(f"it is longer than {LINE_BYTES_MAX:,} bytes")
                message = outgoing_of(parse_line(raw))
            except BrokenLine as error:
                self._entries.append(Entry(number, broken=str(error)))
                continue
            self.totals.without_once += message.once is None
            self._entries.append(Entry(number, message_id=message.id))
            yield message

    def broken(self) -> Iterator[Entry]:
        """The broken lines that are next in order."""
        while self._entries and self._entries[0].broken:
            self.totals.failed += 1
            yield self._entries.popleft()

    def settle(self, outcome: Outcome) -> Entry:
        """The line that an outcome belongs to: the next one that isn't broken (call `broken` before)."""
        entry = self._entries.popleft()
        if outcome.receipt is None:
            self.totals.failed += 1
        else:
            self.totals.accepted += 1
            self.totals.again += outcome.receipt.again
        return entry
