"""Judges a history against the guarantees (DESIGN §2), knowing nothing of the code: calls, answers, mailboxes, and what
passed the broker's sockets; no more.

G1  what was accepted is in every recipient's mailbox, at its place, as it was given
G2  no id is in a mailbox twice, every answer about one names one place, and an acceptance stands
G3  a mailbox keeps the order in which one device gave messages to be sent, and its times never go back
G4  every call ends, once, with a result or a stable code that has a reason; what was refused for good is nowhere
G5  a message is read if and only if its recipient acknowledged it; no page and no subscription leaves one out; what is
    said about it (states, counts) agrees
G6  a mailbox holds what was sent to it, from whom it was sent by, and nothing else; nothing is said to who has no
    session, or whose token has ended
G7  no page is larger than asked for, no delivery goes beyond credit, and nothing passes the limits that there are

`facts` arranges a history; `judge_sending`, `judge_reading`, `judge_asking` and `judge_wire` judge it.
"""

from __future__ import annotations

from collections.abc import Iterator

from restante.wire.errors import CODES
from tests.simulation import judge_asking, judge_reading, judge_sending, judge_wire
from tests.simulation.facts import Facts, Violation
from tests.simulation.history import History
from tests.simulation.judge_sending import WITHOUT_CODE


def check(history: History) -> list[Violation]:
    """Every violation, in the order of the guarantees. None: nothing to complain of."""
    found = [*_ends(history), *judge_wire.violations(history)]
    if history.mailboxes and not history.unfinished:
        facts = Facts(history)
        for judge in (judge_sending, judge_reading, judge_asking):
            found += judge.violations(facts)
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
