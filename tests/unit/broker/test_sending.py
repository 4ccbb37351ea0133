"""Sends: taken in order or refused whole, each message answered by the store, and every byte counted given back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.events import StoreArrived
from broker.streams import Stream
from restante.wire import auth_link, envelopes, limits, links, store_link
from restante.wire.envelopes import Error, Item, Send
from tests.unit.broker.world import STREAM, Client, World, an_id


def a_world(*names: str) -> tuple[World, Client]:
    """A ready world with these accounts besides Ann's, and Ann's session."""
    world = World.ready()
    for name in names:
        world.auth.account(name)
    return world, world.log_in("ann")


def known(world: World, ann: Client, *names: str) -> None:
    """Have the broker know these recipients."""
    ann.ask(envelopes.Lookup(id=ann.next_id(), names=["nobody"]), envelopes.Found)
    world.broker._names.learn({name: world.auth.account(name) for name in names})


def commands(world: World) -> list[store_link.StoreMessages]:
    """What the store was given to store, in order."""
    found = []
    for batch in world.store.waits(store_link.Batch):
        found += [command for command in batch.commands if isinstance(command, store_link.StoreMessages)]
    return found


def confirm(world: World, outcome: store_link.Stored) -> None:
    """The store says of the one command that it is given what a test wants it to."""
    world.drain()
    (batch,) = world.store.waits(store_link.Batch)
    confirmed = store_link.Confirmed(
        epoch=batch.epoch,
        generation=batch.generation,
        n=batch.n,
        base=0,
        high=max(outcome.seqs),
        outcomes=[outcome],
    )
    world.do(StoreArrived(confirmed, b""))


class TestOneEnvelope:
    def test_it_is_answered_after_the_store_confirmed_and_not_before(self) -> None:
        world, ann = a_world("bob")
        request = ann.send(1, "bob")
        world.auth.answer()
        world.drain()
        assert ann.waits_for(request)
        world.store.work()
        assert [result.seq for result in ann.sent(request)] == [1]
        world.assert_at_rest()

    def test_what_arrives_between_two_drains_is_one_batch(self) -> None:
        world, ann = a_world("bob")
        known(world, ann, "bob")
        eve = world.log_in("eve")
        for n in (1, 2):
            ann.send(n, "bob")
            eve.send(n, "bob")
        assert not world.store.waits(store_link.Batch)
        world.drain()
        assert [len(batch.commands) for batch in world.store.waits(store_link.Batch)] == [4]

    def test_recipients_become_account_numbers_each_once(self) -> None:
        world, ann = a_world("bob", "eve")
        ann.send(1, "Bob", "eve", "BOB")
        world.auth.answer()
        world.drain()
        (message,) = commands(world)[0].messages
        assert message.to == ["bob", "eve"]
        assert message.mailboxes == [world.auth.accounts["bob"], world.auth.accounts["eve"]]

    def test_all_unknown_recipients_of_a_message_are_named_up_to_a_bound(self) -> None:
        world, ann = a_world("bob")
        request = ann.send(1, "zoe", "bob", "yan")
        many = ann.send(2, *[f"stranger{number:02}" for number in range(12)])
        world.settle()
        assert [result.text for result in ann.sent(request)] == ["no account is named 'zoe', 'yan'"]
        (result,) = ann.sent(many)
        assert result.text.endswith("'stranger09', nor 2 others")

    def test_names_are_asked_for_once_and_then_known(self) -> None:
        world, ann = a_world("bob")
        ann.send(1, "bob")
        world.settle()
        ann.send(2, "bob")
        assert world.auth.workers[b"worker-1"].take() == []

    def test_sender_and_number_are_the_sessions_own(self) -> None:
        world, ann = a_world("bob")
        ann.send(1, "bob")
        world.auth.answer()
        world.drain()
        command = commands(world)[0]
        assert (command.sender, command.sender_name) == (world.auth.accounts["ann"], "ann")


class TestRefusedAlone:
    """One bad message refuses itself, and only on the store's word (RULES 12)."""

    @pytest.mark.parametrize(
        ("to", "content", "code"),
        [
            ("nobody", b"x", "unknown_recipient"),
            ("No Name", b"x", "bad_name"),
            ("ß" * limits.NAME_CHARS_MAX, b"x", "bad_name"),
            ("", b"x", "bad_name"),
            ("bob", b"", "empty_body"),
            ("bob", b"x" * (limits.MESSAGE_BYTES_MAX + 1), "body_too_large"),
        ],
    )
    def test_it_goes_to_the_store_with_its_refusal(self, to: str, content: bytes, code: str) -> None:
        world, ann = a_world("bob")
        request = ann.send(1, to, contents=(content,))
        world.auth.answer()
        world.drain()
        (message,) = commands(world)[0].messages
        assert (message.refusal, message.mailboxes) == (code, [])
        world.store.work()
        assert [result.code for result in ann.sent(request)] == [code]
        world.assert_at_rest()

    def test_it_takes_nothing_from_its_neighbours(self) -> None:
        world, ann = a_world("bob")
        items = [Item(id=an_id(7), to=["nobody"], size=1), Item(id=an_id(8), to=["bob"], size=1)]
        request = ann.say(Send.of(ann.next_id(), STREAM, 1, items), b"xy")
        world.settle()
        assert [result.code for result in ann.sent(request)] == ["unknown_recipient", ""]

    def test_a_message_for_two_of_whom_one_is_unknown_goes_to_neither(self) -> None:
        world, ann = a_world("bob")
        request = ann.send(1, "bob", "nobody")
        world.settle()
        assert [result.code for result in ann.sent(request)] == ["unknown_recipient"]
        assert world.store.rows == []

    def test_a_name_whose_mailbox_the_store_has_closed_is_asked_for_again(self) -> None:
        """An account ended since its name was learned (RULES 13)."""
        world, ann = a_world("bob")
        known(world, ann, "bob")
        request = ann.send(1, "bob")
        confirm(world, store_link.Stored.of([envelopes.Result(code="unknown_recipient", text="closed")]))
        assert [result.code for result in ann.sent(request)] == ["unknown_recipient"]
        ann.send(2, "bob")
        assert world.auth.asked(auth_link.ResolveNames)[1].names == ["bob"]

    def test_an_outcome_of_other_messages_is_a_fault_of_the_house(self) -> None:
        world, ann = a_world("bob")
        known(world, ann, "bob")
        request = ann.send(1, "bob")
        confirm(world, store_link.Stored(seqs=[1, 2]))
        assert ann.refusal(request) == "internal"

    def test_a_retry_of_what_was_accepted_is_accepted_again_though_its_recipient_is_gone(self) -> None:
        world, ann = a_world("bob")
        first = ann.send(1, "bob", ids=(an_id(7),))
        world.settle()
        (accepted,) = ann.sent(first)
        del world.auth.accounts["bob"]
        world.broker._names.forget(["bob"])
        retry = ann.send(2, "bob", ids=(an_id(7),))
        world.settle()
        (again,) = ann.sent(retry)
        assert (again.seq, again.again, again.code) == (accepted.seq, True, "")

    @pytest.mark.parametrize("name", ["ß" * limits.NAME_CHARS_MAX, "İ" * 20, "a" * 32, "\x00", "𝕓𝕠𝕓"])
    def test_whatever_the_name_what_goes_to_the_workers_can_be_read_there(self, name: str) -> None:
        world, ann = a_world("bob")
        ann.send(1, name)
        ann.say(envelopes.Lookup(id=ann.next_id(), names=[name]))
        ann.say(envelopes.Fetch(id=ann.next_id(), sender=name))
        ann.subscribe(sender=name)
        for ask in world.auth.workers[b"worker-1"].take():
            assert links.to_auth_worker.read(links.auth_frames(ask))[0] == ask
            world.auth.tell(ask)
        world.drain()
        pushed = list(world.store.inbox)
        assert pushed
        for header, body in pushed:
            assert links.to_store.read(links.store_frames(header, body))[0] == header


