"""What the broker does about reading: chapter 8 of the specification, pages, acknowledgements and subscriptions."""

from __future__ import annotations

import pytest

from restante.wire import envelopes as e
from restante.wire import limits
from tests.protocol.dialogue import HISTORY, Client, World
from tests.protocol.speech import deliveries, message, of_type, refused, send


def fill(client: Client, count: int, *, first: int = 1, size: int = 2, to: str = "bob") -> None:
    """Leave messages; their seqs follow one another."""
    for n in range(first, first + count):
        send(client, n, message(n, to, size=size))


def page(client: Client, after: int = 0, *, limit: int = 100, unread: bool = True, peek: bool = False) -> e.Page:
    got = client.ask(e.Fetch(id=client.next_id(), after=after, limit=limit, unread=unread, peek=peek))
    assert isinstance(got, e.Page), got
    return got


def subscribe(client: Client, sub: int = 1, *, after: int = 0, messages: int = 100, size: int = 1 << 20) -> None:
    got = client.ask(e.Subscribe(id=client.next_id(), sub=sub, after=after, messages=messages, bytes=size))
    assert isinstance(got, e.Subscribed), got


def state(client: Client, n: int) -> str:
    got = client.ask(e.Status(id=client.next_id(), ids=[message(n).id]))
    assert isinstance(got, e.Statuses)
    return got.messages[0].recipients[0].state


class TestPages:
    def test_pages_hold_everything_once_in_order(self, bob: Client) -> None:
        """[D1] [D2] [D3]"""
        fill(bob, 7)
        found, after, more = [], 0, True
        while more:
            got = page(bob, after, limit=3)
            assert len(got.messages) <= 3
            found += [entry.seq for entry in got.messages]
            after, more = got.through, got.more
        assert found == sorted(set(found))
        assert len(found) == 7

    def test_a_page_is_bounded_in_bytes(self, bob: Client) -> None:
        """[D3]"""
        fill(bob, 5, size=limits.MESSAGE_BYTES_MAX)
        assert len(page(bob).messages) == limits.PAGE_BYTES_MAX // limits.MESSAGE_BYTES_MAX

    def test_a_cursor_of_another_history(self, bob: Client) -> None:
        """[D4]"""
        refused(bob.ask(e.Fetch(id=50, after=3, history=b"another history!")), "history_changed")
        assert isinstance(bob.ask(e.Fetch(id=51, history=HISTORY)), e.Page)

    def test_reading_acknowledges_nothing(self, world: World, bob: Client) -> None:
        """[D5]"""
        fill(bob, 3)
        subscribe(bob)
        assert len(page(bob).messages) == len(page(bob).messages) == len(page(world.login("bob")).messages) == 3

    @pytest.mark.parametrize(
        ("fetch", "wanted"),
        [
            (e.Fetch(id=50), "delivered"),
            (e.Fetch(id=50, peek=True), "stored"),
            (e.Fetch(id=50, unread=False), "stored"),
            (e.Fetch(id=50, sender="eve"), "stored"),
        ],
    )
    def test_what_marks_delivered(self, world: World, bob: Client, fetch: e.Fetch, wanted: str) -> None:
        """[D6]"""
        eve = world.login("eve")
        send(eve, 1, message(1, "bob"))
        assert isinstance(bob.ask(fetch), e.Page)
        world.wait(3, bob, eve)
        assert state(eve, 1) == wanted

    @pytest.mark.parametrize(("sender", "wanted"), [("", "delivered"), ("eve", "stored")])
    def test_a_delivery_marks_delivered(self, world: World, bob: Client, sender: str, wanted: str) -> None:
        """[D6]: one without filter, since the mark covers everything up to it."""
        eve = world.login("eve")
        bob.ask(e.Subscribe(id=50, sub=1, sender=sender, messages=9, bytes=99))
        send(eve, 1, message(1, "bob"))
        assert deliveries(bob) == [(1, 1)]
        world.wait(3, bob, eve)
        assert state(eve, 1) == wanted

    def test_a_fetch_after_sent_finds_what_was_sent(self, bob: Client) -> None:
        """[D7]"""
        for n in range(1, 5):
            send(bob, n)
            assert [entry.id for entry in page(bob).messages][-1] == message(n).id

    def test_what_was_told_is_seen_in_every_session(self, world: World, bob: Client) -> None:
        """[D7]: of every recipient, and by the sender."""
        eve, other = world.login("eve"), world.login("bob")
        send(eve, 1, message(1, "bob", "eve"))
        assert [len(page(client).messages) for client in (bob, other, eve)] == [1, 1, 1]
        assert bob.ask(e.Ack(id=50, ids=[message(1).id])) == e.Acked(id=50, changed=1)
        assert [len(page(client).messages) for client in (other, bob, eve)] == [0, 0, 1]
        assert state(world.login("eve"), 1) == state(eve, 1) == "read"

    def test_a_mailbox_is_its_account_s(self, world: World, bob: Client) -> None:
        """[D8]"""
        eve = world.login("eve")
        fill(bob, 1)
        assert page(eve).messages == []
        assert eve.ask(e.Ack(id=50, seqs=[1])) == e.Acked(id=50, unknown_seqs=[1])
        assert len(page(bob).messages) == 1

    def test_contents_come_out_as_they_went_in(self, bob: Client) -> None:
        """[F6] [F7]"""
        contents = [bytes(range(256)), b"\0", "grüße".encode()]
        items = [message(n, size=len(content)) for n, content in enumerate(contents, 1)]
        send(bob, 1, *items, body=b"".join(contents))
        page(bob)
        assert bob.heard[-1][1] == b"".join(contents)


