"""What the broker does on everything that the specification forbids: envelopes, requests, the session.

Classes are its chapters; accounts, sending and reading have files of their own. Each test names in its docstring the
requirements that it shows, such as [S1].
"""

from __future__ import annotations

import msgpack
import pytest

from broker import events as b
from restante.wire import auth_link, limits
from restante.wire import envelopes as e
from tests.protocol.dialogue import PASSWORD, Client, World
from tests.protocol.spec import rows, section, text_of
from tests.protocol.speech import NEED_A_LOGIN, REQUESTS, message, of_type, refused, send
from tests.protocol.vectors import Vector, frames_of, load

MALFORMED = [pytest.param(v, id=v["name"]) for v in load("malformed") if v["direction"] == "client→broker"]


class TestEnvelopes:
    @pytest.mark.parametrize("vector", MALFORMED)
    def test_what_is_no_envelope_is_answered_once_with_its_code(self, bob: Client, vector: Vector) -> None:
        """[F1] [F2] [F3] [F5] [R7] [V1]"""
        (got,) = bob.frames(frames_of(vector))
        assert refused(got, vector["error"]["code"]).id == vector["error"].get("request_id")

    @pytest.mark.parametrize("vector", MALFORMED)
    def test_the_session_goes_on_unless_the_code_is_fatal(self, bob: Client, vector: Vector) -> None:
        """[V1] [S5]"""
        (got,) = bob.frames(frames_of(vector))
        assert isinstance(got, e.Error)
        assert bob.greeted() is not got.fatal

    @pytest.mark.parametrize(
        "vector", [pytest.param(v, id=v["name"]) for v in load("leniency") if v["direction"] == "client→broker"]
    )
    def test_what_is_an_envelope_in_other_bytes_is_served(self, bob: Client, vector: Vector) -> None:
        """[F1] [F3] [F4]"""
        (got,) = bob.frames(frames_of(vector))
        assert isinstance(got, e.Pong | e.Page)

    @pytest.mark.parametrize("stage", ["new", "greeted", "ready"])
    def test_who_keeps_on_is_told_and_then_ignored(self, world: World, stage: str) -> None:
        """[V2]: the eighth is the last that is answered; after it valid envelopes are ignored too."""
        peer = world.at(stage, "bob")
        answers = [peer.frames([b"nonsense"]) for _ in range(limits.VIOLATIONS_MAX)]
        told = [refused(got[0], "bad_frame", fatal=at == limits.VIOLATIONS_MAX) for at, got in enumerate(answers, 1)]
        assert len(told) == sum(map(len, answers)) == limits.VIOLATIONS_MAX
        assert peer.frames([b"nonsense"]) == []
        assert peer.say(e.Hello(id=5)) == []
        assert peer.say(e.Ping(id=6)) == []

    def test_what_an_ignored_session_subscribed_to_is_over(self, world: World, bob: Client) -> None:
        """[V2]"""
        assert isinstance(bob.ask(e.Subscribe(id=50, sub=1, messages=9, bytes=99)), e.Subscribed)
        for _ in range(limits.VIOLATIONS_MAX):
            bob.frames([b"nonsense"])
        heard = len(bob.heard)
        send(world.login("eve"), 1, message(1, "bob"))
        assert len(bob.heard) == heard

    def test_nobody_else_is_touched_by_a_peer_that_is_ignored(self, world: World, bob: Client) -> None:
        """[V3]"""
        fuzzer = world.connect()
        for _ in range(50):
            fuzzer.frames([b"", b"\xc1", b"", b""])
        assert bob.ask(e.Ping(id=1)) == e.Pong(id=1)
        assert isinstance(world.connect().ask(e.Hello(id=1)), e.Welcome)

    def test_one_below_the_limit_is_still_served(self, bob: Client) -> None:
        """[V2]"""
        for _ in range(limits.VIOLATIONS_MAX - 1):
            bob.frames([b"nonsense"])
        assert bob.ask(e.Ping(id=1)) == e.Pong(id=1)

    def test_a_body_where_none_belongs_is_ignored(self, bob: Client) -> None:
        """[F7]"""
        assert bob.ask(e.Ping(id=1), b"what is this") == e.Pong(id=1)

    def test_an_unknown_version_ends_the_session(self, bob: Client) -> None:
        """[F2] [S5]"""
        (got,) = bob.frames([b"CHAT/2", msgpack.packb({"type": "ping", "id": 1}), b""])
        refused(got, "unsupported_version", fatal=True)
        refused(bob.ask(e.Ping(id=2)), "no_session")