class TestRefusedWhole:
    """A refusal that may pass takes the whole envelope, and its number stays the next (RULES 10)."""

    @pytest.mark.parametrize(
        ("request_of", "code"),
        [
            (lambda items: Send.of(99, STREAM, 1, items[:1]), "bad_request"),
            (
                lambda items: Send.of(
                    99,
                    STREAM,
                    1,
                    [
                        Item(id=an_id(n), to=["bob"] * 1_000, size=2 if n == 0 else 0)
                        for n in range(limits.RECIPIENTS_PER_SEND_MAX // 1_000 + 1)
                    ],
                ),
                "too_large",
            ),
        ],
    )
    def test_what_no_time_would_mend(self, request_of: Callable[[list[Item]], Send], code: str) -> None:
        world, ann = a_world("bob")
        items = [Item(id=an_id(7), to=["bob"], size=1), Item(id=an_id(8), to=["bob"], size=1)]
        assert ann.refusal(ann.say(request_of(items), b"xy")) == code
        world.assert_at_rest()

    def test_a_body_over_the_limit(self) -> None:
        world, ann = a_world("bob")
        assert ann.refusal(ann.send(1, "bob", contents=(bytes(limits.BODY_BYTES_MAX + 1),))) == "too_large"
        world.assert_at_rest()

    def test_too_many_streams(self) -> None:
        _world, ann = a_world("bob")
        for number in range(limits.STREAMS_PER_SESSION_MAX):
            ann.send(1, "bob", stream=an_id(number))
        assert ann.refusal(ann.send(1, "bob", stream=an_id(99))) == "too_large"

    def test_a_session_that_holds_as_much_as_it_may(self) -> None:
        world, ann = a_world("bob")
        known(world, ann, "bob")
        content = bytes(limits.MESSAGE_BYTES_MAX)
        requests = [ann.send(n, "bob", contents=(content,) * 8) for n in range(1, 6)]
        refused = [request for request in requests if not ann.waits_for(request)]
        error = ann.answer_to(refused[0], Error)
        assert (error.code, error.retry_after_ms) == ("busy", 1_000)
        assert ann.refusal(requests[4]) == "gap"
        world.settle()
        world.assert_at_rest()
        again = ann.send(4, "bob")
        world.settle()
        assert len(ann.sent(again)) == 1

    def test_all_sessions_together_hold_no_more_than_the_broker_may(self) -> None:
        world, ann = a_world("bob")
        known(world, ann, "bob")
        content = bytes(limits.MESSAGE_BYTES_MAX)
        refused = []
        for number in range(6):
            client = world.log_in(f"user{number}")
            for n in range(1, 4):
                request = client.send(n, "bob", contents=(content,) * 8)
                refused += [] if client.waits_for(request) else [client.refusal(request)]
        assert refused[0] == "busy"
        assert world.broker._sending.held_bytes <= limits.BROKER_BYTES_MAX
        world.settle()
        world.assert_at_rest()

    def test_recipients_count_as_bytes_held(self) -> None:
        world, ann = a_world("bob")
        names = [f"user{number}" for number in range(1_000)]
        known(world, ann, *names)
        for n in range(1, 200):
            ann.send(n, *names, contents=(b"x",) * 10)
        assert ann.session.held_bytes <= limits.SESSION_BYTES_MAX
        assert any(isinstance(envelope, Error) and envelope.code == "busy" for envelope, _ in ann.heard)

    def test_no_store_for_long(self) -> None:
        world, ann = a_world("bob")
        world.wait(20.0)
        assert ann.refusal(ann.send(1, "bob")) == "unavailable"
        world.assert_at_rest()


class TestOrder:
    """No envelope of a stream ever overtakes another (RULES 10, 11)."""

    def test_a_stream_begins_anywhere_and_then_takes_only_the_next(self) -> None:
        world, ann = a_world("bob")
        known(world, ann, "bob")
        first = ann.send(7, "bob")
        for n in (6, 7, 9):
            error = ann.answer_to(ann.send(n, "bob"), Error)
            assert (error.code, error.expected, error.retry_after_ms) == ("gap", 8, 0)
        world.settle()
        ann.sent(first)
        world.assert_at_rest()

    def test_a_look_up_holds_what_is_behind_it(self) -> None:
        world, ann = a_world("bob", "eve")
        known(world, ann, "eve")
        slow = ann.send(1, "bob")
        fast = ann.send(2, "eve")
        world.drain()
        assert commands(world) == []
        world.auth.answer()
        world.drain()
        assert [command.messages[0].to for command in commands(world)] == [["bob"], ["eve"]]
        world.settle()
        assert ann.sent(slow)[0].seq < ann.sent(fast)[0].seq

    def test_streams_do_not_hold_each_other(self) -> None:
        world, ann = a_world("bob", "eve")
        known(world, ann, "eve")
        ann.send(1, "bob")
        ann.send(1, "eve", stream=an_id(2))
        world.drain()
        assert [command.messages[0].to for command in commands(world)] == [["eve"]]

    def test_no_more_wait_behind_a_look_up_than_may(self) -> None:
        world, ann = a_world("bob")
        for n in range(1, limits.HELD_PER_STREAM_MAX + 1):
            ann.send(n, "bob")
        assert ann.refusal(ann.send(limits.HELD_PER_STREAM_MAX + 1, "bob")) == "busy"
        world.settle()
        world.assert_at_rest()

    def test_names_asked_for_once_serve_all_that_wait(self) -> None:
        world, ann = a_world("bob")
        for n in (1, 2, 3):
            ann.send(n, "bob")
        assert len(world.auth.workers[b"worker-1"].take()) == 1

    @pytest.mark.parametrize("code", ["unavailable", "busy", "internal", "a_code_of_tomorrow"])
    def test_a_failed_look_up_refuses_its_envelope_and_all_behind(self, code: str) -> None:
        world, ann = a_world("bob", "eve")
        known(world, ann, "eve")
        failed = ann.send(1, "bob")
        behind = [ann.send(n, "eve") for n in (2, 3)]
        ask, _ = world.auth.asked(auth_link.ResolveNames)
        world.auth.tell(ask, auth_link.Refused(code=code))
        assert ann.refusal(failed) == code
        errors = [ann.answer_to(request, Error) for request in behind]
        assert [(error.code, error.expected) for error in errors] == [("gap", 1), ("gap", 1)]
        world.assert_at_rest()
        again = [ann.send(n, "bob") for n in (1, 2)]
        world.settle()
        assert [ann.sent(request)[0].seq for request in again] == [1, 2]

    def test_an_answer_to_what_was_refused_meanwhile_lets_the_next_go_on(self) -> None:
        world, ann = a_world("bob", "eve")
        known(world, ann, "eve")
        first, second = ann.send(1, "eve"), ann.send(2, "bob")
        world.drain()
        world.store.abort(1)
        world.store.open()
        assert (ann.refusal(first), ann.refusal(second)) == ("storage_full", "gap")
        again = [ann.send(n, "eve") for n in (1, 2)]
        world.settle()
        assert [ann.sent(request)[0].seq for request in again] == [1, 2]
        world.assert_at_rest()

    def test_an_abort_refuses_the_unconfirmed_the_pending_and_the_held(self) -> None:
        world, ann = a_world("bob", "eve")
        known(world, ann, "eve")
        unconfirmed = ann.send(1, "eve")
        world.drain()
        pending = ann.send(2, "eve")
        held = ann.send(3, "bob")
        behind = ann.send(4, "eve")
        world.store.abort(1)
        codes = [ann.answer_to(request, Error) for request in (unconfirmed, pending, held, behind)]
        assert [error.code for error in codes] == ["storage_full", "storage_full", "gap", "gap"]
        assert [error.expected for error in codes[2:]] == [1, 1]
        world.store.open()
        assert ann.refusal(ann.send(2, "eve")) == "gap"
        again = [ann.send(n, "eve") for n in (1, 2, 3, 4)]
        world.settle()
        assert [ann.sent(request)[0].seq for request in again] == [1, 2, 3, 4]
        world.assert_at_rest()

    def test_a_session_that_ended_leaves_nothing_counted(self) -> None:
        world, ann = a_world("bob", "eve")
        known(world, ann, "eve")
        eve = world.log_in("eve")
        ann.send(1, "eve")
        world.drain()
        ann.send(2, "bob")
        ann.send(3, "eve")
        ann.gone = True
        eve.gone = True
        world.store.work()
        assert not ann.known
        world.settle()
        assert [row.entry.seq for row in world.store.rows] == [1]  # what the look-up held went to nobody
        assert world.broker._sending._newest == {}
        world.assert_at_rest()

    def test_what_a_client_repeats_on_a_new_connection_does_not_come_again_behind_its_refusal(self) -> None:
        """The old session is not known to be over; its look-up is answered when the recipient has been made since."""
        world, ann = a_world("bob")
        old = ann.send(1, "bob")
        ask, _ = world.auth.asked(auth_link.ResolveNames)
        again = world.log_in("ann")
        repeated = again.send(1, "bob")
        world.auth.tell(world.auth.asked(auth_link.ResolveNames)[0], auth_link.NamesResolved(accounts={}))
        world.settle()
        assert again.sent(repeated)[0].code == "unknown_recipient"
        world.auth.tell(ask)
        world.settle()
        assert world.store.rows == []
        assert ann.answer_to(old, Error).code == "gap"
        world.assert_at_rest()


class TestGuessing:
    """Names that don't exist are counted for the account that asked (DESIGN §6)."""

    def test_an_account_that_keeps_asking_for_nobody_must_wait(self) -> None:
        world, ann = a_world("bob")
        for turn in range(2):
            names = [f"guess{turn}-{number}" for number in range(limits.NAMES_PER_LOOKUP_MAX)]
            ann.ask(envelopes.Lookup(id=ann.next_id(), names=names), envelopes.Found)
        refused = ann.ask(envelopes.Lookup(id=ann.next_id(), names=["one-more"]), Error)
        assert refused.code == "rate_limited"
        assert refused.retry_after_ms is not None
        assert 0 < refused.retry_after_ms <= 101
        error = ann.answer_to(ann.send(1, "another"), Error)
        assert error.code == "rate_limited"
        world.wait(1.0)
        request = ann.send(1, "another")
        world.settle()
        assert ann.sent(request)[0].code == "unknown_recipient"
        world.assert_at_rest()

    def test_guesses_at_the_same_time_count_too(self) -> None:
        world, ann = a_world()
        requests = []
        for turn in range(10):
            names = [f"guess{turn}-{number}" for number in range(limits.NAMES_PER_LOOKUP_MAX)]
            requests.append(ann.say(envelopes.Lookup(id=ann.next_id(), names=names)))
        asked = sum(len(getattr(ask.question, "names", [])) for ask in world.auth.workers[b"worker-1"].take())
        assert asked <= limits.UNKNOWN_NAMES_MAX
        error = ann.answer_to(requests[-1], Error)
        assert (error.code, error.retry_after_ms) == ("rate_limited", 1_001)

    def test_guesses_in_sends_of_many_streams_count_too(self) -> None:
        world, ann = a_world()
        for turn in range(10):
            names = [f"guess{turn}-{number}" for number in range(1_000)]
            ann.send(1, *names, stream=an_id(turn))
        asked = sum(len(getattr(ask.question, "names", [])) for ask in world.auth.workers[b"worker-1"].take())
        assert asked <= limits.UNKNOWN_NAMES_MAX

    def test_names_that_exist_cost_nothing(self) -> None:
        world, ann = a_world()
        for turn in range(10):
            names = [f"user{turn}-{number}" for number in range(1_000)]
            for name in names:
                world.auth.account(name)
            ann.ask(envelopes.Lookup(id=ann.next_id(), names=names), envelopes.Found)

    def test_a_look_up_that_failed_costs_nothing(self) -> None:
        world, ann = a_world()
        for turn in range(3):
            names = [f"guess{turn}-{number}" for number in range(1_000)]
            ann.say(envelopes.Lookup(id=ann.next_id(), names=names))
            ask, _ = world.auth.asked(auth_link.ResolveNames)
            world.auth.tell(ask, auth_link.Refused(code="unavailable"))

    def test_a_first_envelope_to_more_names_than_a_burst_is_taken(self) -> None:
        world, ann = a_world()
        names = [f"user{number}" for number in range(limits.RECIPIENTS_PER_SEND_MAX)]
        for name in names:
            world.auth.account(name)
        items = [Item(id=an_id(n), to=names[n * 1_000 : (n + 1) * 1_000], size=1) for n in range(10)]
        request = ann.say(Send.of(ann.next_id(), STREAM, 1, items), bytes(10))
        world.settle()
        assert all(result.seq for result in ann.sent(request))


class Sends(RuleBasedStateMachine):
    """Two clients send, workers and store answer, fail, die and come back in any order.

    Whatever happens: what was stored of a stream stands in its order, a request has one answer at most, and when
    nothing is under way nothing is counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.world = World.ready()
        self.names = [f"user{number}" for number in range(6)]
        for name in self.names[:4]:
            self.world.auth.account(name)
        self.clients = [self.world.log_in("ann"), self.world.log_in("bob")]
        self.streams = [Stream(1), Stream(1)]
        self.made = 0

    @rule(who=st.integers(0, 1), to=st.integers(0, 5), ahead=st.sampled_from([0, 0, 0, 0, 1]))
    def send(self, who: int, to: int, ahead: int) -> None:
        client = self.clients[who]
        if client.known:
            n = self.streams[who].expected + (ahead if STREAM in client.session.streams else 0)
            self.made += 1
            # The id says whose envelope it is and which: order is judged by it.
            client.send(n, self.names[to], ids=(an_id((who << 96) | (n << 32) | self.made),))
            self.streams[who] = client.session.streams[STREAM]

    @rule()
    def drain(self) -> None:
        self.world.drain()

    @rule(fail=st.booleans())
    def answer_one(self, fail: bool) -> None:
        for worker in self.world.auth.workers.values():
            for ask in worker.take(1):
                self.world.auth.tell(ask, auth_link.Refused(code="unavailable") if fail else None, worker.routing_id)

    @precondition(lambda self: self.world.store.inbox)
    @rule()
    def store_one(self) -> None:
        self.world.store.step()

    @rule()
    def abort(self) -> None:
        batches = self.world.store.waits(store_link.Batch)
        if batches and self.world.broker._link.open:
            self.world.store.abort(batches[0].n)
            self.world.settle()

    @rule()
    def store_dies_and_comes_back(self) -> None:
        self.world.store.inbox.clear()
        self.world.store.epoch += 1
        self.world.wait(limits.LINK_SILENCE_S_MAX + 2.0)
        self.world.settle()

    @rule(who=st.integers(0, 1))
    def client_dies_and_comes_back(self, who: int) -> None:
        """It goes on behind what its old session had in hand, which the store has by then."""
        old = self.clients[who]
        old.gone = True
        self.settle()
        self.world.wait(100.0)
        self.settle()
        self.clients[who] = self.world.log_in(old.name)

    @rule()
    def settle(self) -> None:
        self.world.wait(2.0)
        self.world.settle()
        self.world.assert_at_rest()

    @invariant()
    def stored_in_order(self) -> None:
        for who in (0, 1):
            numbers = [int.from_bytes(row.entry.id, "big") for row in self.world.store.rows]
            mine = [(number >> 32) & 0xFFFFFFFF for number in numbers if number >> 96 == who]
            assert mine == sorted(mine)

    @invariant()
    def one_answer_each(self) -> None:
        for client in self.clients:
            ids = [one for envelope, _ in client.heard if (one := getattr(envelope, "id", None)) is not None]
            assert len(ids) == len(set(ids))


TestSends = Sends.TestCase
TestSends.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
