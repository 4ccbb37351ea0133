"""What the broker does about accounts: chapter 6 of the specification, and the end of sessions by their tokens."""

from __future__ import annotations

import pytest

from restante.wire import auth_link, limits
from restante.wire import envelopes as e
from tests.protocol.dialogue import PASSWORD, Client, World
from tests.protocol.speech import of_type, refused

NO_NAMES = ["", "b", "-bob", "bob eve", "böb", "bob!", ".bob", "b\nb", "\u212aelvin", "stra\u00dfe"]
PASSWORDS = [("1234567", False), ("12345678", True), ("ß" * 512, True), ("ß" * 513, False)]


class TestAccounts:
    def test_a_repeated_registration_is_answered_the_same(self, world: World) -> None:
        """[A1] [A2]"""
        client = world.greet()
        op = world.op()
        first = client.ask(e.Register(id=2, op=op, name="bob", password=PASSWORD))
        again = client.ask(e.Register(id=3, op=op, name="bob", password=PASSWORD))
        assert isinstance(first, e.Registered)
        assert isinstance(again, e.Registered)
        assert first.account == again.account
        refused(client.ask(e.Register(id=4, op=world.op(), name="bob", password=PASSWORD)), "name_taken")

    def test_the_same_op_with_other_fields_is_another_registration(self, world: World) -> None:
        """[A1] [A2]"""
        client, op = world.greet(), world.op()
        bob = client.ask(e.Register(id=2, op=op, name="bob", password=PASSWORD))
        eve = client.ask(e.Register(id=3, op=op, name="eve", password=PASSWORD))
        assert isinstance(bob, e.Registered)
        assert isinstance(eve, e.Registered)
        assert bob.account != eve.account
        refused(client.ask(e.Register(id=4, op=op, name="bob", password="another one")), "name_taken")
        refused(client.ask(e.Register(id=5, op=op, name="bob", password=PASSWORD, display_name="B")), "name_taken")

    def test_after_a_day_a_repetition_may_be_another_request(self, world: World) -> None:
        """[A1]"""
        register = e.Register(id=2, op=world.op(), name="bob", password=PASSWORD)
        assert isinstance(world.greet().ask(register), e.Registered)
        world.now += 23.9 * 3_600
        assert isinstance(world.greet().ask(register), e.Registered)
        world.now += 0.2 * 3_600
        world.register("eve")
        refused(world.greet().ask(register), "name_taken")

    def test_a_repeated_login_brings_the_same_token_until_that_has_ended(self, world: World) -> None:
        """[A1]"""
        world.register("bob")
        login = e.Login(id=2, op=world.op(), name="bob", password=PASSWORD)
        first, again = world.greet().ask(login), world.greet().ask(login)
        assert isinstance(first, e.LoggedIn)
        assert isinstance(again, e.LoggedIn)
        assert first.token is not None
        assert first.token == again.token
        session = world.greet()
        session.ask(e.Resume(id=3, token=first.token))
        session.ask(e.Logout(id=4, op=world.op()))
        refused(world.greet().ask(login), "bad_token")

    def test_a_passwd_of_unknown_outcome_is_found_out_by_a_login_and_repeated(self, world: World, bob: Client) -> None:
        """[A1]: in another session, with the same token as its answer."""
        passwd = e.Passwd(id=50, op=world.op(), old=PASSWORD, new="battery staple")
        first = bob.ask(passwd)
        client = world.greet()
        refused(client.ask(e.Login(id=2, op=world.op(), name="bob", password=PASSWORD)), "wrong_credentials")
        assert isinstance(client.ask(e.Login(id=3, op=world.op(), name="bob", password="battery staple")), e.LoggedIn)
        again = client.ask(passwd)
        assert isinstance(first, e.LoggedIn)
        assert isinstance(again, e.LoggedIn)
        assert first.token == again.token

    def test_a_token_outlives_a_session_that_does_not_log_out(self, world: World) -> None:
        """[A9]"""
        world.register("bob")
        client = world.greet()
        got = client.ask(e.Login(id=2, op=world.op(), name="bob", password=PASSWORD))
        world.wait(limits.HEARTBEAT_S * limits.SILENCES_MAX + 1)
        refused(client.ask(e.Ping(id=3)), "no_session")
        assert isinstance(got, e.LoggedIn)
        assert got.token is not None
        assert isinstance(world.greet().ask(e.Resume(id=2, token=got.token)), e.LoggedIn)

    def test_passwords_are_compared_in_nfc(self, world: World) -> None:
        """[A3]: eight characters of two code points each are eight, and as good as eight of one."""
        client = world.greet()
        assert isinstance(client.ask(e.Register(id=2, op=world.op(), name="bob", password="e\u0301" * 8)), e.Registered)
        assert isinstance(client.ask(e.Login(id=3, op=world.op(), name="bob", password="\u00e9" * 8)), e.LoggedIn)
        refused(world.greet().ask(e.Register(id=4, op=world.op(), name="eve", password="e\u0301" * 7)), "bad_password")

    def test_a_password_of_too_many_characters_is_no_request(self, world: World) -> None:
        """[A3]"""
        got = world.greet().ask(e.Register(id=2, op=world.op(), name="bob", password="p" * 1_025))
        refused(got, "bad_request")

    def test_a_name_is_told_as_it_is_written_down(self, world: World) -> None:
        """[A2]"""
        client = world.greet()
        made = client.ask(e.Register(id=2, op=world.op(), name="BoB", password=PASSWORD))
        session = client.ask(e.Login(id=3, op=world.op(), name="bOb", password=PASSWORD))
        assert isinstance(made, e.Registered)
        assert isinstance(session, e.LoggedIn)
        assert made.name == session.name == "bob"
        assert client.ask(e.Lookup(id=4, names=["BOB"])) == e.Found(id=4, names=["bob"])

    def test_a_name_is_not_given_again_in_capitals(self, world: World) -> None:
        """[A2]"""
        world.register("bob")
        got = world.greet().ask(e.Register(id=2, op=world.op(), name="BOB", password=PASSWORD))
        refused(got, "name_taken")

    @pytest.mark.parametrize(
        "name", ["", "b", "-bob", "bob eve", "böb", "bob!", ".bob", "b\nb", "\u212aelvin", "stra\u00dfe"]
    )
    def test_what_is_no_name_is_not_registered(self, world: World, name: str) -> None:
        """[A2]"""
        got = world.greet().ask(e.Register(id=2, op=world.op(), name=name, password=PASSWORD))
        refused(got, "bad_name")

    @pytest.mark.parametrize(("password", "fine"), PASSWORDS)
    def test_passwords_have_a_least_and_a_greatest_length(self, world: World, password: str, fine: bool) -> None:
        """[A3]"""
        got = world.greet().ask(e.Register(id=2, op=world.op(), name="bob", password=password))
        if fine:
            assert isinstance(got, e.Registered)
        else:
            refused(got, "bad_password")

    def test_a_wrong_password_and_an_unknown_name_look_alike(self, world: World) -> None:
        """[A4]"""
        world.register("bob")
        client = world.greet()
        wrong = client.ask(e.Login(id=2, op=world.op(), name="bob", password="not his"))
        unknown = client.ask(e.Login(id=2, op=world.op(), name="nobody", password="not his"))
        assert refused(wrong, "wrong_credentials") == refused(unknown, "wrong_credentials")

    def test_guessing_is_limited_per_account(self, world: World) -> None:
        """[A5]: also for who then guesses right; and it passes."""
        world.register("bob")
        client = world.greet()
        for _ in range(limits.LOGIN_FAILURES_MAX):
            refused(
                client.ask(e.Login(id=client.next_id(), op=world.op(), name="bob", password="x")), "wrong_credentials"
            )
        got = refused(client.ask(e.Login(id=2, op=world.op(), name="BOB", password=PASSWORD)), "rate_limited")
        assert got.retry_after_ms is not None
        world.wait(got.retry_after_ms / 1000)
        assert isinstance(client.ask(e.Login(id=3, op=world.op(), name="bob", password=PASSWORD)), e.LoggedIn)

    def test_a_closed_server_lets_nobody_register(self) -> None:
        """[A6]"""
        world = World(registration_open=False)
        got = world.greet().ask(e.Register(id=2, op=world.op(), name="bob", password=PASSWORD))
        refused(got, "registration_closed")
        assert world.asked == []

    @pytest.mark.parametrize("token", [bytes(32), b"\xff" * 32])
    def test_an_unknown_token_is_refused(self, world: World, token: bytes) -> None:
        """[A7]"""
        refused(world.greet().ask(e.Resume(id=2, token=token)), "bad_token")

    def test_a_token_logs_in_until_it_is_revoked(self, world: World) -> None:
        """[A7] [S10]"""
        world.register("bob")
        first = world.greet().ask(e.Login(id=2, op=world.op(), name="bob", password=PASSWORD))
        assert isinstance(first, e.LoggedIn)
        assert first.token is not None
        second = world.greet()
        resumed = second.ask(e.Resume(id=2, token=first.token))
        assert isinstance(resumed, e.LoggedIn)
        assert resumed.token is None
        assert second.ask(e.Logout(id=3, op=world.op())) == e.Done(id=3)
        refused(world.greet().ask(e.Resume(id=2, token=first.token)), "bad_token")

    def test_a_token_of_somebody_else_cannot_be_revoked(self, world: World, bob: Client) -> None:
        """[A8]"""
        eve = world.login("eve")
        tokens = bob.ask(e.Tokens(id=50))
        assert isinstance(tokens, e.TokenList)
        refused(eve.ask(e.Revoke(id=51, op=world.op(), token=tokens.tokens[0].token)), "unknown_token")
        assert bob.greeted()

    def test_another_session_is_ended_before_the_answer(self, world: World, bob: Client) -> None:
        """[S10] [A8]: told without an id, once; and the one that asked goes on."""
        other = world.login("bob")
        order: list[str] = []
        for name, client in (("other", other), ("bob", bob)):
            client.heard = Recorder(client.heard, order, name)
        got = bob.ask(e.Passwd(id=50, op=world.op(), old=PASSWORD, new="battery staple"))
        assert isinstance(got, e.LoggedIn)
        assert got.token is not None
        assert order == ["other", "bob"]
        assert refused(other.heard[-1][0], "session_ended", fatal=True).id is None
        refused(other.ask(e.Ping(id=51)), "no_session")
        assert isinstance(bob.ask(e.Overview(id=52)), e.Account)

    def test_a_revoked_session_is_ended(self, world: World, bob: Client) -> None:
        """[S10]"""
        other = world.login("bob")
        tokens = bob.ask(e.Tokens(id=50))
        assert isinstance(tokens, e.TokenList)
        (victim,) = [info.token for info in tokens.tokens if not info.current]
        assert bob.ask(e.Revoke(id=51, op=world.op(), token=victim)) == e.Done(id=51)
        refused(other.heard[-1][0], "session_ended")

    def test_a_token_that_ended_behind_the_broker_s_back_ends_its_sessions_soon(
        self, world: World, bob: Client
    ) -> None:
        """[S10]: an administrator disabled the account, or the token expired."""
        eve = world.login("eve")
        world.answers.answer(auth_link.EndToken(op=world.op(), account=1, token_id=1), world.wall_us)
        world.wait(limits.SESSION_CHECK_S + 1, bob, eve)
        (told,) = [h for h in of_type(bob, e.Error) if h.code == "session_ended"]
        assert (told.fatal, told.id) == (True, None)
        assert eve.greeted()

    def test_a_session_that_revokes_itself_is_answered_and_over(self, world: World, bob: Client) -> None:
        """[S9]"""
        tokens = bob.ask(e.Tokens(id=50))
        assert isinstance(tokens, e.TokenList)
        (own,) = [info.token for info in tokens.tokens if info.current]
        assert bob.ask(e.Revoke(id=51, op=world.op(), token=own)) == e.Done(id=51)
        refused(bob.ask(e.Ping(id=52)), "no_session")

    def test_unknown_names_are_limited_per_account(self, world: World, bob: Client) -> None:
        """[A5]"""
        for lot in range(limits.UNKNOWN_NAMES_MAX // 1_000):
            got = bob.ask(e.Lookup(id=60 + lot, names=[f"nobody-{lot}-{n}" for n in range(1_000)]))
            assert got == e.Found(id=60 + lot, names=[])
        refused(bob.ask(e.Lookup(id=50, names=["one-more"])), "rate_limited")
        assert isinstance(world.login("eve").ask(e.Lookup(id=50, names=["one-more"])), e.Found)


class Recorder(list[tuple[e.ToClient, bytes]]):
    """A client's inbox that also notes, with others, who was told first."""

    def __init__(self, held: list[tuple[e.ToClient, bytes]], order: list[str], name: str) -> None:
        super().__init__(held)
        self._order = order
        self._name = name

    def append(self, entry: tuple[e.ToClient, bytes]) -> None:
        self._order.append(self._name)
        super().append(entry)
