"""G5 to G7, of what was read: kept until it was acknowledged, shown whole, to whom it is for, as much as wanted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from restante.wire.envelopes import Entry
from tests.simulation.facts import Facts, Violation, show
from tests.simulation.history import Following, Reading, Subscription


def violations(facts: Facts) -> Iterator[Violation]:
    """All of them."""
    yield from _marks(facts)
    for page in facts.history.readings:
        yield from _page(facts, page)
    for subscription in facts.history.subscriptions:
        yield from _subscription(facts, subscription)
    for following in facts.history.followings:
        yield from _following(facts, following)
    for name, mailbox in facts.history.mailboxes.items():
        yield from _shown(facts, f"{name}'s mailbox", name, "", mailbox.entries, mailbox.contents)


def _marks(facts: Facts) -> Iterator[Violation]:
    for name, mailbox in facts.history.mailboxes.items():
        unread, held = set(mailbox.unread), facts.entries[name]
        if sorted(held) != [entry.seq for entry in mailbox.entries]:
            yield Violation("G5", f"{name}'s mailbox is not in order")
        for seq in sorted(unread - held.keys()):
            yield Violation("G5", f"{seq} is unread in {name}'s mailbox, and not in it")
        for seq, entry in held.items():
            if (entry.state == "read") == (seq in unread):
                yield Violation("G5", f"{seq} is {entry.state} in {name}'s mailbox, unread: {seq in unread}")
            if seq not in unread and seq not in facts.asked_at[name]:
                yield Violation("G5", f"{seq} is read in {name}'s mailbox; nobody acknowledged it")
        for seq in sorted(unread & facts.read_at[name].keys()):
            yield Violation("G5", f"{name} acknowledged {seq}, was told so, and it is unread")
        yield from _counted(facts, name)


def _counted(facts: Facts, name: str) -> Iterator[Violation]:
    """What the server says of a mailbox at the end, when nobody is at it any more."""
    mailbox = facts.history.mailboxes[name]
    told = mailbox.overview
    if told is None:
        return
    if (told.unread, told.total) != (len(mailbox.unread), len(mailbox.entries)):
        text = f"{told.unread} unread of {told.total}; there are {len(mailbox.unread)} of {len(mailbox.entries)}"
        yield Violation("G5", f"{name}'s mailbox is said to have {text}")
    if mailbox.followed != mailbox.unread:
        text = f"{mailbox.followed}, unread are {mailbox.unread}"
        yield Violation("G5", f"a subscription to {name}'s mailbox at the end hands over {text}")


def _page(facts: Facts, page: Reading) -> Iterator[Violation]:
    seqs = [entry.seq for entry in page.entries]
    where = f"a page of {page.reader}'s mailbox in ({page.after}, {page.through}]"
    if not _rising([page.after, *seqs]) or (seqs and seqs[-1] > page.through):
        yield Violation("G5", f"{where} shows {seqs}")
    if len(seqs) > page.limit:
        yield Violation("G7", f"{where} shows {len(seqs)} messages, asked for were {page.limit}")
    for seq in facts.left_out(page.reader, page.after, page.through, seqs, page.sender, page.ended_at):
        yield Violation("G5", f"{where}, come at {page.ended_at:.3f} s, leaves out {seq}")
    if page.unread:  # what was acknowledged, and confirmed, before it was asked for isn't unread
        read_at = facts.read_at.get(page.reader, {})
        for seq in seqs:
            if seq in read_at and read_at[seq] < page.at:
                yield Violation("G5", f"{page.reader} had acknowledged {seq}, and is shown it as unread")
    closing = facts.history.closings.get(page.reader)
    if closing is not None and closing.ended_at < page.at and seqs:
        yield Violation("G5", f"{where} shows {seqs}, though it was closed")
    yield from _shown(facts, where, page.reader, page.sender, page.entries, page.contents)


def _subscription(facts: Facts, subscription: Subscription) -> Iterator[Violation]:
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
            reader, sender = subscription.reader, subscription.sender
            for seq in facts.left_out(reader, last, entry.seq - 1, (), sender, delivery.at):
                yield Violation("G5", f"{where} is sent {entry.seq} after {last}, without {seq}")
            last = entry.seq


def _following(facts: Facts, following: Following) -> Iterator[Violation]:
    where = f"a subscription of {following.reader}, across connections,"
    places = [following.after, *(entry.seq for entry in following.entries)]
    for (last, seq), at in zip(pairwise(places), following.handed_at, strict=True):
        if seq <= last:
            yield Violation("G5", f"{where} hands over {seq} after {last}")
        for missing in facts.left_out(following.reader, last, seq - 1, (), following.sender, at):
            yield Violation("G5", f"{where} hands over {seq} after {last}, without {missing}")
    yield from _shown(facts, where, following.reader, following.sender, following.entries, following.contents)


def _shown(
    facts: Facts, where: str, reader: str, sender: str, entries: list[Entry], contents: list[bytes]
) -> Iterator[Violation]:
    """Whatever is shown to somebody was sent to them, by whom it says, as it is."""
    for entry, content in zip(entries, contents, strict=True):
        attempts = facts.attempts.get((entry.sender, entry.id))
        if not attempts:
            yield Violation("G6", f"{where} shows {entry.seq} from {entry.sender}, who never sent it")
        elif not any(reader in each.to for each in attempts):
            yield Violation("G6", f"{where} shows {show(attempts[0])}, which is not for {reader}")
        elif not any(reader in each.to for each in facts.of(entry, content)):
            yield Violation("G6", f"{where} shows {show(attempts[0])} otherwise than it was sent")
        elif sender and entry.sender != sender:
            yield Violation("G6", f"{where} shows a message of {entry.sender}, asked for were {sender}'s")


def _rising(numbers: list[int]) -> bool:
    return all(a < b for a, b in pairwise(numbers))
