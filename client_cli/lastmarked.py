"""What `chat inbox` and `chat ack` last marked, kept so that `chat unread --last` can take it back.

One small file a profile, lines of JSON: whose mailbox, then the marked, appended before they are marked. Marking unread
what was never marked read changes nothing; the other way round a mark could not be taken back.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from restante.wire.ids import read_id, show_id

if TYPE_CHECKING:
    from restante.settings import Settings


class Marked(msgspec.Struct, omit_defaults=True):
    """A line: the mailbox's account and server, or messages by seq or id."""

    server: str = ""
    name: str = ""
    seqs: list[int] = []
    ids: list[str] = []


class LastMarked:
    """The messages last marked with a profile. A new one begins empty when it first notes something."""

    def __init__(self, settings: Settings) -> None:
        from restante.places import user_state

        self._path: Path = user_state() / "marked" / f"{settings.profile}.jsonl"
        server = settings.address.key.hex() if settings.address is not None else ""
        self._owner = Marked(server=server, name=settings.name)
        self._begun = False

    def note(self, seqs: Sequence[int] = (), ids: Sequence[bytes] = ()) -> None:
        """Add what is about to be marked. Raises OSError."""
        line = Marked(seqs=list(seqs), ids=[show_id(one) for one in ids])
        data = msgspec.json.encode(line) + b"\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        if not self._begun:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            data = msgspec.json.encode(self._owner) + b"\n" + data
            flags |= os.O_TRUNC
            self._begun = True
        descriptor = os.open(self._path, flags, 0o600)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def read(self) -> tuple[list[int], list[bytes]]:
        """The seqs and ids last marked; none if the profile has another server or account since."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return [], []
        marks = [mark for line in lines if (mark := _mark_of(line)) is not None]
        if not marks or (marks[0].server, marks[0].name) != (self._owner.server, self._owner.name):
            return [], []
        return (
            [seq for mark in marks for seq in mark.seqs],
            [read_id(text) for mark in marks for text in mark.ids],
        )


def _mark_of(line: bytes) -> Marked | None:
    """A line's marks; None for one that a crash cut short."""
    try:
        return msgspec.json.decode(line, type=Marked)
    except msgspec.DecodeError:
        return None
