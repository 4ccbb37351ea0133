"""A history that came to its end, arranged for questions: what is certain of it, and what may be.

Whoever is told something knows that it happened between asking and hearing. So most answers here are bounds: what lay
in a mailbox for certain at some time, what may have lain in it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from restante.wire.envelopes import Entry
from tests.simulation.history import Acknowledging, History, Sending, Span

ALWAYS: Final = Span(-math.inf, -math.inf)
NEVER: Final = Span(math.inf, math.inf)


class Violation(Struct, frozen=True):
    """A promise that was not kept."""

    guarantee: str
    text: str

    def __str__(self) -> str:
        return f"{self.guarantee}: {self.text}"


class Facts:
    """What the judges ask."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.attempts: dict[tuple[str, bytes], list[Sending]] = defaultdict(list)
        """All attempts at one message, in their order; some may be other messages under the same id."""
        for sending in history.sendings:
            self.attempts[sending.sender, sending.id].append(sending)
        self.entries: dict[str, dict[int, Entry]] = {
            name: {entry.seq: entry for entry in mailbox.entries} for name, mailbox in history.mailboxes.items()
        }
        self.contents: dict[str, dict[int, bytes]] = {
            name: {entry.seq: content for entry, content in zip(mailbox.entries, mailbox.contents, strict=True)}
            for name, mailbox in history.mailboxes.items()
        }
        self._ids = {name: _by_id(mailbox.entries) for name, mailbox in history.mailboxes.items()}
        self.acks: dict[str, list[tuple[Acknowledging, set[int]]]] = defaultdict(list)
        """By mailbox: what was to be acknowledged, and the places that it means."""
        for asked in history.acknowledgings:
            self.acks[asked.reader].append((asked, self._seqs_of(asked)))
        self.asked_at: dict[str, dict[int, float]] = {name: {} for name in history.mailboxes}
        """By mailbox: when each seq was first to be acknowledged."""
        self.read_at: dict[str, dict[int, float]] = {name: {} for name in history.mailboxes}
        """By mailbox: when each seq was acknowledged for certain."""
        for name in history.mailboxes:
            for asked, seqs in self.acks[name]:
                _earliest(self.asked_at[name], seqs, asked.at)
                if asked.confirmed:
                    _earliest(self.read_at[name], seqs, asked.ended_at)
        self._accepted = {key: _first_accepted(attempts) for key, attempts in self.attempts.items()}

    def open(self) -> Iterator[str]:
        """The mailboxes that nobody closed."""
        return (name for name in self.history.mailboxes if name not in self.history.closings)

    def is_open(self, name: str) -> bool:
        """Whether it is a mailbox, and nobody closed it."""
        return name in self.history.mailboxes and name not in self.history.closings

    def joined(self, name: str) -> Span:
        """When an account came to be."""
        return self.history.joinings.get(name, ALWAYS if name in self.history.names else NEVER)

    def accepted(self, sending: Sending) -> Sending | None:
        """The attempt at it that was first known to be accepted."""
        return self._accepted[sending.sender, sending.id]

    def of(self, entry: Entry, content: bytes) -> list[Sending]:
        """The attempts at what lies there as it lies there."""
        return [
            each
            for each in self.attempts.get((entry.sender, entry.id), ())
            if each.content == content and list(dict.fromkeys(each.to)) == entry.to
        ]

    def left_out(
        self, name: str, after: int, through: int, shown: Iterable[int], sender: str, at: float
    ) -> Iterator[int]:
        """What lies in (after, through] and was unread at that time for certain, and wasn't shown."""
        if not self.is_open(name):
            return
        asked_at, shown = self.asked_at[name], set(shown)
        for seq, entry in self.entries[name].items():
            wanted = after < seq <= through and sender in ("", entry.sender)
            if wanted and seq not in shown and asked_at.get(seq, math.inf) > at:
                yield seq

    def counts(self, name: str, at: float, ended_at: float) -> tuple[int, int, int, int]:
        """How many messages a mailbox had between two times: unread at least, at most; in all at least, at most."""
        asked_at, read_at = self.asked_at[name], self.read_at[name]
        unread_min = unread_max = total_min = total_max = 0
        for seq, entry in self.entries[name].items():
            attempts = self.attempts.get((entry.sender, entry.id), [])
            if any(each.at <= ended_at for each in attempts):
                total_max += 1
                unread_max += read_at.get(seq, math.inf) >= at
            if any(each.result is not None and each.result.seq and each.ended_at < at for each in attempts):
                total_min += 1
                unread_min += asked_at.get(seq, math.inf) > ended_at
        return unread_min, unread_max, total_min, total_max

    def _seqs_of(self, asked: Acknowledging) -> set[int]:
        """The seqs that an acknowledgement means, of those that the mailbox holds in the end."""
        by_id = self._ids.get(asked.reader, {})
        return {seq for message_id in asked.ids for seq in by_id.get(message_id, ())} | set(asked.seqs)


def _by_id(entries: list[Entry]) -> dict[bytes, list[int]]:
    seqs: dict[bytes, list[int]] = defaultdict(list)
    for entry in entries:
        seqs[entry.id].append(entry.seq)
    return seqs


def _earliest(times: dict[int, float], seqs: Iterable[int], at: float) -> None:
    for seq in seqs:
        times[seq] = min(at, times.get(seq, math.inf))


def _first_accepted(attempts: list[Sending]) -> Sending | None:
    accepted = [each for each in attempts if each.result is not None and not each.result.code]
    return min(accepted, key=lambda each: each.ended_at, default=None)


def show(sending: Sending) -> str:
    """How to call a message."""
    return f"{sending.sender}'s {sending.content[:40]!r}"
