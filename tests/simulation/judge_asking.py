"""What the server says of how things stand agrees with what it was told: states, counts, names (G4, G5, G8)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from restante.wire.envelopes import Lookup, MessageStatus, Status
from tests.simulation.facts import Facts, Violation, show
from tests.simulation.history import Asking

OUSTED = frozenset({"bad_token", "session_ended", "not_logged_in", "NotLoggedIn"})
"""How a call fails whose session lost its account."""


def violations(facts: Facts) -> Iterator[Violation]:
    """All of them."""
    for asking in facts.history.askings:
        if isinstance(asking.request, Lookup):
            yield from _found(facts, asking, asking.request)
        elif isinstance(asking.request, Status):
            for status in asking.statuses:
                yield from _status(facts, asking, status)
        elif asking.overview is not None:
            yield from _overview(facts, asking)
    yield from _ousted(facts)


def _found(facts: Facts, asking: Asking, lookup: Lookup) -> Iterator[Violation]:
    for name in lookup.names:
        joined = facts.joined(name)
        if name not in asking.names and joined.ended_at < asking.at:
            yield Violation("G4", f"{asking.who} looked for {name}, who was there, and was told there is nobody")
        if name in asking.names and joined.at > asking.ended_at:
            yield Violation("G4", f"{asking.who} looked for {name}, and was told that there is; there was not")


def _overview(facts: Facts, asking: Asking) -> Iterator[Violation]:
    told = asking.overview
    if told is None or not facts.is_open(asking.who):
        return
    unread_min, unread_max, total_min, total_max = facts.counts(asking.who, asking.at, asking.ended_at)
    if told.name != asking.who:
        yield Violation("G6", f"{asking.who} is told to be {told.name}")
    if not unread_min <= told.unread <= unread_max:
        text = f"{told.unread} unread at {asking.at:.3f} s; it had {unread_min} to {unread_max}"
        yield Violation("G5", f"{asking.who}'s mailbox was said to have {text}")
    if not total_min <= told.total <= total_max:
        text = f"{told.total} messages at {asking.at:.3f} s; it had {total_min} to {total_max}"
        yield Violation("G5", f"{asking.who}'s mailbox was said to have {text}")


def _status(facts: Facts, asking: Asking, status: MessageStatus) -> Iterator[Violation]:
    attempts = facts.attempts.get((asking.who, status.id), [])
    if not attempts:
        yield Violation("G5", f"{asking.who} is told the state of something never asked for")
        return
    accepted, what = facts.accepted(attempts[0]), show(attempts[0])
    if status.seq == 0:
        if accepted is not None and accepted.ended_at < asking.at:
            yield Violation("G5", f"{what} had been accepted, and was said at {asking.at:.3f} s to be unknown")
        return
    if accepted is not None and accepted.result is not None and accepted.result.seq != status.seq:
        yield Violation("G2", f"{what} was accepted at {accepted.result.seq}, and is said to be at {status.seq}")
    if [one.name for one in status.recipients] not in [[*dict.fromkeys(each.to)] for each in attempts]:
        yield Violation("G5", f"{what} is said to be for {[one.name for one in status.recipients]}")
    for one in status.recipients:
        if not facts.is_open(one.name):
            continue
        if one.state == "read" and facts.asked_at[one.name].get(status.seq, math.inf) > asking.ended_at:
            yield Violation("G5", f"{what} is said to be read by {one.name}, who had not acknowledged it")
        if one.state != "read" and facts.read_at[one.name].get(status.seq, math.inf) < asking.at:
            yield Violation("G5", f"{what} is said to be {one.state} with {one.name}, who had acknowledged it")


def _ousted(facts: Facts) -> Iterator[Violation]:
    """Nobody loses his session for nothing: somebody wanted one of the account's tokens to end."""
    for sending in facts.history.sendings:
        if sending.failure in OUSTED and facts.history.oustings.get(sending.sender, math.inf) > sending.ended_at:
            yield Violation("G4", f"{show(sending)} failed with {sending.failure}; no token was to end")
