"""The broker's core: who may ask what at which stage, what ends a session, how it starts and stops."""

from __future__ import annotations

from typing import get_args

import pytest

from broker.core import LINGER_S, TICK_S
from broker.events import End, OpenLink, Push, StopRequested, Unreachable
from restante.wire import auth_link, envelopes, limits, store_link
from restante.wire.envelopes import Credit, Error, Fetch, Hello, LoggedIn, Overview, Ping, Pong, Resume, Tokens, Welcome
from tests.unit.broker.world import STREAM, Client, World, an_id

OP = an_id(1)

REQUESTS: list[envelopes.ToBroker] = [
    envelopes.Hello(id=1),
    envelopes.Register(id=1, op=OP, name="ann", password="right"),
    envelopes.Login(id=1, op=OP, name="ann", password="right"),
    envelopes.Resume(id=1, token=bytes(32)),
    envelopes.Logout(id=1, op=OP),
    envelopes.Passwd(id=1, op=OP, old="right", new="new"),
    envelopes.Tokens(id=1),
    envelopes.Revoke(id=1, op=OP, token=1),
    envelopes.Lookup(id=1, names=["ann"]),
    envelopes.Overview(id=1),
    envelopes.Send.of(1, STREAM, 1, [envelopes.Item(id=OP, to=["ann"], size=0)]),
    envelopes.Fetch(id=1),
    envelopes.Subscribe(id=1, sub=1),
    envelopes.Unsubscribe(id=1, sub=1),
    envelopes.Ack(id=1, seqs=[1]),
    envelopes.Status(id=1, ids=[OP]),
    envelopes.Ping(id=1),
]
NAMES = [type(request).__name__ for request in REQUESTS]


def test_the_list_of_requests_is_whole() -> None:
    assert {type(request) for request in REQUESTS} | {Credit} == set(get_args(envelopes.ToBroker))


class TestStages:
    @pytest.mark.parametrize("request_", REQUESTS, ids=NAMES)
    def test_before_hello_nothing_but_hello(self, request_: envelopes.Request) -> None:
        world = World.ready()
        client = world.connect()
        assert isinstance(request_, envelopes.ToBroker)
        client.say(request_)
        if isinstance(request_, Hello):
            client.answer_to(1, Welcome)
        else:
            error = client.answer_to(1, Error)
            assert (error.code, error.fatal) == ("no_session", True)
        assert world.auth.workers[b"worker-1"].take() == []
        assert world.broker._link.idle
        world.assert_at_rest()

    @pytest.mark.parametrize("request_", REQUESTS, ids=NAMES)
    def test_before_a_login_only_what_needs_no_account(self, request_: envelopes.Request) -> None:
        """G6."""
        world = World.ready()
        client = world.connect()
        client.say(Hello(id=99))
        client.answer_to(99, Welcome)
        assert isinstance(request_, envelopes.ToBroker)
        client.say(request_)
        if isinstance(request_, envelopes.NEEDS_NO_ACCOUNT):
            assert client.waits_for(1) is not isinstance(request_, Hello)
        else:
            assert client.refusal(1) == "not_logged_in"
            assert world.auth.workers[b"worker-1"].take() == []
            assert world.broker._link.idle

    @pytest.mark.parametrize("request_", REQUESTS[1:4], ids=NAMES[1:4])
    def test_a_session_has_one_account(self, request_: envelopes.Request) -> None:
        world = World.ready()
        client = world.log_in("ann")
        assert isinstance(request_, envelopes.ToBroker)
        client.heard.clear()
        assert client.refusal(client.say(request_)) == "already_logged_in"

    @pytest.mark.parametrize("request_", REQUESTS, ids=NAMES)
    def test_every_request_has_an_answer_and_leaves_nothing_counted(self, request_: envelopes.Request) -> None:
        world = World.ready()
        client = world.connect()
        client.say(Hello(id=98))
        client.say(Resume(id=99, token=world.auth.new_token("ann")))
        world.auth.answer()
        client.heard.clear()
        assert isinstance(request_, envelopes.ToBroker)
        client.say(request_)
        world.settle()
        client.answer_to(1, object)
        world.assert_at_rest()

    @pytest.mark.parametrize("request_", REQUESTS, ids=NAMES)
    def test_a_session_that_ends_while_its_request_is_out_leaves_nothing_counted(
        self, request_: envelopes.Request
    ) -> None:
        world = World.ready()
        client = world.log_in("ann")
        assert isinstance(request_, envelopes.ToBroker)
        client.say(request_)
        world.drain()
        session = client.session
        client.heard.clear()
        world.do(Unreachable(client.peer.routing_id))
        world.settle()
        assert client.heard == []
        assert session.held_bytes == 0
        world.assert_at_rest()

    def test_no_more_requests_wait_than_may(self) -> None:
        world = World.ready()
        client = world.log_in("ann")
        requests = [client.say(Overview(id=client.next_id())) for _ in range(limits.REQUESTS_IN_FLIGHT_MAX + 1)]
        error = client.answer_to(requests[-1], Error)
        assert (error.code, error.retry_after_ms) == ("too_many_requests", 1_000)
        world.settle()
        world.assert_at_rest()
        client.ask(Overview(id=client.next_id()), envelopes.Account)