class TestRequests:
    @pytest.mark.parametrize("name", REQUESTS)
    def test_every_request_gets_exactly_one_answer_of_its_type(self, bob: Client, name: str) -> None:
        """[R1]"""
        got = bob.ask(REQUESTS[name])
        table = {row[0].strip("`"): row[1].strip("`") for row in rows(section(text_of("protocol.md"), "Requests"))}
        tag = type(got).__struct_config__.tag
        assert tag in (table[name], "error")
        if name not in ("register", "login", "resume", "unsubscribe"):
            assert tag == table[name], got

    def test_one_request_too_many_is_refused_and_does_nothing(self, world: World, bob: Client) -> None:
        """[R4] [R5]"""
        world.store_silent = True
        for n in range(limits.REQUESTS_IN_FLIGHT_MAX):
            assert bob.say(e.Overview(id=10_000 + n)) == []
        refused(bob.ask(e.Ping(id=1)), "too_many_requests")
        assert len(of_type(bob, e.Error)) == 1

    def test_requests_of_one_session_are_not_another_s(self, world: World, bob: Client) -> None:
        """[R4]"""
        eve = world.login("eve")
        world.store_silent = True
        for n in range(limits.REQUESTS_IN_FLIGHT_MAX):
            bob.say(e.Overview(id=10_000 + n))
        assert eve.ask(e.Ping(id=1)) == e.Pong(id=1)

    def test_a_request_that_waits_too_long_for_the_store_is_refused(self, world: World, bob: Client) -> None:
        """[R1] [R5]"""
        world.store_silent = True
        assert bob.say(e.Overview(id=50)) == []
        world.wait(15, bob)
        assert [(h.id, h.code) for h in of_type(bob, e.Error)] == [(50, "unavailable")]

    def test_a_request_that_waits_too_long_for_accounts_is_refused(self, world: World, bob: Client) -> None:
        """[R1] [R5]"""
        world.auth_silent = True
        assert bob.say(e.Tokens(id=51)) == []
        world.wait(limits.REQUEST_S + 1, bob)
        assert [(h.id, h.code) for h in of_type(bob, e.Error)] == [(51, "unavailable")]


