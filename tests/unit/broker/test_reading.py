"""Reading: pages, acks, states; and subscriptions, without a gap, without a repeat, never past their credit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker.delivered import NOTE_S
from restante.wire import codec, envelopes, limits, store_link
from restante.wire.envelopes import (
    Ack,
    Acked,
    Credit,
    Deliver,
    Done,
    Entry,
    Error,
    Fetch,
    Marked,
    Overview,
    Page,
    Request,
    Status,
    Statuses,
    Subscribe,
    Unsubscribe,
)
from tests.unit.broker.world import Client, World, an_id


def a_world() -> tuple[World, Client, Client]:
    """A ready world in which Ann can send to Bob."""
    world = World.ready()
    bob = world.log_in("bob")
    ann = world.log_in("ann")
    world.broker._names.learn({"bob": world.auth.accounts["bob"]})
    return world, ann, bob


def send(ann: Client, *contents: bytes) -> None:
    """Ann sends Bob these, and everybody works until nothing is left to do."""
    stream = an_id(next(ann._message_ids))
    ann.send(1, "bob", contents=contents, stream=stream)
    ann.world.settle()


def contents(delivered: list[tuple[Entry, bytes]]) -> list[bytes]:
    return [content for _, content in delivered]


class TestPages:
    def test_a_page_is_the_stores(self) -> None:
        world, ann, bob = a_world()
        send(ann, b"one", b"two", b"three")
        request = bob.say(Fetch(id=bob.next_id(), limit=2))
        world.settle()
        body = next(body for envelope, body in bob.heard if isinstance(envelope, Page))
        page = bob.answer_to(request, Page)
        assert ([entry.seq for entry in page.messages], page.through, page.more) == ([1, 2], 2, True)
        assert body == b"onetwo"
        world.assert_at_rest()

    def test_everybody_reads_his_own_mailbox(self) -> None:
        _world, ann, _bob = a_world()
        send(ann, b"one")
        assert ann.ask(Fetch(id=ann.next_id()), Page).messages == []

    def test_a_page_whose_recipients_outgrow_a_frame_is_cut(self) -> None:
        world, _ann, bob = a_world()
        to = [f"user-with-a-name-of-32-chars{number:04}" for number in range(1_000)]
        account = world.auth.accounts["bob"]
        for number in range(400):
            message = store_link.Message(id=an_id(number), to=to, mailboxes=[account], size=1)
            world.store.insert(1, "ann", message, b"x")
        seen = 0
        after = 0
        for _ in range(10):
            page = bob.ask(Fetch(id=bob.next_id(), after=after, limit=1_000), Page)
            assert len(codec.pack_header(page)) < limits.FRAME_BYTES_MAX
            seen, after = seen + len(page.messages), page.through
            if not page.more:
                break
        assert seen == 400
        bob.subscribe(messages=1_000)
        world.settle()
        sizes = [len(codec.pack_header(envelope)) for envelope, _ in bob.heard if isinstance(envelope, Deliver)]
        assert max(sizes) < limits.FRAME_BYTES_MAX
        assert [entry.seq for entry, _ in bob.delivered()] == list(range(1, 401))

    def test_a_cursor_of_another_history_is_refused(self) -> None:
        world, _ann, bob = a_world()
        bob.say(Fetch(id=99, history=b"other history !!"))
        world.drain()
        (ask,) = world.store.waits(store_link.Ask)
        world.store.inbox.clear()
        world.store.answered(ask.n, store_link.Failed(code="history_changed"))
        assert bob.refusal(99) == "history_changed"
        world.assert_at_rest()

    @pytest.mark.parametrize(
        "request_of",
        [
            lambda n: Fetch(id=n),
            lambda n: Ack(id=n, seqs=[1]),
            lambda n: Status(id=n, ids=[an_id(1)]),
            lambda n: Overview(id=n),
            lambda n: Subscribe(id=n, sub=1),
        ],
    )
    def test_without_a_store_for_long_all_are_refused(self, request_of: Callable[[int], Request]) -> None:
        world, _ann, bob = a_world()
        world.wait(20.0)
        request = request_of(99)
        assert isinstance(request, Fetch | Ack | Status | Overview | Subscribe)
        assert bob.refusal(bob.say(request)) == "unavailable"
        world.assert_at_rest()

    def test_what_was_asked_when_the_store_fell_silent_is_refused_in_the_end(self) -> None:
        world, _ann, bob = a_world()
        request = bob.say(Fetch(id=bob.next_id()))
        world.wait(20.0)
        assert bob.refusal(request) == "unavailable"
        world.assert_at_rest()

    def test_no_more_reads_wait_than_may(self) -> None:
        world, _ann, bob = a_world()
        for number in range(limits.QUERIES_WAITING_MAX):
            world.broker._link.ask(store_link.CountMailbox(mailbox=number), lambda *_: None)
        assert bob.refusal(bob.say(Fetch(id=bob.next_id()))) == "busy"

    def test_an_answer_of_the_wrong_kind_is_a_fault_of_the_house(self) -> None:
        world, _ann, bob = a_world()
        for request in (Fetch(id=11), Status(id=12, ids=[an_id(1)]), Overview(id=13)):
            bob.say(request)
        world.drain()
        wrong: list[store_link.Reading] = [
            store_link.MailboxCounted(unread=0, total=0),
            store_link.MailboxCounted(unread=0, total=0),
            store_link.StatusRead(messages=[]),
        ]
        for ask, reading in zip(world.store.waits(store_link.Ask), wrong, strict=True):
            world.store.answered(ask.n, reading)
        assert [bob.refusal(request) for request in (11, 12, 13)] == ["internal"] * 3


class TestAcks:
    def test_an_ack_is_answered_when_it_is_on_disk(self) -> None:
        world, ann, bob = a_world()
        send(ann, b"one", b"two")
        request = bob.say(Ack(id=bob.next_id(), seqs=[1, 9]))
        world.drain()
        assert bob.waits_for(request)
        world.settle()
        acked = bob.answer_to(request, Acked)
        assert (acked.changed, acked.unknown_seqs) == (1, [9])
        assert bob.ask(Overview(id=bob.next_id()), envelopes.Account).unread == 1
        world.assert_at_rest()

    def test_an_abort_refuses_it(self) -> None:
        world, _ann, bob = a_world()
        request = bob.say(Ack(id=bob.next_id(), seqs=[1]))
        world.drain()
        world.store.abort(1)
        assert bob.refusal(request) == "storage_full"
        world.store.open()
        world.assert_at_rest()

    def test_an_outcome_of_the_wrong_kind_is_a_fault_of_the_house(self) -> None:
        world, _ann, bob = a_world()
        request = bob.say(Ack(id=bob.next_id(), seqs=[1]))
        world.drain()
        (batch,) = world.store.waits(store_link.Batch)
        world.store.say(
            store_link.Confirmed(epoch=1, generation=1, n=batch.n, base=0, high=0, outcomes=[store_link.Noted()])
        )
        assert bob.refusal(request) == "internal"

    def test_acks_that_a_slow_store_leaves_lying_are_bounded(self) -> None:
        world, _ann, _bob = a_world()
        seqs = list(range(limits.ACKS_PER_REQUEST_MAX))
        requests = []
        for number in range(3):
            client = world.log_in(f"reader{number}")
            requests += [
                (client, client.say(Ack(id=client.next_id(), seqs=seqs))) for _ in range(limits.REQUESTS_IN_FLIGHT_MAX)
            ]
        refused = [client.refusal(request) for client, request in requests if not client.waits_for(request)]
        assert refused
        assert set(refused) == {"busy"}
        assert world.broker._link.weight <= limits.BROKER_BYTES_MAX

    def test_other_sessions_of_the_account_hear_of_it_and_nobody_else(self) -> None:
        world, ann, bob = a_world()
        phone = world.log_in("bob")
        eve = world.log_in("eve")
        for reader in (bob, phone, eve):
            reader.subscribe()
        send(ann, b"one")
        bob.ask(Ack(id=bob.next_id(), seqs=[1]), Acked)
        assert [envelope for envelope, _ in phone.heard if isinstance(envelope, Marked)] == [Marked(sub=1, seqs=[1])]
        assert not [envelope for envelope, _ in [*bob.heard, *eve.heard] if isinstance(envelope, Marked)]

    def test_what_changed_nothing_is_not_announced(self) -> None:
        world, _ann, bob = a_world()
        phone = world.log_in("bob")
        phone.subscribe()
        bob.ask(Ack(id=bob.next_id(), seqs=[9]), Acked)
        assert phone.heard == []


class TestSubscription:
    def test_first_the_backlog_then_what_arrives(self) -> None:
        world, ann, bob = a_world()
        send(ann, b"one", b"two")
        bob.subscribe()
        world.settle()
        send(ann, b"three")
        assert contents(bob.delivered()) == [b"one", b"two", b"three"]

    def test_a_live_message_needs_no_read_of_the_store(self) -> None:
        world, ann, bob = a_world()
        bob.subscribe()
        world.settle()
        ann.send(1, "bob")
        world.drain()
        assert world.store.waits(store_link.Ask) == []
        world.store.work()
        (entry, content) = bob.delivered()[0]
        assert (entry.sender, entry.to, entry.seq, content) == ("ann", ["bob"], 1, b"hello")
        assert world.store.waits(store_link.Ask) == []

    def test_live_and_paged_messages_look_the_same(self) -> None:
        world, ann, bob = a_world()
        bob.subscribe()
        world.settle()
        send(ann, b"one")
        phone = world.log_in("bob")
        phone.subscribe()
        world.settle()
        assert bob.delivered() == phone.delivered()

    @pytest.mark.parametrize("backlog", [True, False])
    def test_never_more_messages_than_credit(self, backlog: bool) -> None:
        world, ann, bob = a_world()
        if backlog:
            send(ann, *[b"x"] * 10)
        bob.subscribe(messages=3)
        world.settle()
        if not backlog:
            send(ann, *[b"x"] * 10)
        assert [entry.seq for entry, _ in bob.delivered()] == [1, 2, 3]
        bob.say(Credit(sub=1, messages=5, bytes=1 << 20))
        world.settle()
        assert [entry.seq for entry, _ in bob.delivered()] == [4, 5]
        bob.say(Credit(sub=1, messages=1, bytes=1))
        world.settle()
        assert bob.delivered() == []
        bob.say(Credit(sub=1, messages=100, bytes=1 << 20))
        world.settle()
        assert [entry.seq for entry, _ in bob.delivered()] == [6, 7, 8, 9, 10]

    @pytest.mark.parametrize("backlog", [True, False])
    def test_only_the_last_message_may_pass_the_credit_of_bytes(self, backlog: bool) -> None:
        world, ann, bob = a_world()
        if backlog:
            send(ann, b"12345", b"12345", b"12345")
        bob.subscribe(size=7)
        world.settle()
        if not backlog:
            send(ann, b"12345", b"12345", b"12345")
        assert len(bob.delivered()) == 2
        bob.say(Credit(sub=1, messages=100, bytes=11))
        world.settle()
        assert len(bob.delivered()) == 1

    def test_credit_is_bounded_whatever_is_asked(self) -> None:
        world, ann, bob = a_world()
        for _ in range(2):
            send(ann, *[b"x"] * limits.CREDIT_MESSAGES_MAX)
        bob.subscribe(messages=10**9, size=10**9)
        bob.say(Credit(sub=1, messages=10**9, bytes=10**9))
        world.settle()
        assert len(bob.delivered()) == limits.CREDIT_MESSAGES_MAX

    @pytest.mark.parametrize("backlog", [True, False])
    def test_credit_of_bytes_that_is_used_up_exactly_is_used_up(self, backlog: bool) -> None:
        world, ann, bob = a_world()
        if backlog:
            send(ann, b"12345", b"12345", b"12345")
        bob.subscribe(size=10)
        world.settle()
        if not backlog:
            send(ann, b"12345", b"12345", b"12345")
        assert len(bob.delivered()) == 2

    def test_without_credit_nothing_is_asked(self) -> None:
        world, _ann, bob = a_world()
        bob.subscribe(messages=0)
        world.drain()
        assert world.store.waits(store_link.Ask) == []

    def test_only_from_one_sender(self) -> None:
        world, ann, bob = a_world()
        eve = world.log_in("eve")
        send(eve, b"old")
        bob.subscribe(sender="ANN")
        world.settle()
        for client, content in ((eve, b"no"), (ann, b"yes"), (eve, b"no"), (ann, b"again")):
            send(client, content)
        assert contents(bob.delivered()) == [b"yes", b"again"]

    def test_what_is_stored_again_is_not_delivered_again(self) -> None:
        world, ann, bob = a_world()
        bob.subscribe()
        world.settle()
        for n in (1, 2):
            ann.send(n, "bob", ids=(an_id(7),))
            world.settle()
        assert len(bob.delivered()) == 1

    def test_two_subscriptions_are_two_cursors(self) -> None:
        world, ann, bob = a_world()
        bob.subscribe(1)
        bob.subscribe(2, messages=1)
        world.settle()
        send(ann, b"one", b"two")
        assert (len(bob.delivered(1)), len(bob.delivered(2))) == (2, 1)

    def test_no_more_subscriptions_than_may_be(self) -> None:
        _world, _ann, bob = a_world()
        for sub in range(1, limits.SUBSCRIPTIONS_PER_SESSION_MAX + 1):
            bob.subscribe(sub)
        assert bob.refusal(bob.say(Subscribe(id=99, sub=99))) == "too_large"

    def test_a_number_taken_again_begins_anew(self) -> None:
        world, ann, bob = a_world()
        send(ann, b"one")
        bob.subscribe()
        world.drain()
        bob.subscribe()
        world.settle()
        assert contents(bob.delivered()) == [b"one"]
        send(ann, b"two")
        assert contents(bob.delivered()) == [b"two"]
        world.assert_at_rest()

    def test_unsubscribing_ends_it(self) -> None:
        world, ann, bob = a_world()
        bob.subscribe()
        world.drain()
        bob.answer_to(bob.say(Unsubscribe(id=98, sub=1)), Done)
        send(ann, b"one")
        assert bob.delivered() == []
        assert bob.refusal(bob.say(Unsubscribe(id=99, sub=1))) == "unknown_subscription"
        assert world.broker._subscriptions._by_mailbox == {}

    def test_late_credit_is_not_wrong(self) -> None:
        _world, _ann, bob = a_world()
        bob.say(Credit(sub=5, messages=5, bytes=5))
        assert bob.heard == []
        assert bob.known

    def test_a_session_that_ends_takes_its_subscriptions_with_it(self) -> None:
        world, ann, bob = a_world()
        bob.subscribe()
        world.settle()
        bob.gone = True
        send(ann, b"one")
        assert not bob.known
        assert world.broker._subscriptions._by_mailbox == {}
        world.assert_at_rest()

    def test_a_cursor_of_another_history_is_refused_and_of_this_taken(self) -> None:
        world, ann, bob = a_world()
        send(ann, b"one", b"two")
        assert bob.refusal(bob.say(Subscribe(id=99, sub=1, history=b"other history !!"))) == "history_changed"
        bob.subscribe(after=1, history=world.store.history)
        world.settle()
        assert contents(bob.delivered()) == [b"two"]

    def test_a_page_that_fails_is_asked_for_again(self) -> None:
        world, ann, bob = a_world()
        send(ann, b"one")
        bob.subscribe()
        world.drain()
        (ask,) = world.store.waits(store_link.Ask)
        world.store.inbox.clear()
        world.store.answered(ask.n, store_link.Failed(code="storage_failed"))
        world.drain()
        assert world.store.waits(store_link.Ask) == []
        world.tick()
        world.settle()
        assert contents(bob.delivered()) == [b"one"]


class TestStoreComesAndGoes:
    def lose_the_store(self, world: World) -> None:
        world.store.epoch += 1
        world.store.say(store_link.Closed(epoch=world.store.epoch, generation=world.store.generation))

    def test_a_new_epoch_marks_every_subscription(self) -> None:
        """What was committed just before the store died, and never confirmed, is delivered once."""
        world, ann, bob = a_world()
        bob.subscribe()
        world.settle()
        ann.send(1, "bob", contents=(b"one",))
        world.drain()
        (batch, body) = world.store.inbox.popleft()
        assert isinstance(batch, store_link.Batch)
        world.store.confirm(batch, body)
        self.lose_the_store(world)
        world.settle()
        send(ann, b"two")
        assert contents(bob.delivered()) == [b"one", b"two"]
        world.assert_at_rest()

    def test_a_page_of_the_former_epoch_is_not_used(self) -> None:
        world, ann, bob = a_world()
        send(ann, b"one")
        bob.subscribe()
        world.drain()
        (ask,) = world.store.waits(store_link.Ask)
        reading, content = world.store.read(ask.query)
        late = store_link.Answered(
            epoch=ask.epoch, generation=ask.generation, n=ask.n, history=world.store.history, reading=reading
        )
        self.lose_the_store(world)
        world.store.say(late, content)
        world.settle()
        world.store.say(late, content)
        assert contents(bob.delivered()) == [b"one"]

    def test_somebody_elses_messages_are_not_missed(self) -> None:
        world, ann, bob = a_world()
        bob.subscribe()
        world.settle()
        other = store_link.Message(id=an_id(5), to=["bob"], mailboxes=[world.auth.accounts["bob"]], size=5)
        world.store.insert(7, "eve", other, b"other")
        send(ann, b"mine")
        assert contents(bob.delivered()) == [b"other", b"mine"]

    def test_a_page_that_reached_further_than_what_was_heard_of_is_not_repeated(self) -> None:
        world, ann, bob = a_world()
        other = store_link.Message(id=an_id(5), to=["bob"], mailboxes=[world.auth.accounts["bob"]], size=5)
        world.store.insert(7, "eve", other, b"other")
        bob.subscribe()
        world.settle()
        send(ann, b"mine")
        self.lose_the_store(world)
        world.settle()
        assert contents(bob.delivered()) == [b"other", b"mine"]

    def test_while_it_is_gone_nobody_asks_in_vain(self) -> None:
        world, ann, bob = a_world()
        bob.subscribe()
        world.wait(20.0)
        world.assert_at_rest()
        world.settle()
        send(ann, b"one")
        assert contents(bob.delivered()) == [b"one"]

    def test_a_restored_store_ends_the_sessions_that_read_it(self) -> None:
        world, ann, bob = a_world()
        send(ann, b"one", b"two")
        bob.subscribe()
        world.settle()
        bob.delivered()
        world.store.history = b"history-00000002"
        world.store.high = 0
        self.lose_the_store(world)
        world.settle()
        ((error, _),) = bob.heard
        assert isinstance(error, Error)
        assert (error.code, error.fatal, error.id) == ("history_changed", True, None)
        assert not bob.known
        assert ann.known
        world.assert_at_rest()


class TestStoreThatAnswersOutOfOrder:
    """Reads and writes of a store need not share one order of answers: neither order may cost or double a message."""

    def a_page_and_a_batch(self) -> tuple[World, Client, store_link.Ask, store_link.Batch, bytes]:
        """Bob has asked for his first page, and Ann's batch is behind it in the pipe."""
        world, ann, bob = a_world()
        bob.subscribe()
        world.drain()
        (ask,) = world.store.waits(store_link.Ask)
        ann.send(1, "bob", contents=(b"one",))
        world.drain()
        batch, body = world.store.inbox[-1]
        assert isinstance(batch, store_link.Batch)
        world.store.inbox.clear()
        return world, bob, ask, batch, body

    def test_a_page_that_holds_what_is_confirmed_later(self) -> None:
        world, bob, ask, batch, body = self.a_page_and_a_batch()
        confirmed = world.store.confirm(batch, body)
        world.store.answered(ask.n, *world.store.read(ask.query))
        world.store.say(confirmed)
        world.settle()
        assert contents(bob.delivered()) == [b"one"]
        world.assert_at_rest()

    def test_a_page_that_lacks_what_was_confirmed_before(self) -> None:
        world, bob, ask, batch, body = self.a_page_and_a_batch()
        page = world.store.read(ask.query)
        world.store.say(world.store.confirm(batch, body))
        world.store.answered(ask.n, *page)
        world.settle()
        assert contents(bob.delivered()) == [b"one"]
        world.assert_at_rest()


