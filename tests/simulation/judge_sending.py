"""G1 to G4, of what was sent: where it is, how often, in which order, and why not."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from restante.wire.errors import CODES
from tests.simulation.facts import Facts, Violation, show
from tests.simulation.history import Sending

WITHOUT_CODE = frozenset({"OutcomeUnknown", "UnreachableError"})
"""How a call may end to which no server gave an answer."""


def violations(facts: Facts) -> Iterator[Violation]:
    """All of them."""
    yield from _accepted(facts)
    yield from _once(facts)
    yield from _order(facts)
    for sending in facts.history.sendings:
        yield from _answered(facts, sending)
    yield from _refused(facts)
    yield from _full(facts)


def _accepted(facts: Facts) -> Iterator[Violation]:
    for sending in facts.history.sendings:
        if sending.result is None or sending.result.code:
            continue
        seq = sending.result.seq
        for name in filter(facts.is_open, dict.fromkeys(sending.to)):
            entry = facts.entries[name].get(seq)
            if entry is None or entry.id != sending.id:
                yield Violation("G1", f"{show(sending)} was accepted as {seq}; it is not there in {name}'s mailbox")
            elif facts.contents[name][seq] != sending.content:
                yield Violation("G1", f"{show(sending)} is in {name}'s mailbox with other content")
            elif entry.stored_at_us != sending.result.stored_at_us:
                yield Violation("G1", f"{show(sending)} is in {name}'s mailbox with another time")


def _once(facts: Facts) -> Iterator[Violation]:
    for name, mailbox in facts.history.mailboxes.items():
        places: dict[tuple[str, bytes], list[int]] = defaultdict(list)
        for entry in mailbox.entries:
            places[entry.sender, entry.id].append(entry.seq)
        for (sender, _), seqs in places.items():
            if len(seqs) > 1:
                yield Violation("G2", f"a message of {sender} is in {name}'s mailbox at {seqs}")
    for attempts in facts.attempts.values():
        told = {(s.result.seq, s.result.stored_at_us) for s in attempts if s.result and not s.result.code}
        if len(told) > 1:
            yield Violation("G2", f"{show(attempts[0])} was accepted at {sorted(told)}")


# --- order ------------------------------------------------------------------------------------------------


def _order(facts: Facts) -> Iterator[Violation]:
    for name, mailbox in facts.history.mailboxes.items():
        by_device: dict[str, list[tuple[int, int, Sending]]] = defaultdict(list)
        last_us = 0
        for entry in mailbox.entries:
            attempts = facts.of(entry, facts.contents[name][entry.seq])
            if attempts:
                by_device[attempts[0].device].append((attempts[0].order, entry.seq, attempts[0]))
            if entry.stored_at_us < last_us:
                yield Violation("G3", f"{entry.seq} in {name}'s mailbox was stored before what lies before it")
            last_us = entry.stored_at_us
        for given in by_device.values():
            yield from _in_order(facts, name, sorted(given, key=lambda row: row[0]))


def _in_order(facts: Facts, name: str, given: list[tuple[int, int, Sending]]) -> Iterator[Violation]:
    """What came first lies first. A message whose sender was told that it failed, or was refused, holds nobody up:
    given again it is a new message, and whatever was sent meanwhile may lie before it.
    """
    highest, before = 0, ""
    for _, seq, sending in given:
        if seq < highest:
            text = f"{show(sending)} lies at {seq} in {name}'s mailbox, behind it {before} at {highest}, given before"
            yield Violation("G3", text)
        attempts = facts.attempts[sending.sender, sending.id]
        if seq > highest and not any(_may_have_failed(facts, each) for each in attempts):
            highest, before = seq, show(sending)


def _may_have_failed(facts: Facts, sending: Sending) -> bool:
    """Whether it failed, or was refused. A refusal that nobody heard counts: refusal is not sticky (RULES 12), so what
    goes again after a lost answer may be taken where it was refused before, behind what was taken then.
    """
    if sending.failure or (sending.result is not None and sending.result.code):
        return True
    return _may_be_full(facts, sending) or any(_may_be_unknown(facts, name, sending) for name in sending.to)


# --- answers ----------------------------------------------------------------------------------------------


def _answered(facts: Facts, sending: Sending) -> Iterator[Violation]:
    """Whether what was told of one attempt may be so."""
    if sending.failure and sending.failure not in CODES and sending.failure not in WITHOUT_CODE:
        yield Violation("G4", f"{show(sending)} failed with {sending.failure!r}, which is no code")
    if sending.result is None:
        return
    code, told = sending.result.code, f"{show(sending)} was told {sending.result.code or 'accepted'!r}"
    if code and code not in CODES:
        yield Violation("G4", f"{show(sending)} was refused with {code!r}, which is no code")
    yield from _sticks(facts, sending, told)
    nobody = [name for name in sending.to if facts.joined(name).at > sending.ended_at]
    doubtful = [name for name in sending.to if _may_be_unknown(facts, name, sending)]
    if (nobody and code not in ("unknown_recipient", "id_conflict")) or (code == "unknown_recipient" and not doubtful):
        yield Violation("G4", f"{told}; unknown are {nobody}")
    if code == "id_conflict" and not _others(facts, sending):
        yield Violation("G4", f"{told}; there is nothing else of that id")
    if code == "mailbox_full" and not _may_be_full(facts, sending):
        yield Violation("G4", f"{told}; there was room in every mailbox")
    if code not in ("", "unknown_recipient", "id_conflict", "mailbox_full"):
        yield Violation("G4", f"{told}, which nothing was the matter with")


def _sticks(facts: Facts, sending: Sending, told: str) -> Iterator[Violation]:
    """Once something is accepted a repetition is told so, and whatever else has that id is not (RULES 12)."""
    first = facts.accepted(sending)
    if first is None or first is sending or first.ended_at >= sending.at:
        return
    same = first.content == sending.content and set(first.to) == set(sending.to)
    expected = "" if same else "id_conflict"
    if sending.result is not None and sending.result.code != expected:
        yield Violation("G2", f"{told}; {show(first)} had been accepted under that id before")


def _others(facts: Facts, sending: Sending) -> list[Sending]:
    """Other messages that were given under the same id before this one's answer."""
    return [
        each
        for each in facts.attempts[sending.sender, sending.id]
        if (each.content, set(each.to)) != (sending.content, set(sending.to)) and each.at <= sending.ended_at
    ]


