"""Pages and deliveries, cut so that a client's frame holds them.

What a mailbox holds goes to its reader as entries in a header and contents in a body (envelopes `page` and `deliver`).
Both come in two ways: as a page that the store read, or from a commit, out of memory.
"""

from __future__ import annotations

from collections.abc import KeysView
from itertools import accumulate

from restante.wire import limits, store_link
from restante.wire.envelopes import TEXT, Entry

Arrival = tuple[Entry, bytes]
"""A message and its content."""


class Fresh:
    """What one commit brought, by mailbox, for the mailboxes that somebody is subscribed to."""

    def __init__(self) -> None:
        self.by_mailbox: dict[int, list[Arrival]] = {}

    def gather(
        self, command: store_link.StoreMessages, body: bytes, stored: store_link.Stored, wanted: KeysView[int]
    ) -> None:
        """Add the messages of one envelope that were stored now; what was stored before was handed on before."""
        apart = {each.place: each for each in command.apart}
        if not apart and wanted.isdisjoint(command.mailboxes):
            return
        known = {each.place for each in stored.apart}
        starts = accumulate(command.sizes, initial=0)
        for place, (mailbox, seq, start) in enumerate(zip(command.mailboxes, stored.seqs, starts, strict=False)):
            said = apart.get(place)
            chosen = wanted & (said.mailboxes if said else (mailbox,))
            if chosen and place not in known:
                entry = _entry(command, place, said, seq, stored.stored_at_us)
                for each in chosen:
                    self.by_mailbox.setdefault(each, []).append((entry, body[start : start + entry.size]))


def bounded(page: store_link.PageRead, body: bytes) -> tuple[store_link.PageRead, bytes]:
    """A page whose header fits a client's frame, whatever the store counts: recipients may be more than contents."""
    if sum(map(_header_size, page.entries)) <= limits.PAGE_BYTES_MAX:
        return page, body
    size = 0
    for index, entry in enumerate(page.entries):
        size += _header_size(entry)
        if size > limits.PAGE_BYTES_MAX and index:
            kept = page.entries[:index]
            end = sum(one.size for one in kept)
            return store_link.PageRead(entries=kept, through=kept[-1].seq, more=True), body[:end]
    return page, body


def _header_size(entry: Entry) -> int:
    """At most, about: names have up to 32 bytes, and all the rest of an entry 256."""
    return 256 + 34 * len(entry.to)


def parts_of(arrivals: list[Arrival]) -> list[list[Arrival]]:
    """Cut deliveries into envelopes that keep a page's limits."""
    parts: list[list[Arrival]] = []
    size = 0
    for arrival in arrivals:
        if not parts or len(parts[-1]) >= limits.PAGE_MESSAGES_MAX or size >= limits.PAGE_BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append(arrival)
        size += len(arrival[1]) + _header_size(arrival[0])
    return parts


def _entry(
    command: store_link.StoreMessages, place: int, said: store_link.Apart | None, seq: int, stored_at_us: int
) -> Entry:
    return Entry(
        seq=seq,
        id=command.ids[place],
        sender=command.sender_name,
        to=said.to if said else [command.to[place]],
        size=command.sizes[place],
        stored_at_us=stored_at_us,
        content_type=command.content_types[place] if command.content_types else TEXT,
        sent_at_us=command.sent_at_us[place],
        reply_to=said.reply_to if said else None,
    )