class TestDelivered:
    def test_it_travels_with_the_next_batch(self) -> None:
        world, ann, bob = a_world()
        bob.subscribe()
        world.settle()
        send(ann, b"one")
        send(ann, b"two")
        assert world.store.delivered == {world.auth.accounts["bob"]: 1}

    def test_it_goes_by_itself_after_a_while(self) -> None:
        world, ann, bob = a_world()
        send(ann, b"one")
        bob.ask(Fetch(id=bob.next_id()), Page)
        world.wait(NOTE_S + 1.0)
        world.settle()
        assert world.store.delivered == {world.auth.accounts["bob"]: 1}
        world.assert_at_rest()

    @pytest.mark.parametrize("more", [{"peek": True}, {"sender": "ann"}, {"unread": False}])
    def test_a_page_that_is_not_all_that_is_unread_says_nothing(self, more: dict[str, object]) -> None:
        world, ann, bob = a_world()
        send(ann, b"one")
        fetch = Fetch(
            id=bob.next_id(),
            peek=bool(more.get("peek")),
            sender=str(more.get("sender", "")),
            unread=bool(more.get("unread", True)),
        )
        bob.ask(fetch, Page)
        world.wait(NOTE_S + 1.0)
        world.settle()
        assert world.store.delivered == {}

    def test_who_asks_for_the_state_gets_the_latest(self) -> None:
        world, ann, bob = a_world()
        send(ann, b"one")
        bob.ask(Fetch(id=bob.next_id()), Page)
        ann.ask(Status(id=ann.next_id(), ids=[an_id(1)]), Statuses)
        assert world.store.delivered == {world.auth.accounts["bob"]: 1}


