"""Which message is it that kills the store?

A message that ends the process while it is stored would be replayed, and end the next one too (RULES 9). So each start
counts itself as unsettled until it has committed something or has ended in order. After UNSETTLED_MAX
unsettled starts in a row the store turns suspicious: it stores message by message, each in a transaction of its
own, and writes down beforehand, durably, which one it is about to try. Whatever was tried ATTEMPTS_MAX times
without an end is poison: it is refused from then on, unless it turns out to be stored already. The first
batch that goes through ends the suspicion.

In between, a replayed batch may be stored in part; the unique key absorbs that. If the disk fills in such a batch its
senders are told `unavailable` (whether it was stored is not known), and repeat it with the same ids. While there is no
suspicion it costs a look into an empty set a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import apsw

from restante.wire.envelopes import Result
from restante.wire.store_link import Message, Outcome, Stored, StoreMessages
from store_worker.journal import Write, Written
from store_worker.sqlite_schema import fetch

UNSETTLED_MAX: Final = 2
"""One kill is chance, two in a row without a single commit in between are a pattern."""

ATTEMPTS_MAX: Final = 2
"""Tried alone, and the process ended both times."""


Commit = Callable[[Write], Written]
Durably = Callable[[str, Sequence[int | bytes]], None]
"""Executes one statement, durably, or raises JournalError."""


class Suspicion:
    """What is known of messages that kill."""

    def __init__(self, unsettled: int = 0, poison: frozenset[tuple[bytes, int]] = frozenset()) -> None:
        self.awake = unsettled >= UNSETTLED_MAX
        """Store message by message."""
        self.settled = False
        """This start has shown that it can commit."""
        self.poison = poison

    @classmethod
    def read(cls, db: apsw.Connection, unsettled: int) -> Suspicion:
        """Return what the database says, given how many starts before this one were unsettled."""
        rows = fetch(db, "SELECT id, sender FROM suspects WHERE attempts >= ?", (ATTEMPTS_MAX,))
        return cls(unsettled, frozenset((message_id, sender) for message_id, sender in rows))

    def settle(self) -> None:
        """SETTLE was executed, and is durable."""
        self.awake, self.settled = False, True

    def commit(self, write: Write, commit: Commit, durably: Durably) -> Written:
        """Execute one batch, each message in a transaction of its own. Raises JournalError."""
        contents = iter(write.contents)
        outcomes: list[Outcome] = []
        spans: list[Written] = [commit(Write([], []))]
        for command in write.commands:
            if isinstance(command, StoreMessages):
                alone = [self._alone(command, m, next(contents), commit, durably) for m in command.messages]
                outcomes.append(Stored.of([result for _, result in alone]))
                spans += (written for written, _ in alone)
            else:
                spans.append(commit(Write([command], [])))
                outcomes += spans[-1].outcomes
        return Written(spans[0].base, spans[-1].high, outcomes)

    def _alone(
        self, command: StoreMessages, message: Message, content: bytes, commit: Commit, durably: Durably
    ) -> tuple[Written, Result]:
        key = (message.id, command.sender)
        if key not in self.poison:
            durably(_SUSPECT, key)
        only = StoreMessages.of(command.sender, command.sender_name, [message])
        written = commit(Write([only], [content]))
        if key not in self.poison:
            durably(_CLEAR, key)
        (stored,) = written.outcomes
        assert isinstance(stored, Stored)
        return written, stored.results[0]


_SUSPECT: Final = "INSERT INTO suspects VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET attempts = attempts + 1"
_CLEAR: Final = "DELETE FROM suspects WHERE id = ? AND sender = ?"
SETTLE: Final = f"UPDATE meta SET unsettled = 0; DELETE FROM suspects WHERE attempts < {ATTEMPTS_MAX}"
"""A start that has executed this is not held against the next one; who was merely suspected is cleared."""