class TestHello:
    def test_it_tells_version_server_limits_and_who_is_ready(self) -> None:
        world = World()
        world.tick()
        client = world.connect()
        before = client.answer_to(client.say(Hello(id=1)), Welcome)
        assert (before.version, before.server, before.auth, before.store) == (1, "restante", False, False)
        assert before.limits == envelopes.Limits()
        world.store.open()
        world.auth.join()
        after = client.answer_to(client.say(Hello(id=2)), Welcome)
        assert (after.auth, after.store) == (True, True)

    @pytest.mark.parametrize(
        ("wish_ms", "beat_ms"),
        [(0, 30_000), (5_000, 5_000), (10, 1_000), (10**7, 30_000)],
    )
    def test_the_beat_is_agreed(self, wish_ms: int, beat_ms: int) -> None:
        world = World.ready()
        client = world.connect()
        welcome = client.answer_to(client.say(Hello(id=1, heartbeat_ms=wish_ms)), Welcome)
        assert welcome.heartbeat_ms == beat_ms
        client.say(Resume(id=2, token=world.auth.new_token("ann")))
        world.auth.answer()
        silence_s = beat_ms / 1000 * limits.SILENCES_MAX
        world.wait(silence_s - TICK_S)
        assert client.known
        world.wait(2 * TICK_S)
        assert not client.known

    def test_said_again_it_is_a_retry(self) -> None:
        world = World.ready()
        client = world.log_in("ann")
        client.answer_to(client.say(Hello(id=client.next_id())), Welcome)
        assert client.session.name == "ann"


class TestSessionsEnd:
    def test_any_word_is_a_sign_of_life(self) -> None:
        world = World.ready()
        client = world.log_in("ann")
        for _ in range(5):
            world.wait(limits.HEARTBEAT_S * 2)
            client.ask(Ping(id=client.next_id()), Pong)

    def test_a_connection_that_never_logs_in_is_forgotten(self) -> None:
        world = World.ready()
        silent, greeted = world.connect(), world.greet()
        silent.blunder()
        world.wait(limits.GREETING_S_MAX + 2 * TICK_S)
        assert (silent.known, greeted.known) == (False, False)

    def test_a_reply_that_cannot_be_handed_over_ends_it(self) -> None:
        world = World.ready()
        client = world.log_in("ann")
        client.gone = True
        client.say(Ping(id=client.next_id()))
        assert not client.known

    def test_unreachable_ends_nothing_where_nobody_was(self) -> None:
        World.ready().do(Unreachable(b"nobody"))

    def test_a_routing_id_with_another_key_is_another_session(self) -> None:
        """RULES 1: who claims an id gets nothing of what its former holder had."""
        world = World.ready()
        victim = world.log_in("ann")
        victim.subscribe()
        pending = victim.say(Overview(id=victim.next_id()))
        session = victim.session
        thief = world.connect(routing_id=victim.peer.routing_id, key="another")
        assert thief.refusal(thief.say(Fetch(id=1))) == "no_session"
        assert session.over
        world.settle()
        assert thief.waits_for(pending)
        assert thief.heard == []
        assert world.broker._subscriptions._by_mailbox == {}
        world.assert_at_rest()

    def test_credit_without_a_session_is_told_so(self) -> None:
        world = World.ready()
        client = world.connect()
        client.say(Credit(sub=1, messages=1, bytes=1))
        ((error, _),) = client.heard
        assert isinstance(error, Error)
        assert (error.id, error.code, error.fatal) == (None, "no_session", True)

    def test_credit_before_a_login_is_dropped(self) -> None:
        world = World.ready()
        client = world.greet()
        client.say(Credit(sub=1, messages=1, bytes=1))
        assert client.heard == []