class Subscriptions(RuleBasedStateMachine):
    """Random interleavings of commits, pages, credits and openings of the link, against a mailbox that is known.

    At every moment a subscription has been given a prefix of its mailbox, in order and once, within its credit; and all
    of it once everybody has worked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.world, self.ann, bob = a_world()
        self.n = 0
        self.readers = [bob, self.world.log_in("bob")]
        self.subscribers: dict[Client, tuple[int, int]] = {}
        self.got: dict[Client, list[int]] = {reader: [] for reader in self.readers}
        self.size: dict[Client, int] = dict.fromkeys(self.readers, 0)

    which = st.integers(0, 1)

    @initialize(messages=st.integers(0, 9), size=st.integers(0, 60))
    def subscribe(self, messages: int, size: int) -> None:
        """One reader from the beginning; the other joins when it may."""
        self.readers[0].subscribe(messages=messages, size=size)
        self.subscribers[self.readers[0]] = (messages, size)

    @rule(messages=st.integers(0, 9), size=st.integers(0, 60))
    def join(self, messages: int, size: int) -> None:
        reader = self.readers[1]
        if reader not in self.subscribers and not self.world.broker._link.down(self.world.now):
            reader.subscribe(messages=messages, size=size)
            self.subscribers[reader] = (messages, size)

    @rule(which=which, messages=st.sampled_from([0, 1, 4, 12]), size=st.sampled_from([0, 7, 30, 100]))
    def credit(self, which: int, messages: int, size: int) -> None:
        reader = self.readers[which]
        if reader in self.subscribers:
            self.look()
            total = (len(self.got[reader]) + messages, self.size[reader] + size)
            reader.say(Credit(sub=1, messages=total[0], bytes=total[1]))
            old = self.subscribers[reader]
            self.subscribers[reader] = (max(total[0], old[0]), max(total[1], old[1]))

    @rule(count=st.integers(1, 5), size=st.integers(1, 9))
    def send(self, count: int, size: int) -> None:
        self.n += 1
        self.ann.send(1, "bob", contents=(bytes(size),) * count, stream=an_id(self.n % 16))
        self.ann.session.streams.clear()

    @rule()
    def somebody_else_stores(self) -> None:
        self.n += 1
        bob = self.world.auth.accounts["bob"]
        message = store_link.Message(id=an_id(self.n), to=["bob"], mailboxes=[bob], size=3)
        self.world.store.insert(999, "zoe", message, b"zoe")

    @rule()
    def drain(self) -> None:
        self.world.drain()

    @rule()
    def step(self) -> None:
        if self.world.store.inbox:
            self.world.store.step()

    @rule(confirmed=st.booleans())
    def store_dies(self, confirmed: bool) -> None:
        """With or without having executed the batch it had, and before it could say so."""
        store = self.world.store
        if confirmed and store.inbox:
            header, body = store.inbox[0]
            if isinstance(header, store_link.Batch):
                store.confirm(header, body)
        store.epoch += 1
        store.say(store_link.Closed(epoch=store.epoch, generation=store.generation))

    @rule(seconds=st.sampled_from([0.5, 0.5, 0.5, 7.0]))
    def time(self, seconds: float) -> None:
        self.world.wait(seconds)
        for client in (self.ann, *self.readers):
            client.ask(envelopes.Ping(id=client.next_id()), envelopes.Pong)

    @rule()
    def settle(self) -> None:
        self.world.tick()
        self.world.settle()
        self.look()
        mailbox = [row.entry for row in self.world.store.rows]
        for reader, (messages, size) in self.subscribers.items():
            got = self.got[reader]
            room = len(got) < messages and self.size[reader] < size
            behind = [entry for entry in mailbox if entry.seq not in got]
            foreign = [entry for entry in behind if entry.sender == "zoe"]
            assert not room or behind == foreign[: len(behind)], "there is credit, and what was sent is missing"

    @invariant()
    def look(self) -> None:
        mailbox = [row.entry.seq for row in self.world.store.rows]
        for reader in self.subscribers:
            for entry, content in reader.delivered():
                assert self.size[reader] < self.subscribers[reader][1], "more bytes than credit"
                self.got[reader].append(entry.seq)
                self.size[reader] += len(content)
            got = self.got[reader]
            assert got == mailbox[: len(got)], "a gap, a repeat, or another order"
            assert len(got) <= self.subscribers[reader][0], "more messages than credit"

    def teardown(self) -> None:
        self.settle()
        self.world.assert_at_rest()


TestSubscriptions = Subscriptions.TestCase
TestSubscriptions.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
