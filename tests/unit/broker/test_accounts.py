"""Accounts at the broker: guessing is bounded, and a token's sessions end before anybody is told (RULES 20)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from broker.accounts import CHECKED_AT_ONCE
from broker.events import Reply
from restante.wire import auth_link, envelopes, limits
from restante.wire.envelopes import (
    Done,
    Error,
    Found,
    LoggedIn,
    Login,
    Logout,
    Lookup,
    Passwd,
    Register,
    Registered,
    Resume,
    Revoke,
    TokenList,
    Tokens,
)
from tests.unit.broker.world import Client, World, an_id

OP = an_id(1)


def login(client: Client, name: str, password: str) -> int:
    """Say `login`. Returns the request id."""
    return client.say(Login(id=client.next_id(), op=OP, name=name, password=password))


def token_of(client: Client) -> int:
    return client.session.token_id


class TestRegistering:
    def test_a_newcomer_registers_and_is_not_logged_in_by_it(self) -> None:
        world = World.ready()
        client = world.greet()
        made = client.ask(Register(id=client.next_id(), op=OP, name="ann", password="right"), Registered)
        assert made.name == "ann"
        assert client.refusal(client.say(Tokens(id=client.next_id()))) == "not_logged_in"
        world.assert_at_rest()

    def test_where_newcomers_are_not_let_in_nobody_is_asked(self) -> None:
        world = World.ready(registration_open=False)
        client = world.greet()
        request = client.say(Register(id=client.next_id(), op=OP, name="ann", password="right"))
        assert client.refusal(request) == "registration_closed"
        assert world.auth.workers[b"worker-1"].take() == []
        world.assert_at_rest()

    def test_a_refusal_is_passed_on(self) -> None:
        world = World.ready()
        client = world.greet()
        request = client.say(Register(id=client.next_id(), op=OP, name="ann", password="right"))
        ask, _ = world.auth.asked(auth_link.MakeAccount)
        world.auth.tell(ask, auth_link.Refused(code="name_taken", text="taken"))
        assert client.refusal(request) == "name_taken"

    def test_one_address_makes_no_more_accounts_than_may_be(self) -> None:
        world = World.ready()
        client = world.greet()
        for _ in range(limits.REGISTRATIONS_PER_PEER_MAX):
            client.ask(Register(id=client.next_id(), op=OP, name="ann", password="right"), Registered)
        another = world.greet()
        request = another.say(Register(id=another.next_id(), op=OP, name="bob", password="right"))
        assert another.refusal(request) == "rate_limited"
        elsewhere = world.greet(address="10.0.0.2")
        elsewhere.ask(Register(id=elsewhere.next_id(), op=OP, name="bob", password="right"), Registered)

    def test_what_no_worker_could_be_asked_is_no_attempt(self) -> None:
        world = World.ready()
        client = world.greet()
        client.say(Register(id=client.next_id(), op=OP, name="ann", password="right"))
        ask, _ = world.auth.asked(auth_link.MakeAccount)
        world.auth.tell(ask, auth_link.Refused(code="unavailable"))
        for _ in range(limits.REGISTRATIONS_PER_PEER_MAX):
            client.ask(Register(id=client.next_id(), op=OP, name="ann", password="right"), Registered)


class TestLoggingIn:
    def test_a_right_password_makes_a_token(self) -> None:
        world = World.ready()
        world.auth.account("ann")
        client = world.greet()
        session = client.ask(Login(id=client.next_id(), op=OP, name="ANN", password="right"), LoggedIn)
        assert session.name == "ann"
        assert session.token is not None
        assert client.ask(Tokens(id=client.next_id()), TokenList).tokens == []
        world.assert_at_rest()

    def test_resuming_makes_none(self) -> None:
        world = World.ready()
        client = world.greet()
        token = world.auth.new_token("ann")
        assert client.ask(Resume(id=client.next_id(), token=token), LoggedIn).token is None

    def test_wrong_passwords_are_counted_for_the_account_wherever_they_come_from(self) -> None:
        world = World.ready()
        world.auth.account("ann")
        for number in range(limits.LOGIN_FAILURES_MAX):
            client = world.greet(address=f"10.0.1.{number}")
            request = login(client, "Ann", "wrong")
            world.auth.answer()
            assert client.refusal(request) == "wrong_credentials"
        client = world.greet(address="10.0.2.1")
        error = client.answer_to(login(client, "aNN", "right"), Error)
        assert error.code == "rate_limited"
        assert error.retry_after_ms is not None
        assert 0 < error.retry_after_ms <= limits.LOGIN_FAILURE_S * 1_000 + 1
        world.wait(limits.LOGIN_FAILURE_S)
        client.ask(Login(id=client.next_id(), op=OP, name="ann", password="right"), LoggedIn)
        world.assert_at_rest()

    def test_guesses_at_the_same_time_count_too(self) -> None:
        world = World.ready()
        world.auth.account("ann")
        client = world.greet()
        requests = [login(client, "ann", "wrong") for _ in range(100)]
        assert len(world.auth.workers[b"worker-1"].take()) == limits.LOGIN_FAILURES_MAX
        refused = [client.refusal(request) for request in requests if not client.waits_for(request)]
        assert refused == ["rate_limited"] * (100 - limits.LOGIN_FAILURES_MAX)

    def test_guesses_of_one_address_count_over_all_accounts(self) -> None:
        world = World.ready()
        codes = []
        for number in range(limits.PEER_LOGIN_FAILURES_MAX + 20):
            client = world.greet(address="10.0.0.9")
            request = login(client, f"user{number}", "wrong")
            world.auth.answer()
            codes.append(client.refusal(request))
        assert codes == ["wrong_credentials"] * limits.PEER_LOGIN_FAILURES_MAX + ["rate_limited"] * 20

    def test_right_passwords_cost_nothing(self) -> None:
        world = World.ready()
        world.auth.account("ann")
        for _ in range(limits.PEER_LOGIN_FAILURES_MAX + limits.LOGIN_FAILURES_MAX):
            client = world.greet()
            client.ask(Login(id=client.next_id(), op=OP, name="ann", password="right"), LoggedIn)

    def test_what_no_worker_could_answer_is_no_guess(self) -> None:
        world = World.ready()
        world.auth.account("ann")
        client = world.greet()
        for _ in range(limits.LOGIN_FAILURES_MAX * 2):
            request = login(client, "ann", "right")
            ask, _ = world.auth.asked(auth_link.LogIn)
            world.auth.tell(ask, auth_link.Refused(code="unavailable"))
            assert client.refusal(request) == "unavailable"

    def test_of_two_logins_of_one_session_the_first_answered_stands(self) -> None:
        world = World.ready()
        client = world.greet()
        first = client.say(Resume(id=client.next_id(), token=world.auth.new_token("ann")))
        second = client.say(Resume(id=client.next_id(), token=world.auth.new_token("bob")))
        world.auth.answer()
        assert client.answer_to(first, LoggedIn).name == "ann"
        assert client.refusal(second) == "already_logged_in"
        assert client.session.name == "ann"
        world.assert_at_rest()

    def test_a_session_that_went_meanwhile_is_bound_to_nothing(self) -> None:
        world = World.ready()
        client = world.greet()
        client.say(Resume(id=client.next_id(), token=world.auth.new_token("ann")))
        session = client.session
        world.broker._over(session)
        world.auth.answer()
        assert session.over
        assert (session.account, client.heard) == (0, [])

    def test_an_outcome_of_the_wrong_kind_is_a_fault_of_the_house(self) -> None:
        world = World.ready()
        client = world.log_in("ann")
        for request in (
            Tokens(id=91),
            Lookup(id=92, names=["bob"]),
            Logout(id=93, op=OP),
            Passwd(id=94, op=OP, old="right", new="new"),
        ):
            client.say(request)
            (ask,) = world.auth.workers[b"worker-1"].take()
            world.auth.tell(ask, auth_link.AccountMade(account=1, name="ann"))
            assert client.refusal(request.id) == "internal"
        world.assert_at_rest()

    def test_a_workers_fatal_refusal_ends_the_session(self) -> None:
        world = World.ready()
        client = world.log_in("ann")
        request = client.say(Tokens(id=client.next_id()))
        ask, _ = world.auth.asked(auth_link.ListTokens)
        world.auth.tell(ask, auth_link.Refused(code="session_ended"))
        assert client.answer_to(request, Error).fatal
        assert not client.known


class TestTokensEnd:
    def test_logging_out_ends_all_sessions_of_the_token_and_the_asker_after_its_answer(self) -> None:
        world = World.ready()
        token = world.auth.new_token("ann")
        asker, twin = world.greet(), world.greet()
        for client in (asker, twin):
            client.ask(Resume(id=client.next_id(), token=token), LoggedIn)
        other = world.log_in("ann")
        request = asker.say(Logout(id=asker.next_id(), op=OP))
        ask, question = world.auth.asked(auth_link.EndToken)
        assert (question.account, question.token_id) == (asker.session.account, token_of(asker))
        actions = world.auth.tell(ask)
        told = [action.envelope for action in actions if isinstance(action, Reply)]
        assert [type(envelope) for envelope in told] == [Error, Done]
        asker.answer_to(request, Done)
        ((error, _),) = twin.heard
        assert isinstance(error, Error)
        assert (error.code, error.fatal) == ("session_ended", True)
        assert (asker.known, twin.known, other.known) == (False, False, True)

    def test_revoking_another_token_leaves_the_asker(self) -> None:
        world = World.ready()
        asker, other = world.log_in("ann"), world.log_in("ann")
        asker.ask(Revoke(id=asker.next_id(), op=OP, token=token_of(other)), Done)
        assert (asker.known, other.known) == (True, False)

    def test_revoking_ones_own_is_logging_out(self) -> None:
        world = World.ready()
        asker = world.log_in("ann")
        asker.ask(Revoke(id=asker.next_id(), op=OP, token=token_of(asker)), Done)
        assert not asker.known

    def test_a_refused_revocation_ends_nothing(self) -> None:
        world = World.ready()
        asker = world.log_in("ann")
        request = asker.say(Revoke(id=asker.next_id(), op=OP, token=99))
        ask, _ = world.auth.asked(auth_link.EndToken)
        world.auth.tell(ask, auth_link.Refused(code="unknown_token"))
        assert asker.refusal(request) == "unknown_token"
        assert asker.known

    def test_a_new_password_ends_every_other_session_before_it_is_answered(self) -> None:
        world = World.ready()
        asker, other = world.log_in("ann"), world.log_in("ann")
        bystander = world.log_in("bob")
        old = token_of(asker)
        request = asker.say(Passwd(id=asker.next_id(), op=OP, old="right", new="new"))
        ask, _ = world.auth.asked(auth_link.ChangePassword)
        actions = world.auth.tell(ask)
        told = [(action.routing_id, type(action.envelope)) for action in actions if isinstance(action, Reply)]
        assert told == [(other.peer.routing_id, Error), (asker.peer.routing_id, LoggedIn)]
        assert asker.answer_to(request, LoggedIn).token is not None
        assert token_of(asker) != old
        assert (asker.known, other.known, bystander.known) == (True, False, True)
        world.assert_at_rest()

    def test_a_new_password_ends_the_sessions_of_tokens_whose_end_is_not_heard_of_yet(self) -> None:
        """Their logout was done by another worker, so the change finds no such token; its answer is on its way."""
        world = World.ready()
        leaving, asker = world.log_in("ann"), world.log_in("ann")
        logout = leaving.say(Logout(id=leaving.next_id(), op=an_id(1)))
        passwd = asker.say(Passwd(id=asker.next_id(), op=OP, old="right", new="new"))
        done, changed = world.auth.workers[b"worker-1"].take()
        ended, made = world.auth.outcome(done.question), world.auth.outcome(changed.question)
        assert isinstance(made, auth_link.TokenMade)
        world.auth.tell(changed, replace(made, ended=[]))
        assert not leaving.known
        asker.answer_to(passwd, LoggedIn)
        world.auth.tell(done, ended)
        assert asker.known
        assert leaving.waits_for(logout)

    def test_wrong_old_passwords_are_counted_as_logins_are(self) -> None:
        world = World.ready()
        client = world.log_in("ann")
        codes = []
        for _ in range(limits.LOGIN_FAILURES_MAX + 1):
            request = client.say(Passwd(id=client.next_id(), op=OP, old="wrong", new="new"))
            for ask in world.auth.workers[b"worker-1"].take():
                world.auth.tell(ask, auth_link.Refused(code="wrong_credentials"))
            codes.append(client.refusal(request))
        assert codes == ["wrong_credentials"] * limits.LOGIN_FAILURES_MAX + ["rate_limited"]

    def test_a_token_found_good_just_before_it_ended_is_refused(self) -> None:
        """Two workers, two answers: the later one was true when it was given."""
        world = World.ready()
        owner = world.log_in("ann")
        token = world.auth.new_token("ann")
        late = world.greet()
        request = late.say(Resume(id=late.next_id(), token=token))
        ask, _ = world.auth.asked(auth_link.UseToken)
        owner.ask(Revoke(id=owner.next_id(), op=OP, token=world.auth.tokens[token][1]), Done)
        world.auth.tell(ask)
        assert late.refusal(request) == "bad_token"
        assert late.session.account == 0
        world.assert_at_rest()

    def test_of_two_changes_answered_in_the_wrong_order_the_later_stands(self) -> None:
        world = World.ready()
        client = world.log_in("ann")
        requests = [client.say(Passwd(id=client.next_id(), op=an_id(n), old="right", new="new")) for n in (1, 2)]
        first, second = world.auth.workers[b"worker-1"].take()
        made = [world.auth.outcome(ask.question) for ask in (first, second)]
        world.auth.tell(second, made[1])
        world.auth.tell(first, made[0])
        stands = client.answer_to(requests[1], LoggedIn)
        assert stands.token is not None
        assert token_of(client) == world.auth.tokens[stands.token][1]
        assert client.refusal(requests[0]) == "bad_token"
        world.assert_at_rest()

    def test_open_sessions_are_held_against_the_accounts_every_minute(self) -> None:
        world = World.ready()
        ann, bob = world.log_in("ann"), world.log_in("bob")
        world.wait(limits.SESSION_CHECK_S + 1)
        ask, question = world.auth.asked(auth_link.CheckTokens)
        assert question.token_ids == sorted({token_of(ann), token_of(bob)})
        world.auth.tell(ask, auth_link.TokensEnded(ended=[token_of(ann)]))
        assert (ann.known, bob.known) == (False, True)
        ((error, _),) = ann.heard
        assert isinstance(error, Error)
        assert error.code == "session_ended"
        world.assert_at_rest()

    def test_a_check_that_fails_ends_nothing(self) -> None:
        world = World.ready()
        ann = world.log_in("ann")
        world.wait(limits.SESSION_CHECK_S + 1)
        ask, _ = world.auth.asked(auth_link.CheckTokens)
        world.auth.tell(ask, auth_link.Refused(code="internal"))
        assert ann.known

    def test_many_are_checked_in_portions(self) -> None:
        world = World.ready()
        for _ in range(CHECKED_AT_ONCE + 1):
            world.log_in("ann")
        world.wait(limits.SESSION_CHECK_S + 1)
        questions = [ask.question for ask in world.auth.workers[b"worker-1"].take()]
        sizes = [len(question.token_ids) for question in questions if isinstance(question, auth_link.CheckTokens)]
        assert sizes == [CHECKED_AT_ONCE, 1]

    def test_what_ended_long_ago_is_forgotten(self) -> None:
        world = World.ready()
        asker = world.log_in("ann")
        asker.ask(Logout(id=asker.next_id(), op=OP), Done)
        assert world.broker._accounts._ended
        world.wait(4 * limits.SESSION_CHECK_S)
        assert not world.broker._accounts._ended


class TestLookingUp:
    def test_names_that_have_an_account_in_the_order_asked(self) -> None:
        world = World.ready()
        for name in ("bob", "eve"):
            world.auth.account(name)
        client = world.log_in("ann")
        names = ["nobody", "Eve", "bob", "ß" * limits.NAME_CHARS_MAX]
        found = client.ask(Lookup(id=client.next_id(), names=names), Found)
        assert found.names == ["eve", "bob"]
        world.assert_at_rest()


@pytest.mark.parametrize("code", ["unavailable", "busy", "internal"])
def test_a_failed_question_is_passed_on_and_nothing_stays_counted(code: str) -> None:
    world = World.ready()
    client = world.log_in("ann")
    requests: list[envelopes.ToBroker] = [
        Tokens(id=91),
        Lookup(id=92, names=["bob"]),
        Revoke(id=93, op=OP, token=5),
        Passwd(id=94, op=OP, old="right", new="new"),
    ]
    for number, request in enumerate(requests, start=91):
        client.say(request)
        (ask,) = world.auth.workers[b"worker-1"].take()
        world.auth.tell(ask, auth_link.Refused(code=code))
        assert client.refusal(number) == code
    assert client.known
    world.assert_at_rest()