class TestSessionsMax:
    def test_past_it_hello_is_answered_busy_and_those_that_are_stay(self) -> None:
        world = World.ready(sessions_max=2)
        first, second = world.log_in("ann"), world.greet()
        third = world.connect()
        error = third.answer_to(third.say(Hello(id=7)), Error)
        assert (error.code, error.fatal, error.retry_after_ms) == ("busy", True, 5_000)
        assert not third.known
        first.ask(Ping(id=first.next_id()), Pong)
        second.ask(Resume(id=second.next_id(), token=world.auth.new_token("bob")), LoggedIn)
        first.gone = True
        first.say(Ping(id=first.next_id()))
        third.answer_to(third.say(Hello(id=8)), Welcome)

    def test_taking_over_an_id_is_no_way_in(self) -> None:
        world = World.ready(sessions_max=1)
        victim = world.greet()
        thief = world.connect(routing_id=victim.peer.routing_id, key="another")
        thief.answer_to(thief.say(Hello(id=7)), Welcome)
        assert len(world.sessions()) == 1


class TestViolations:
    def test_each_is_answered_with_its_code_and_its_id(self) -> None:
        world = World.ready()
        client = world.log_in("ann")
        client.blunder("bad_request", request_id=77)
        assert client.refusal(77) == "bad_request"
        client.blunder("bad_frame")
        ((error, _),) = client.heard
        assert isinstance(error, Error)
        assert (error.code, error.id, error.fatal) == ("bad_frame", None, False)
        world.assert_at_rest()

    def test_another_version_ends_a_session(self) -> None:
        world = World.ready()
        client = world.log_in("ann")
        client.blunder("unsupported_version")
        assert not client.known

    @pytest.mark.parametrize("logged_in", [True, False])
    def test_who_keeps_on_is_told_that_it_is_over_and_ignored_for_as_long_as_it_goes_on(self, logged_in: bool) -> None:
        world = World.ready()
        client = world.log_in("ann") if logged_in else world.connect()
        for _ in range(limits.VIOLATIONS_MAX):
            client.blunder()
        errors = [envelope for envelope, _ in client.heard if isinstance(envelope, Error)]
        assert [error.fatal for error in errors] == [False] * (limits.VIOLATIONS_MAX - 1) + [True]
        client.heard.clear()
        for _ in range(20):
            world.wait(limits.GREETING_S_MAX / 2)
            client.blunder()
            client.say(Hello(id=client.next_id()))
        assert client.heard == []
        assert world.counts["dropped"] + world.broker.counters.take()["dropped"] == 40
        world.wait(limits.GREETING_S_MAX + 2 * TICK_S)
        assert not client.known
        world.assert_at_rest()

    def test_without_a_session_the_version_is_counted_too(self) -> None:
        world = World.ready()
        client = world.connect()
        for _ in range(limits.VIOLATIONS_MAX + 5):
            client.blunder("unsupported_version")
        assert len(client.heard) == limits.VIOLATIONS_MAX


class TestReadiness:
    def test_it_is_announced_when_it_changes(self) -> None:
        world = World()
        world.tick()
        assert world.announced == []
        world.store.open()
        assert world.announced == []
        worker = world.auth.join()
        world.drain()
        assert world.announced == [True]
        worker.silent = True
        world.wait(limits.LINK_SILENCE_S_MAX + 1)
        assert world.announced == [True, False]

    def test_the_first_event_opens_the_link(self) -> None:
        world = World()
        actions = world.tick()
        assert isinstance(actions[0], OpenLink)
        assert isinstance(actions[1], Push)
        assert isinstance(actions[1].envelope, store_link.Open)

    def test_time_is_looked_at_regularly(self) -> None:
        world = World.ready()
        assert world.broker.next_deadline() == world.now + TICK_S