def _may_be_unknown(facts: Facts, name: str, sending: Sending) -> bool:
    """Whether there may have been no such account while this attempt was under way."""
    closing = facts.history.closings.get(name)
    return facts.joined(name).ended_at > sending.at or (closing is not None and closing.at <= sending.ended_at)


def _may_be_full(facts: Facts, sending: Sending) -> bool:
    """Whether some recipient's mailbox may have had as much unread as it takes."""
    most = facts.history.limits.get("unread", math.inf)
    return any(
        not facts.is_open(name) or facts.counts(name, sending.at, sending.ended_at)[1] >= most
        for name in sending.to
        if name in facts.history.mailboxes
    )


def _refused(facts: Facts) -> Iterator[Violation]:
    """What was refused for good whenever it was given is nowhere; a closed mailbox took nothing new."""
    for name, entries in facts.entries.items():
        for seq, entry in entries.items():
            attempts = facts.of(entry, facts.contents[name][seq])
            if attempts and all(each.result and each.result.code for each in attempts):
                yield Violation("G4", f"{show(attempts[0])} was refused, and is in {name}'s mailbox")
    for name, closing in facts.history.closings.items():
        for attempts in facts.attempts.values():
            fresh = name in attempts[0].to and attempts[0].at > closing.ended_at
            if fresh and any(each.result and not each.result.code for each in attempts if name in each.to):
                yield Violation("G4", f"{show(attempts[0])} was accepted for {name}, whose mailbox was closed")


def _full(facts: Facts) -> Iterator[Violation]:
    """No mailbox ever has more unread than it takes."""
    most = facts.history.limits.get("unread")
    for name in facts.open() if most else ():
        steps = []
        for seq, entry in facts.entries[name].items():
            ended = [s.ended_at for s in facts.attempts[entry.sender, entry.id] if s.result and not s.result.code]
            if ended and min(ended) < facts.asked_at[name].get(seq, float("inf")):
                steps += [(min(ended), 1), (facts.asked_at[name].get(seq, float("inf")), -1)]
        unread = 0
        for at, step in sorted(steps):
            unread += step
            if most is not None and unread > most:
                yield Violation("G7", f"{name}'s mailbox has {unread} unread at {at:.3f} s, and takes {most}")
                break
