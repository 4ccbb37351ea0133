"""What became of the messages of a batch; what a reader takes, and when its session hears of it."""

from __future__ import annotations

import pytest

from restante.events import Consumed, Followed
from restante.messages import Outcome, Outgoing, Receipt
from restante.waiting import TOLD_PARTS, Batch, Reading, Sending, refused
from restante.wire.envelopes import TEXT, ApartResult, Entry, Result
from restante.wire.errors import Busy, MailboxFull, RefusedError, UnknownRecipient

WANTED = Followed(7, messages=80, bytes=8_000)


OUTGOINGS = [Outgoing("bob", str(number)) for number in range(4)]
IDS = [bytes([number]) * 16 for number in range(4)]


def batch() -> Batch:
    """Four messages, given."""
    made = open_batch()
    made.submission()
    made.told()
    return made


def open_batch() -> Batch:
    """The same, before the session is told of them."""
    made = Batch("asker", 1.0, 2)
    for outgoing, message_id in zip(OUTGOINGS, IDS, strict=True):
        made.add(outgoing, (message_id, "bob", 1, TEXT, None, str(outgoing.body).encode()), 1.0)
    return made


class TestBatch:
    def test_each_has_what_became_of_it(self) -> None:
        made = batch()
        apart = [
            ApartResult(place=1, result=Result(code="unknown_recipient", text="no account is named 'bob'")),
            ApartResult(place=2, result=Result(seq=3, stored_at_us=4, again=True)),
        ]
        made.settle(0, [7, 0, 3, 8], 9, apart)
        assert made.done
        first, second, third, fourth = (Sending(made, place) for place in range(4))
        assert first.stored() == Receipt(IDS[0], 7, 9)
        assert isinstance(second.error, UnknownRecipient)
        with pytest.raises(UnknownRecipient):
            second.stored()
        assert third.stored() == Receipt(IDS[2], 3, 4, again=True)
        assert fourth.stored() == Receipt(IDS[3], 8, 9)
        assert list(made.outcomes(5)) == [
            Outcome(5, OUTGOINGS[0], IDS[0], 7, 9),
            Outcome(6, OUTGOINGS[1], IDS[1], 0, 9, error=second.error),
            Outcome(7, OUTGOINGS[2], IDS[2], 3, 4, again=True),
            Outcome(8, OUTGOINGS[3], IDS[3], 8, 9),
        ]

    def test_what_is_simply_stored_says_no_more(self) -> None:
        made = batch()
        made.settle(0, [1, 2, 3, 4], 9)
        assert list(made.outcomes(0)) == [Outcome(n, OUTGOINGS[n], IDS[n], n + 1, 9) for n in range(4)]

    def test_parts_may_end_apart_and_in_any_order(self) -> None:
        made, ended = batch(), list[int]()
        for place in range(4):
            made.notify(place, lambda place=place: ended.append(place))  # type: ignore[misc]
        made.forget(3)
        made.settle(2, [8, 9], 5)
        assert ([made.done_at(place) for place in range(4)], made.pending) == ([False, False, True, True], 0)
        made.settle(0, [7], 6)
        assert (made.done, made.pending) == (False, 1)
        made.fail(1, [Busy("later")])
        assert made.done
        assert list(made.errors) == [1]
        assert ended == [2, 0, 1]
        assert [made.stored_at_us[place] for place in (0, 2, 3)] == [6, 5, 5]

    def test_a_place_that_the_server_gives_to_what_it_refuses_is_none(self) -> None:
        made = batch()
        made.settle(0, [1, 2, 3, 4], 9, [ApartResult(place=1, result=Result(seq=2, code="mailbox_full"))])
        assert not made.stored(1)
        assert isinstance(Sending(made, 1).error, MailboxFull)

    def test_neither_a_place_nor_a_code_is_a_refusal(self) -> None:
        made = batch()
        made.settle(0, [1, 0, 3, 4], 9, [ApartResult(place=1, result=Result())])
        assert isinstance(Sending(made, 1).error, RefusedError)

    def test_an_open_one_is_not_done(self) -> None:
        made = open_batch()
        assert [Sending(made, place).id for place in range(4)] == IDS
        assert (made.done, made.done_at(0), made.stored(3), made.last, made.pending) == (False, False, False, 3, 0)

    def test_outgoings_are_kept_for_who_asks_for_outcomes_alone(self) -> None:
        made = Batch(None, 1.0, 2)
        made.add(OUTGOINGS[0], (IDS[0], "bob", 1, TEXT, None, b"0"), 1.0)
        submission = made.submission()
        made.told()
        assert (submission.bodies, submission.owner, made.outgoings, made._rows) == ([b"0"], made, [], [])

    def test_what_is_refused_at_once_has_no_id(self) -> None:
        made = refused("asker", OUTGOINGS[0], Busy("later"))
        assert (made.done, made.stored(0), Sending(made, 0).id) == (True, False, b"")


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