class TestSession:
    @pytest.mark.parametrize("name", sorted(set(REQUESTS) - {"hello"}))
    def test_before_hello_everything_is_refused(self, world: World, name: str) -> None:
        """[S1]"""
        world.register("bob")
        client = world.connect()
        assert refused(client.ask(REQUESTS[name]), "no_session", fatal=True).id == 90
        assert not isinstance(world.asked[-1], auth_link.UseToken)
        assert isinstance(client.ask(e.Hello(id=1)), e.Welcome)

    @pytest.mark.parametrize("name", NEED_A_LOGIN)
    def test_before_a_login_most_is_refused(self, world: World, name: str) -> None:
        """[S3]"""
        client = world.greet()
        refused(client.ask(REQUESTS[name]), "not_logged_in", fatal=False)
        assert client.greeted()

    def test_a_login_may_be_sent_right_behind_hello(self, world: World) -> None:
        """[S3]: both are there before either is answered."""
        world.register("bob")
        client = world.connect()
        login = e.Login(id=2, op=world.op(), name="bob", password=PASSWORD)
        world.happen(b.Arrived(client.peer, e.Hello(id=1), b""), b.Arrived(client.peer, login, b""))
        assert [type(header) for header, _ in client.heard] == [e.Welcome, e.LoggedIn]

    @pytest.mark.parametrize("name", ["register", "login", "resume"])
    def test_after_a_login_another_is_refused(self, bob: Client, name: str) -> None:
        """[S4]"""
        refused(bob.ask(REQUESTS[name]), "already_logged_in", fatal=False)
        assert isinstance(bob.ask(e.Overview(id=1)), e.Account)

    def test_of_two_logins_at_once_the_first_counts(self, world: World) -> None:
        """[S4]"""
        world.register("bob", "eve")
        client = world.greet()
        world.auth_silent = True
        client.say(e.Login(id=10, op=world.op(), name="bob", password=PASSWORD))
        client.say(e.Login(id=11, op=world.op(), name="eve", password=PASSWORD))
        world.auth_silent = False
        for n, question in enumerate(world.asked[-2:], len(world.asked) - 1):
            outcome = world.answers.answer(question, world.wall_us)
            world.happen(b.WorkerArrived(b"worker", auth_link.Told(n=n, outcome=outcome)))
        first, second = (header for header, _ in client.heard[-2:])
        assert isinstance(first, e.LoggedIn)
        assert first.name == "bob"
        refused(second, "already_logged_in")

    @pytest.mark.parametrize("stage", ["greeted", "ready"])
    def test_hello_again_is_a_repetition(self, world: World, stage: str) -> None:
        """[S2]"""
        client = world.at(stage, "bob")
        assert isinstance(client.ask(e.Hello(id=70)), e.Welcome)
        got = client.ask(e.Overview(id=71))
        if stage == "ready":
            assert isinstance(got, e.Account)
        else:
            refused(got, "not_logged_in")

    def test_the_state_table_of_the_specification(self, world: World) -> None:
        """[S1] [S3] [S4]: every cell of the table, tried."""
        world.register("bob")
        token = world.greet().ask(e.Login(id=2, op=world.op(), name="bob", password=PASSWORD))
        assert isinstance(token, e.LoggedIn)
        assert token.token is not None
        columns: list[list[e.ToBroker]] = [
            [e.Hello(id=90)],
            [e.Register(id=90, op=world.op(), name="carol", password=PASSWORD)],
            [e.Login(id=90, op=world.op(), name="bob", password=PASSWORD), e.Resume(id=90, token=token.token)],
            [REQUESTS[name] for name in NEED_A_LOGIN if name not in ("logout", "passwd", "revoke", "unsubscribe")],
        ]
        table = [row for row in rows(section(text_of("protocol.md"), "5. The session")) if row[0] != "over"]
        states = [row for row in table if row[0] in ("new", "greeted", "ready")]
        assert len(states) == 3
        for state, *cells in states:
            for cell, requests in zip(cells[:4], columns, strict=True):
                for request in requests:
                    client = world.at(state, "bob")
                    got = client.ask(request)
                    expected = cell.split("`")[1] if "`" in cell else ""
                    shown = got.code if isinstance(got, e.Error) else type(got).__struct_config__.tag
                    assert shown == expected or (not expected and not isinstance(got, e.Error)), (state, request, got)

    @pytest.mark.parametrize(
        ("asked_ms", "beat_ms"), [(0, 30_000), (5_000, 5_000), (1, 1_000), (999, 1_000), (86_400_000, 30_000)]
    )
    def test_the_beat_is_within_its_bounds(self, world: World, asked_ms: int, beat_ms: int) -> None:
        """[S8]"""
        got = world.connect().ask(e.Hello(id=1, heartbeat_ms=asked_ms))
        assert isinstance(got, e.Welcome)
        assert got.heartbeat_ms == beat_ms

    def test_three_beats_of_silence_end_a_session(self, world: World) -> None:
        """[S7]"""
        client = world.login("bob")
        client.ask(e.Hello(id=50, heartbeat_ms=5_000))
        world.wait(14)
        assert client.ask(e.Ping(id=51)) == e.Pong(id=51)
        world.wait(16)
        refused(client.ask(e.Ping(id=52)), "no_session", fatal=True)

    def test_any_envelope_is_a_sign_of_life(self, world: World) -> None:
        """[B1] [S7]: a notice, or even what is no envelope."""
        client = world.login("bob")
        client.ask(e.Hello(id=50, heartbeat_ms=1_000))
        for _ in range(5):
            world.wait(2)
            client.say(e.Credit(sub=1, messages=0, bytes=0))
        client.frames([b"nonsense"])
        world.wait(2)
        assert client.greeted()

    def test_who_greets_and_never_logs_in_is_forgotten(self, world: World) -> None:
        """[S6]: however much it says meanwhile."""
        client = world.greet()
        world.wait(limits.GREETING_S_MAX - 2, client)
        assert client.greeted()
        world.wait(4, client)
        assert not client.greeted()

    def test_who_never_greets_is_forgotten(self, world: World) -> None:
        """[S6]"""
        client = world.connect()
        refused(client.ask(e.Ping(id=1)), "no_session")
        world.wait(limits.GREETING_S_MAX + 2)
        world.happen(b.StopRequested())
        assert len(client.heard) == 1, "a server that stops tells those it knows"

    def test_who_was_ignored_is_heard_again_after_a_silence(self, world: World) -> None:
        """[V2]: of some length; who keeps on is ignored on."""
        client = world.connect()
        for _ in range(limits.VIOLATIONS_MAX):
            client.frames([b"nonsense"])
        for _ in range(3):
            world.wait(limits.GREETING_S_MAX - 2)
            assert client.say(e.Hello(id=1)) == []
        world.wait(limits.GREETING_S_MAX + 2)
        assert isinstance(client.ask(e.Hello(id=2)), e.Welcome)

    def test_after_logout_the_session_is_over(self, world: World, bob: Client) -> None:
        """[S9]"""
        assert bob.ask(e.Logout(id=50, op=world.op())) == e.Done(id=50)
        refused(bob.ask(e.Ping(id=51)), "no_session", fatal=True)

    def test_another_key_never_reaches_a_session(self, world: World, bob: Client) -> None:
        """[S11]"""
        thief = world.connect(routing_id=bob.peer.routing_id, key="the thief's")
        refused(thief.ask(e.Overview(id=1)), "no_session")

    def test_a_full_server_says_busy_and_serves_who_is_there(self) -> None:
        """[S12]"""
        world = World(sessions_max=2)
        bob = world.login("bob")
        world.greet()
        (got,) = world.connect().say(e.Hello(id=9))
        assert refused(got, "busy", fatal=True).id == 9
        assert bob.ask(e.Ping(id=1)) == e.Pong(id=1)

    def test_a_server_that_stops_says_so(self, world: World, bob: Client) -> None:
        """[S13]"""
        world.happen(b.StopRequested())
        last = bob.heard[-1][0]
        assert refused(last, "unavailable", fatal=True).id is None
        assert len(world.ended) == 1

    def test_a_server_that_stops_answers_what_is_in_hand_first(self, world: World, bob: Client) -> None:
        """[S13]"""
        world.store_silent = True
        assert bob.say(e.Overview(id=60)) == []
        world.happen(b.StopRequested())
        assert world.ended == []
        refused(bob.ask(e.Ping(id=61)), "unavailable", fatal=False)
