"""What a reader takes, and when its session hears of it."""

from __future__ import annotations

from restante.events import Consumed, Followed
from restante.waiting import TOLD_PARTS, Reading
from restante.wire.envelopes import Entry

WANTED = Followed(7, messages=80, bytes=8_000)


def reading(count: int, size: int) -> Reading:
    """One to which so many messages were handed, of so many bytes."""
    made = Reading(WANTED)
    entries = [
        Entry(id=bytes(16), seq=n + 1, sender="alice", to=["bob"], size=size, stored_at_us=0) for n in range(count)
    ]
    made.hand(entries, [bytes(size)] * count)
    return made


def told(of: Reading) -> list[int | None]:
    """After each message that is taken, how many are told."""
    found: list[int | None] = []
    while of.waiting:
        of.take()
        event = of.consumed()
        assert event is None or (event.follow, event.bytes % event.messages) == (7, 0)
        found.append(None if event is None else event.messages)
    return found


def test_it_is_told_by_parts_of_the_window_also_while_more_waits() -> None:
    part = WANTED.messages // TOLD_PARTS
    assert told(reading(2 * part + 1, 1)) == [*[None] * (part - 1), part] * 2 + [None]


def test_large_messages_are_told_by_their_bytes() -> None:
    assert told(reading(5, WANTED.bytes // TOLD_PARTS // 2)) == [None, 2, None, 2, None]


def test_what_another_session_has_read_counts_as_taken() -> None:
    of = reading(20, 1)
    of.drop_marked(list(range(1, 16)))
    assert len(of.waiting) == 5
    assert of.consumed() == Consumed(7, 15, 15)
    assert of.consumed() is None