class TestStopping:
    def a_world_with_work(self) -> tuple[World, Client, int, int]:
        world = World.ready()
        client = world.log_in("ann")
        world.auth.account("bob")
        held = client.send(1, "bob")
        asked = client.say(Overview(id=client.next_id()))
        world.drain()
        return world, client, held, asked

    def test_what_is_in_hand_is_finished_and_then_clients_are_told(self) -> None:
        world, client, held, asked = self.a_world_with_work()
        world.do(StopRequested())
        world.drain()
        assert world.ended == []
        assert client.refusal(client.say(Ping(id=client.next_id()))) == "unavailable"
        world.settle()
        assert len(client.sent(held)) == 1
        client.answer_to(asked, envelopes.Account)
        assert world.ended == [""]
        ((error, _),) = client.heard
        assert isinstance(error, Error)
        assert (error.code, error.fatal, error.id) == ("unavailable", True, None)

    def test_it_waits_no_longer_than_it_may(self) -> None:
        world, client, held, _ = self.a_world_with_work()
        world.do(StopRequested())
        world.wait(LINGER_S - TICK_S)
        assert world.ended == []
        world.wait(2 * TICK_S)
        assert world.ended == [""]
        assert client.waits_for(held)

    def test_it_ends_once(self) -> None:
        world = World.ready()
        world.do(StopRequested())
        actions = [*world.drain(), *world.drain(), *world.tick()]
        assert [action for action in actions if isinstance(action, End)] == [End()]

    def test_a_reader_does_not_hold_it_up(self) -> None:
        world = World.ready()
        client = world.log_in("ann")
        client.subscribe()
        world.settle()
        world.do(StopRequested())
        world.drain()
        assert world.ended == [""]

    def test_a_dead_store_does_not_hold_it_up_for_the_sake_of_a_reader(self) -> None:
        world = World.ready()
        client = world.log_in("ann")
        client.subscribe()
        for _ in range(40):
            world.wait(0.5)
            client.say(Ping(id=client.next_id()))
        world.do(StopRequested())
        world.drain()
        assert world.ended == [""]


class TestFencing:
    def test_the_older_broker_of_a_name_ends(self) -> None:
        world = World.ready()
        world.store.say(store_link.Closed(epoch=1, generation=2, fenced=True))
        (reason,) = world.ended
        assert "broker-1" in reason


class TestWorkersThatDie:
    def test_every_login_under_way_ends_well(self) -> None:
        world = World.ready()
        clients = [world.greet() for _ in range(10)]
        requests = [
            c.say(Resume(id=c.next_id(), token=world.auth.new_token(f"user{n}"))) for n, c in enumerate(clients)
        ]
        world.auth.workers[b"worker-1"].silent = True
        world.auth.workers[b"worker-1"].heard.clear()
        world.auth.join(b"worker-2")
        world.wait(limits.LINK_SILENCE_S_MAX + 1)
        world.settle()
        for client, request in zip(clients, requests, strict=True):
            client.answer_to(request, LoggedIn)
        world.assert_at_rest()

    def test_with_nobody_left_a_request_is_refused_in_time(self) -> None:
        world = World.ready()
        client = world.log_in("ann")
        world.auth.workers[b"worker-1"].gone = True
        request = client.say(Tokens(id=client.next_id()))
        world.wait(limits.REQUEST_S - 1)
        assert client.waits_for(request)
        world.wait(2)
        assert client.refusal(request) == "unavailable"
        world.assert_at_rest()

    def test_a_stranger_is_asked_who_it_is(self) -> None:
        world = World.ready()
        world.auth.workers[b"stranger"] = world.auth.join(b"stranger")
        world.do(Unreachable(b"nobody"))
        world.broker._pool.unreachable(b"stranger", [])
        world.auth.workers[b"stranger"].heard.clear()
        world.auth.say(auth_link.Beat(), b"stranger")
        assert world.auth.workers[b"stranger"].heard == [auth_link.Who()]
