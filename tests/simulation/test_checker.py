"""The checker finds nothing wrong with a sound history, and the one thing that is wrong with each unsound one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from restante.wire.envelopes import Entry, Result, State
from tests.simulation.checker import check
from tests.simulation.history import (
    Acknowledging,
    Call,
    Delivery,
    Following,
    History,
    Mailbox,
    Reading,
    Sending,
    Subscription,
)


def sending(history: History, number: int, *to: str, seq: int = 0, code: str = "") -> Sending:
    """Alice gives a message to be sent, and is told that it lies at `seq`, or why not."""
    given = Sending(
        order=len(history.sendings), at=float(number), sender="alice", run=1, id=an_id(number), to=to,
        content=a_content(number), reply_to=None, ended_at=number + 0.5,
        result=Result(code=code) if code else Result(seq=seq, stored_at_us=seq),
    )  # fmt: skip
    history.sendings.append(given)
    return given


def an_id(number: int) -> bytes:
    return bytes([number]) * 16


def a_content(number: int) -> bytes:
    return b"message %d" % number


def entry(number: int, seq: int, *to: str, state: State = "stored") -> Entry:
    return Entry(
        seq=seq, id=an_id(number), sender="alice", to=list(to), size=len(a_content(number)), stored_at_us=seq,
        state=state,
    )  # fmt: skip


def sound() -> History:
    """Alice sends 1 to 4: three to bob, one of them to herself too, and one to nobody. Bob reads and acknowledges 1."""
    history = History(names=["alice", "bob"])
    sending(history, 1, "bob", seq=10)
    sending(history, 2, "bob", "alice", seq=11)
    sending(history, 3, "ghost", code="unknown_recipient")
    sending(history, 4, "bob", seq=13)
    ones, twos, fours = entry(1, 10, "bob"), entry(2, 11, "bob", "alice"), entry(4, 13, "bob")
    contents = [a_content(1), a_content(2), a_content(4)]
    history.acknowledgings.append(Acknowledging(8.0, "bob", 1, (10,), (), ended_at=9.0, confirmed=True))
    page = Reading(
        at=6.0, ended_at=7.0, reader="bob", after=0, unread=True, sender="", limit=5, through=13, more=False,
        entries=[ones, twos, fours], contents=[*contents],
    )  # fmt: skip
    history.readings.append(page)
    subscription = Subscription("bob", 0, "", 3, 100)
    subscription.deliveries = [Delivery(6.0, 1, [ones, twos], 3, 100), Delivery(6.5, 3, [fours], 3, 100)]
    history.subscriptions.append(subscription)
    history.followings.append(Following("bob", 1, 0, "", [ones, twos, fours], [*contents], [6.0, 6.0, 6.5]))
    history.calls.append(Call(1.0, "alice", "send", ended_at=1.5, ends=1))
    history.mailboxes = {
        "alice": Mailbox([twos], [a_content(2)], [11]),
        "bob": Mailbox([replace(ones, state="read"), twos, fours], [*contents], [11, 13]),
    }
    return history


def test_nothing_is_wrong_with_a_sound_history() -> None:
    assert check(sound()) == []


# --- one thing that is wrong, each ------------------------------------------------------------------------

Wrong = Callable[[History], None]
WRONGS: dict[str, tuple[str, str, Wrong]] = {}
"""By name: the guarantee, a part of the complaint, and what is done to a sound history."""


def wrong(guarantee: str, complaint: str) -> Callable[[Wrong], Wrong]:
    def register(do: Wrong) -> Wrong:
        WRONGS[do.__name__] = guarantee, complaint, do
        return do

    return register


def drop(history: History, name: str, at: int) -> None:
    """Take a message out of a mailbox, and out of everything that anybody saw of it."""
    mailbox = history.mailboxes[name]
    seq = mailbox.entries[at].seq
    del mailbox.entries[at], mailbox.contents[at]
    mailbox.unread = [each for each in mailbox.unread if each != seq]


@wrong("G1", "it is not there")
def accepted_and_lost(history: History) -> None:
    drop(history, "bob", 2)


@wrong("G1", "it is not there")
def lost_with_one_recipient_of_two(history: History) -> None:
    drop(history, "alice", 0)


@wrong("G1", "other content")
def stored_with_other_content(history: History) -> None:
    history.mailboxes["bob"].contents[2] = b"something else"


@wrong("G2", "at [11, 12]")
def stored_twice(history: History) -> None:
    mailbox = history.mailboxes["bob"]
    mailbox.entries.insert(2, replace(mailbox.entries[1], seq=12))
    mailbox.contents.insert(2, mailbox.contents[1])
    mailbox.unread = [11, 12, 13]


@wrong("G2", "was accepted at")
def answered_twice_with_different_places(history: History) -> None:
    again = sending(history, 1, "bob", seq=10)
    again.result = Result(seq=10, stored_at_us=99)


@wrong("G3", "given before")
def stored_out_of_order(history: History) -> None:
    first, last = history.sendings[0], history.sendings[3]
    first.order, last.order = last.order, first.order
    history.sendings[0], history.sendings[3] = last, first


@wrong("G4", "never ended")
def a_call_without_an_end(history: History) -> None:
    history.calls[0].ends = 0


@wrong("G4", "ended 2 times")
def a_call_with_two_ends(history: History) -> None:
    history.calls[0].ends = 2


@wrong("G4", "no code")
def a_call_that_failed_without_a_code(history: History) -> None:
    history.calls[0].failure = "KeyError"


@wrong("G4", "no end")
def a_program_that_hangs(history: History) -> None:
    history.unfinished.append("alice waits")


@wrong("G4", "was told 'accepted'")
def accepted_for_nobody(history: History) -> None:
    history.sendings[2].result = Result(seq=12, stored_at_us=12)


@wrong("G4", "was told 'unknown_recipient'")
def a_recipient_who_exists_is_unknown(history: History) -> None:
    history.sendings[3].result = Result(code="unknown_recipient")


@wrong("G4", "was refused, and is in")
def refused_and_stored(history: History) -> None:
    history.sendings[2].to = ("bob", "ghost")
    mailbox = history.mailboxes["bob"]
    mailbox.entries.insert(2, entry(3, 12, "bob", "ghost"))
    mailbox.contents.insert(2, a_content(3))
    mailbox.unread = [11, 12, 13]


@wrong("G5", "nobody acknowledged it")
def read_without_an_acknowledgement(history: History) -> None:
    mailbox = history.mailboxes["bob"]
    mailbox.unread.remove(13)
    mailbox.entries[2] = replace(mailbox.entries[2], state="read")


@wrong("G5", "and it is unread")
def an_acknowledgement_that_was_forgotten(history: History) -> None:
    mailbox = history.mailboxes["bob"]
    mailbox.unread = [10, 11, 13]
    mailbox.entries[0] = replace(mailbox.entries[0], state="stored")


@wrong("G5", "is shown it as unread")
def shown_again_after_the_acknowledgement(history: History) -> None:
    history.readings[0].at = 9.5


@wrong("G5", "leaves out 11")
def a_page_with_a_hole(history: History) -> None:
    page = history.readings[0]
    del page.entries[1], page.contents[1]


@wrong("G5", "leaves out 13")
def a_page_that_claims_too_much(history: History) -> None:
    page = history.readings[0]
    page.entries, page.contents = page.entries[:2], page.contents[:2]


@wrong("G5", "without 11")
def a_subscription_with_a_gap(history: History) -> None:
    history.subscriptions[0].deliveries = [
        Delivery(6.0, 1, [entry(1, 10, "bob")], 3, 100),
        Delivery(6.5, 2, [entry(4, 13, "bob")], 3, 100),
    ]


@wrong("G5", "is sent 11 after 11")
def a_subscription_with_a_repeat(history: History) -> None:
    delivery = history.subscriptions[0].deliveries[1]
    delivery.entries = [entry(2, 11, "bob", "alice")]


@wrong("G5", "numbers a delivery 4 after 2")
def a_delivery_with_a_wrong_number(history: History) -> None:
    history.subscriptions[0].deliveries[1].first = 4


@wrong("G5", "hands over 13 after 10, without 11")
def a_gap_across_connections(history: History) -> None:
    following = history.followings[0]
    del following.entries[1], following.contents[1], following.handed_at[1]


@wrong("G5", "is stored in bob's mailbox, unread: False")
def a_state_that_contradicts_the_unread(history: History) -> None:
    history.mailboxes["bob"].entries[0] = replace(history.mailboxes["bob"].entries[0], state="stored")


@wrong("G6", "who never sent it")
def a_forged_sender(history: History) -> None:
    mailbox = history.mailboxes["bob"]
    mailbox.entries[2] = replace(mailbox.entries[2], sender="bob")


@wrong("G6", "not for alice")
def a_foreign_mailbox(history: History) -> None:
    page = history.readings[0]
    history.readings.append(replace(page, reader="alice", entries=[entry(1, 10, "bob")], contents=[a_content(1)]))


@wrong("G6", "otherwise than it was sent")
def shown_with_other_recipients(history: History) -> None:
    page = history.readings[0]
    page.entries[1] = replace(page.entries[1], to=["bob"])


@wrong("G6", "asked for were bob's")
def a_filter_that_lets_others_through(history: History) -> None:
    history.readings[0].sender = "bob"


@wrong("G7", "asked for were 2")
def a_page_that_is_too_large(history: History) -> None:
    history.readings[0].limit = 2


@wrong("G7", "has had 2 and 18 of 2 messages and 100 bytes")
def a_delivery_beyond_the_credit(history: History) -> None:
    history.subscriptions[0].deliveries[1].messages = 2


@wrong("G7", "has had 2 and 18 of 3 messages and 18 bytes")
def a_delivery_beyond_the_credit_in_bytes(history: History) -> None:
    history.subscriptions[0].deliveries[1].bytes = 18


@pytest.mark.parametrize("name", WRONGS)
def test_what_is_wrong_is_found(name: str) -> None:
    guarantee, complaint, do = WRONGS[name]
    history = sound()
    do(history)
    found = check(history)
    assert any(v.guarantee == guarantee and complaint in v.text for v in found), found


# --- what is not wrong ------------------------------------------------------------------------------------


def test_what_a_killed_process_waited_for_is_nobodys() -> None:
    history = sound()
    history.calls.append(Call(2.0, "alice", "send", orphaned=True))
    history.sendings[3].result = None
    drop(history, "bob", 2)
    history.subscriptions.clear()
    history.followings.clear()
    history.readings.clear()
    assert check(history) == []


def test_a_message_that_failed_holds_nobody_up() -> None:
    history = sound()
    history.sendings[0].result, history.sendings[0].failure = None, "OutcomeUnknown"
    sending(history, 1, "bob", seq=14)
    bob = history.mailboxes["bob"]
    bob.entries = [*bob.entries[1:], entry(1, 14, "bob")]
    bob.contents, bob.unread = [*bob.contents[1:], a_content(1)], [11, 13, 14]
    for seen in (history.readings, history.subscriptions, history.followings, history.acknowledgings):
        seen.clear()
    assert check(history) == []


def test_the_last_message_may_pass_the_credit_in_bytes() -> None:
    history = sound()
    history.subscriptions[0].deliveries[1].bytes = 19
    assert check(history) == []


def test_what_was_acknowledged_meanwhile_may_be_left_out() -> None:
    history = sound()
    history.acknowledgings.append(Acknowledging(6.5, "bob", 1, (), (an_id(2),)))
    page = history.readings[0]
    del page.entries[1], page.contents[1]
    assert check(history) == []