class TestAcknowledgements:
    def test_marks_are_answered_with_what_was_not_there(self, bob: Client) -> None:
        """[D9]"""
        fill(bob, 3)
        one, two, _ = (entry.seq for entry in page(bob).messages)
        got = bob.ask(e.Ack(id=50, seqs=[one, 999], ids=[message(2).id, message(77).id]))
        assert got == e.Acked(id=50, changed=2, unknown_seqs=[999], unknown_ids=[message(77).id])
        assert len(page(bob).messages) == 1
        assert bob.ask(e.Ack(id=51, seqs=[one, two])) == e.Acked(id=51, changed=0)

    def test_an_id_marks_every_message_of_that_id(self, world: World, bob: Client) -> None:
        """[D9]"""
        send(bob, 1, message(1, "bob"))
        send(world.login("eve"), 1, message(1, "bob"))
        assert bob.ask(e.Ack(id=50, ids=[message(1).id])) == e.Acked(id=50, changed=2)

    def test_a_mark_can_be_taken_back(self, world: World, bob: Client) -> None:
        """[D9]"""
        eve = world.login("eve")
        send(eve, 1, message(1, "bob"))
        bob.ask(e.Ack(id=50, ids=[message(1).id]))
        assert state(eve, 1) == "read"
        assert bob.ask(e.Ack(id=51, ids=[message(1).id], read=False)) == e.Acked(id=51, changed=1)
        assert state(eve, 1) == "stored"
        assert len(page(bob).messages) == 1

    def test_nothing_is_answered_before_it_is_on_disk(self, world: World, bob: Client) -> None:
        """[D9]"""
        fill(bob, 1)
        world.store_silent = True
        assert bob.say(e.Ack(id=50, seqs=[1])) == []

    def test_nobody_answers_for_a_store_that_is_gone(self, world: World, bob: Client) -> None:
        """[D9] [R5]"""
        world.store_silent = True
        world.wait(2 * limits.LINK_SILENCE_S_MAX + 3, bob)
        for request in (e.Ack(id=50), e.Fetch(id=51), e.Subscribe(id=52, sub=1), e.Overview(id=53)):
            refused(bob.ask(request), "unavailable")


