"""*Delivered*: how far each mailbox has been handed to its owner, noted in the store now and then.

It costs no row a message, only a high-water a mailbox (RULES 19), and no commit of its own where a batch goes anyway.
A mark that gets lost is made up for by the next one.
"""

from __future__ import annotations

from broker.events import Action
from broker.store_link import COMMAND_COST, StoreLink
from restante.wire import store_link

NOTE_S = 1.0
"""How long a mark may wait for a batch to travel with."""


class DeliveredMarks:
    """Marks that wait to be noted, by mailbox."""

    def __init__(self, link: StoreLink) -> None:
        self._link = link
        self._through: dict[int, int] = {}
        self._note_at = 0.0

    def note(self, mailbox: int, through: int, now: float) -> None:
        """Everything of a mailbox through this seq was handed to its owner."""
        if not self._through:
            self._note_at = now + NOTE_S
        self._through[mailbox] = max(through, self._through.get(mailbox, 0))

    def drained(self, now: float) -> None:
        """Send the marks along if a batch goes anyway."""
        if self._link.has_pending:
            self.flush(now)

    def due(self, now: float) -> None:
        """Send them by themselves if none went for long."""
        if now >= self._note_at:
            self.flush(now)

    def flush(self, now: float) -> None:
        """Send them with the next batch, unless the store is gone."""
        if not self._through or self._link.down(now):
            return
        marks, self._through = self._through, {}
        for mailbox, through in marks.items():
            note = store_link.NoteDelivered(mailbox=mailbox, through=through)
            self._link.submit(note, b"", _noted, COMMAND_COST)

    def forget(self) -> None:
        """What was delivered belongs to a history that is gone."""
        self._through.clear()


def _noted(outcome: store_link.Outcome | store_link.Failed, now: float, actions: list[Action]) -> None:
    """Nobody waits for a mark."""
