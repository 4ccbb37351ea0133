"""Judges a history against the guarantees (DESIGN §2), knowing nothing of the code: calls, answers, mailboxes, no more.

G1  what was accepted is in every recipient's mailbox, at its place, as it was given
G2  no id is in a mailbox twice, and every answer about one names one place
G3  a mailbox keeps the order in which one session gave messages to be sent
G4  every call ends, once, with a result or a stable code; what was refused for good is nowhere
G5  a message is read if and only if its recipient acknowledged it; no page and no subscription leaves one out
G6  a mailbox holds what was sent to it, from whom it was sent by, and nothing else
G7  no page is larger than asked for, no delivery goes beyond credit
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from msgspec import Struct

from restante.wire.envelopes import Entry
from restante.wire.errors import CODES
from tests.simulation.history import Acknowledging, Following, History, Reading, Sending, Subscription

WITHOUT_CODE: Final = frozenset({"OutcomeUnknown", "UnreachableError"})
"""How a call may end to which no server gave an answer."""


class Violation(Struct, frozen=True):
    """A promise that was not kept."""

    guarantee: str
    text: str

    def __str__(self) -> str:
        return f"{self.guarantee}: {self.text}"


def check(history: History) -> list[Violation]:
    """Every violation, in the order of the guarantees. None: nothing to complain of."""
    found = [*_ends(history)]
    if history.mailboxes and not history.unfinished:
        judge = Judge(history)
        found += judge.violations()
    return sorted(found, key=lambda violation: violation.guarantee)


def _ends(history: History) -> Iterator[Violation]:
    """G4, as far as it needs no mailbox."""
    for what in history.unfinished:
        yield Violation("G4", f"no end: {what}")
    for call in history.calls:
        if call.ends > 1:
            yield Violation("G4", f"{call.who}: {call.what} ended {call.ends} times")
        if call.ends == 0 and not call.orphaned and not history.unfinished:
            yield Violation("G4", f"{call.who}: {call.what} of {call.at:.3f} s never ended")
        if call.failure and call.failure not in CODES and call.failure not in WITHOUT_CODE:
            yield Violation("G4", f"{call.who}: {call.what} failed with {call.failure!r}, which is no code")


class Judge:
    """A history that came to its end, arranged for questions."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.sendings: dict[tuple[str, bytes], list[Sending]] = defaultdict(list)
        """All attempts at one message, in their order."""
        for sending in history.sendings:
            self.sendings[sending.sender, sending.id].append(sending)
        self.entries: dict[str, dict[int, Entry]] = {
            name: {entry.seq: entry for entry in mailbox.entries} for name, mailbox in history.mailboxes.items()
        }
        self.contents: dict[str, dict[int, bytes]] = {
            name: {entry.seq: content for entry, content in zip(mailbox.entries, mailbox.contents, strict=True)}
            for name, mailbox in history.mailboxes.items()
        }
        self.asked_at = {name: self._asked_at(name) for name in history.mailboxes}
        """For each mailbox: when each seq was first to be acknowledged."""

    def violations(self) -> list[Violation]:
        """All of them."""
        return [
            *self._accepted(),
            *self._once(),
            *self._order(),
            *self._refused(),
            *self._marks(),
            *self._pages(),
            *self._subscriptions(),
            *self._followings(),
            *self._owners(),
        ]

    def _asked_at(self, name: str) -> dict[int, float]:
        times: dict[int, float] = {}
        for asked in self.history.acknowledgings:
            if asked.reader == name:
                for seq in self._seqs_of(asked):
                    times[seq] = min(asked.at, times.get(seq, math.inf))
        return times

    def _seqs_of(self, asked: Acknowledging) -> set[int]:
        """The seqs that an acknowledgement means, of those that the mailbox holds in the end."""
        ids = set(asked.ids)
        named = {seq for seq, entry in self.entries[asked.reader].items() if entry.id in ids}
        return named | set(asked.seqs)

    def _recipients(self, sending: Sending) -> Iterator[str]:
        return (name for name in self.history.mailboxes if name in sending.to)

    # --- sending ------------------------------------------------------------------------------------------

    def _accepted(self) -> Iterator[Violation]:
        for sending in self.history.sendings:
            if sending.result is None or sending.result.code:
                continue
            seq = sending.result.seq
            for name in self._recipients(sending):
                entry = self.entries[name].get(seq)
                if entry is None or entry.id != sending.id:
                    yield Violation(
                        "G1", f"{_show(sending)} was accepted as {seq}; it is not there in {name}'s mailbox"
                    )
                elif self.contents[name][seq] != sending.content:
                    yield Violation("G1", f"{_show(sending)} is in {name}'s mailbox with other content")
                elif entry.stored_at_us != sending.result.stored_at_us:
                    yield Violation("G1", f"{_show(sending)} is in {name}'s mailbox with another time")

    def _once(self) -> Iterator[Violation]:
        for name, mailbox in self.history.mailboxes.items():
            places: dict[tuple[str, bytes], list[int]] = defaultdict(list)
            for entry in mailbox.entries:
                places[entry.sender, entry.id].append(entry.seq)
            for (sender, _), seqs in places.items():
                if len(seqs) > 1:
                    yield Violation("G2", f"a message of {sender} is in {name}'s mailbox at {seqs}")
        for attempts in self.sendings.values():
            told = {(s.result.seq, s.result.stored_at_us) for s in attempts if s.result and not s.result.code}
            if len(told) > 1:
                yield Violation("G2", f"{_show(attempts[0])} was accepted at {sorted(told)}")

    def _order(self) -> Iterator[Violation]:
        for name, mailbox in self.history.mailboxes.items():
            by_sender: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
            for entry in mailbox.entries:
                attempts = self.sendings.get((entry.sender, entry.id))
                if attempts is not None:
                    by_sender[entry.sender].append((attempts[0].order, entry.seq, _show(attempts[0])))
            for sender, given in by_sender.items():
                yield from self._in_order(name, sender, sorted(given))

    def _in_order(self, name: str, sender: str, given: list[tuple[int, int, str]]) -> Iterator[Violation]:
        """What came first lies first. A message whose sender was told that it failed holds nobody up: given again it is
        a new message, and whatever was sent meanwhile may lie before it.
        """
        highest, before = 0, ""
        for order, seq, text in given:
            if seq < highest:
                yield Violation(
                    "G3", f"{text} lies at {seq} in {name}'s mailbox, behind it {before} at {highest}, given before"
                )
            sending = self.history.sendings[order]
            if seq > highest and not any(each.failure for each in self.sendings[sender, sending.id]):
                highest, before = seq, text

    def _refused(self) -> Iterator[Violation]:
        names = set(self.history.names)
        for attempts in self.sendings.values():
            sending = attempts[0]
            nobody = [name for name in sending.to if name not in names]
            for each in attempts:
                code = each.result.code if each.result else ""
                if code and code not in CODES:
                    yield Violation("G4", f"{_show(each)} was refused with {code!r}, which is no code")
                if each.result and bool(nobody) != (code == "unknown_recipient"):
                    yield Violation("G4", f"{_show(each)} was told {code or 'accepted'!r}; unknown are {nobody}")
                if each.failure and each.failure not in CODES and each.failure not in WITHOUT_CODE:
                    yield Violation("G4", f"{_show(each)} failed with {each.failure!r}, which is no code")
            if nobody:
                for name in self._recipients(sending):
                    if any(entry.id == sending.id for entry in self.entries[name].values()):
                        yield Violation("G4", f"{_show(sending)} was refused, and is in {name}'s mailbox")

    # --- reading ------------------------------------------------------------------------------------------

    def _marks(self) -> Iterator[Violation]:
        for name, mailbox in self.history.mailboxes.items():
            unread, held = set(mailbox.unread), self.entries[name]
            if sorted(held) != [entry.seq for entry in mailbox.entries]:
                yield Violation("G5", f"{name}'s mailbox is not in order")
            for seq in sorted(unread - held.keys()):
                yield Violation("G5", f"{seq} is unread in {name}'s mailbox, and not in it")
            for seq, entry in held.items():
                if (entry.state == "read") == (seq in unread):
                    yield Violation("G5", f"{seq} is {entry.state} in {name}'s mailbox, unread: {seq in unread}")
                if seq not in unread and seq not in self.asked_at[name]:
                    yield Violation("G5", f"{seq} is read in {name}'s mailbox; nobody acknowledged it")
            for asked in self.history.acknowledgings:
                if asked.reader == name and asked.confirmed:
                    for seq in sorted(self._seqs_of(asked) & unread):
                        yield Violation("G5", f"{name} acknowledged {seq}, was told so, and it is unread")

    def _left_out(
        self, name: str, after: int, through: int, shown: Iterable[int], sender: str, at: float
    ) -> Iterator[int]:
        """What lies in (after, through] and was unread at that time for certain, and wasn't shown."""
        asked_at, shown = self.asked_at[name], set(shown)
        for seq, entry in self.entries[name].items():
            wanted = after < seq <= through and sender in ("", entry.sender)
            if wanted and seq not in shown and asked_at.get(seq, math.inf) > at:
                yield seq

    def _pages(self) -> Iterator[Violation]:
        for page in self.history.readings:
            seqs = [entry.seq for entry in page.entries]
            where = f"a page of {page.reader}'s mailbox in ({page.after}, {page.through}]"
            if not _rising([page.after, *seqs]) or (seqs and seqs[-1] > page.through):
                yield Violation("G5", f"{where} shows {seqs}")
            if len(seqs) > page.limit:
                yield Violation("G7", f"{where} shows {len(seqs)} messages, asked for were {page.limit}")
            for seq in self._left_out(page.reader, page.after, page.through, seqs, page.sender, page.ended_at):
                yield Violation("G5", f"{where}, come at {page.ended_at:.3f} s, leaves out {seq}")
            yield from self._already_read(page)
            yield from self._shown(where, page.reader, page.sender, page.entries, page.contents)

    def _already_read(self, page: Reading) -> Iterator[Violation]:
        """What was acknowledged, and confirmed, before a page was asked for, isn't unread."""
        if not page.unread:
            return
        for asked in self.history.acknowledgings:
            if asked.reader == page.reader and asked.confirmed and asked.ended_at < page.at:
                for seq in self._seqs_of(asked) & {entry.seq for entry in page.entries}:
                    yield Violation("G5", f"{page.reader} had acknowledged {seq}, and is shown it as unread")

    def _subscriptions(self) -> Iterator[Violation]:
        for subscription in self.history.subscriptions:
            yield from self._subscription(subscription)

    def _subscription(self, subscription: Subscription) -> Iterator[Violation]:
        where = f"a subscription of {subscription.reader}"
        last, count, size = subscription.after, 0, 0
        for delivery in subscription.deliveries:
            if delivery.first != count + 1:
                yield Violation("G5", f"{where} numbers a delivery {delivery.first} after {count}")
            for entry in delivery.entries:
                if count >= delivery.messages or size >= delivery.bytes:
                    credit = f"{delivery.messages} messages and {delivery.bytes} bytes"
                    yield Violation("G7", f"{where} has had {count} and {size} of {credit}, and is sent more")
                count, size = count + 1, size + entry.size
                if entry.seq <= last:
                    yield Violation("G5", f"{where} is sent {entry.seq} after {last}")
                    continue
                for seq in self._left_out(
                    subscription.reader, last, entry.seq - 1, (), subscription.sender, delivery.at
                ):
                    yield Violation("G5", f"{where} is sent {entry.seq} after {last}, without {seq}")
                last = entry.seq

    def _followings(self) -> Iterator[Violation]:
        for following in self.history.followings:
            yield from self._following(following)

    def _following(self, following: Following) -> Iterator[Violation]:
        where = f"a subscription of {following.reader}, across connections,"
        places = [following.after, *(entry.seq for entry in following.entries)]
        for (last, seq), at in zip(pairwise(places), following.handed_at, strict=True):
            if seq <= last:
                yield Violation("G5", f"{where} hands over {seq} after {last}")
            for missing in self._left_out(following.reader, last, seq - 1, (), following.sender, at):
                yield Violation("G5", f"{where} hands over {seq} after {last}, without {missing}")
        yield from self._shown(where, following.reader, following.sender, following.entries, following.contents)

    # --- whose it is --------------------------------------------------------------------------------------

    def _owners(self) -> Iterator[Violation]:
        for name, mailbox in self.history.mailboxes.items():
            yield from self._shown(f"{name}'s mailbox", name, "", mailbox.entries, mailbox.contents)

    def _shown(
        self, where: str, reader: str, sender: str, entries: list[Entry], contents: list[bytes]
    ) -> Iterator[Violation]:
        """Whatever is shown to somebody was sent to them, by whom it says, as it is."""
        for entry, content in zip(entries, contents, strict=True):
            attempts = self.sendings.get((entry.sender, entry.id))
            if attempts is None:
                yield Violation("G6", f"{where} shows {entry.seq} from {entry.sender}, who never sent it")
            elif reader not in attempts[0].to:
                yield Violation("G6", f"{where} shows {_show(attempts[0])}, which is not for {reader}")
            elif content != attempts[0].content or list(dict.fromkeys(attempts[0].to)) != entry.to:
                yield Violation("G6", f"{where} shows {_show(attempts[0])} otherwise than it was sent")
            elif sender and entry.sender != sender:
                yield Violation("G6", f"{where} shows a message of {entry.sender}, asked for were {sender}'s")


def _rising(numbers: list[int]) -> bool:
    return all(a < b for a, b in pairwise(numbers))


def _show(sending: Sending) -> str:
    return f"{sending.sender}'s {sending.content[:40]!r}"