class TestSubscriptions:
    def test_first_the_backlog_then_what_arrives(self, bob: Client) -> None:
        """[U1] [U2]"""
        fill(bob, 3)
        subscribe(bob)
        fill(bob, 3, first=4)
        assert deliveries(bob) == [(n, n) for n in range(1, 7)]

    def test_what_was_acknowledged_does_not_come(self, bob: Client) -> None:
        """[U1]"""
        fill(bob, 3)
        bob.ask(e.Ack(id=50, seqs=[2]))
        subscribe(bob)
        assert deliveries(bob) == [(1, 1), (2, 3)]

    def test_without_credit_nothing_comes(self, bob: Client) -> None:
        """[U3]: neither total alone is enough."""
        fill(bob, 1)
        for sub, (messages, size) in enumerate([(0, 0), (5, 0), (0, 500)], 1):
            subscribe(bob, sub, messages=messages, size=size)
        fill(bob, 1, first=2)
        assert deliveries(bob) == []

    def test_never_more_messages_than_credit(self, bob: Client) -> None:
        """[U3]"""
        fill(bob, 5)
        subscribe(bob, messages=2)
        fill(bob, 2, first=6)
        assert [n for n, _ in deliveries(bob)] == [1, 2]
        bob.say(e.Credit(sub=1, messages=6, bytes=1 << 20))
        fill(bob, 2, first=8)
        assert deliveries(bob) == [(n, n) for n in range(1, 7)]

    def test_the_last_message_may_pass_the_bytes(self, bob: Client) -> None:
        """[U3]"""
        fill(bob, 4, size=10)
        subscribe(bob, size=15)
        assert [n for n, _ in deliveries(bob)] == [1, 2]

    def test_totals_never_shrink(self, bob: Client) -> None:
        """[U4]"""
        subscribe(bob, messages=3)
        bob.say(e.Credit(sub=1, messages=1, bytes=0))
        fill(bob, 4)
        assert [n for n, _ in deliveries(bob)] == [1, 2, 3]

    def test_credit_beyond_the_limit_is_cut_off(self, bob: Client) -> None:
        """[U5]"""
        for n in range(1, 4):
            items = [message(n * 1_000 + at) for at in range(500)]
            send(bob, n, *items)
        subscribe(bob, messages=2**53 - 1, size=2**53 - 1)
        bob.say(e.Credit(sub=1, messages=1, bytes=1))
        assert len(deliveries(bob)) == limits.CREDIT_MESSAGES_MAX
        bob.say(e.Credit(sub=1, messages=2**53 - 1, bytes=2**53 - 1))
        assert len(deliveries(bob)) == 1_500

    def test_credit_for_no_subscription_is_ignored(self, world: World, bob: Client) -> None:
        """[U6]"""
        for client in (world.greet(), bob):
            assert client.say(e.Credit(sub=5, messages=1, bytes=1)) == []
        assert bob.greeted()

    def test_credit_from_who_was_forgotten_tells_so(self, world: World, bob: Client) -> None:
        """[U6]: a reader whose session is over would else wait for ever."""
        subscribe(bob)
        world.wait(100)
        (got,) = bob.say(e.Credit(sub=1, messages=1, bytes=1))
        assert refused(got, "no_session", fatal=True).id is None

    def test_a_number_that_stands_begins_anew(self, bob: Client) -> None:
        """[U7]"""
        fill(bob, 3)
        subscribe(bob)
        subscribe(bob, after=1, messages=1)
        assert deliveries(bob)[3:] == [(1, 2)]

    def test_one_subscription_too_many(self, bob: Client) -> None:
        """[U8]"""
        for sub in range(1, limits.SUBSCRIPTIONS_PER_SESSION_MAX + 1):
            subscribe(bob, sub)
        refused(bob.ask(e.Subscribe(id=50, sub=99)), "too_large")
        assert bob.ask(e.Unsubscribe(id=51, sub=1)) == e.Done(id=51)
        subscribe(bob, 99)

    def test_an_unknown_subscription_cannot_be_ended(self, bob: Client) -> None:
        """[U8]"""
        refused(bob.ask(e.Unsubscribe(id=50, sub=1)), "unknown_subscription")

    def test_after_its_end_nothing_comes(self, bob: Client) -> None:
        """[U8] [U6]"""
        subscribe(bob)
        bob.ask(e.Unsubscribe(id=50, sub=1))
        fill(bob, 1)
        assert deliveries(bob) == []

    def test_marks_are_announced_to_the_other_sessions(self, world: World, bob: Client) -> None:
        """[U9]"""
        other, eve = world.login("bob"), world.login("eve")
        for client in (bob, other, eve):
            subscribe(client, 4)
        fill(bob, 2)
        bob.ask(e.Ack(id=50, seqs=[1, 2]))
        other.ask(e.Ack(id=51, seqs=[2], read=False))
        assert of_type(other, e.Marked) == [e.Marked(sub=4, seqs=[1, 2])]
        assert of_type(bob, e.Marked) == [e.Marked(sub=4, seqs=[2], read=False)]
        assert of_type(eve, e.Marked) == []

    def test_what_changed_nothing_is_not_announced(self, world: World, bob: Client) -> None:
        """[U9]"""
        other = world.login("bob")
        subscribe(other)
        bob.ask(e.Ack(id=50, seqs=[7]))
        assert of_type(other, e.Marked) == []

    def test_a_cursor_of_another_history(self, bob: Client) -> None:
        """[U10]"""
        refused(bob.ask(e.Subscribe(id=50, sub=1, history=b"another history!")), "history_changed")
        refused(bob.ask(e.Unsubscribe(id=51, sub=1)), "unknown_subscription")

    def test_a_filter_lets_through_one_sender(self, world: World, bob: Client) -> None:
        """[U1]"""
        eve = world.login("eve")
        bob.ask(e.Subscribe(id=50, sub=1, sender="EVE", messages=9, bytes=99))
        send(bob, 1, message(1, "bob"))
        send(eve, 1, message(2, "bob"))
        assert deliveries(bob) == [(1, 2)]

    def test_every_session_sees_all_that_is_unread(self, world: World, bob: Client) -> None:
        """[D5] [U1]"""
        other = world.login("bob")
        subscribe(bob)
        subscribe(other)
        fill(bob, 2)
        assert deliveries(bob) == deliveries(other) == [(1, 1), (2, 2)]

    def test_the_link_to_the_store_breaks_and_nothing_is_missed_or_repeated(self, world: World, bob: Client) -> None:
        """[U1] [R1]"""
        subscribe(bob)
        fill(bob, 2)
        world.store_silent = True
        assert bob.say(e.Send.of(50, bytes([7]) * 16, 3, [message(3)]), b"xx") == []
        world.wait(limits.LINK_SILENCE_S_MAX + 2, bob)
        world.store_silent = False
        world.wait(3, bob)
        assert [h.id for h in of_type(bob, e.Sent)].count(50) == 1
        fill(bob, 1, first=4)
        assert deliveries(bob) == [(n, n) for n in range(1, 5)]
