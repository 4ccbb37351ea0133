"""The session's life: connecting, logging in, asking, losing the connection, giving up."""

from __future__ import annotations

import math

import pytest

from restante import events
from restante.dialling import BACKOFF_S_MAX, HANDSHAKE_S, WRONG_KEY_S
from restante.heartbeat import DEAF_S
from restante.session import ANSWER_S_MAX, Stage
from restante.wire import envelopes, errors
from restante.wire.envelopes import (
    Account,
    Done,
    Error,
    Fetch,
    Hello,
    LoggedIn,
    Login,
    Logout,
    Overview,
    Passwd,
    Ping,
    Pong,
    Register,
    Registered,
    Resume,
    Welcome,
)  # fmt: skip
from tests.unit.restante.playing import NAME, TOKEN, Play, ready

OP = b"o" * 16
OVERVIEW = Overview(id=1)
LOGIN = Login(id=1, op=OP, name=NAME, password="correct horse")


def account(request: envelopes.Request) -> Account:
    return Account(id=request.id, account=1, name=NAME, unread=0, total=0)


class TestConnecting:
    def test_nothing_connects_before_something_is_wanted(self) -> None:
        play = Play()
        play.pass_time(1_000)
        assert play.connections == []
        assert play.session.next_deadline() is None

    def test_hello_then_resume_then_what_was_asked(self) -> None:
        play = Play()
        play.ask(1, OVERVIEW)
        assert [type(header) for header in play.sent] == [Hello]
        play.welcome()
        assert [type(header) for header in play.sent] == [Hello, Resume]
        play.answer(LoggedIn(id=play.last(Resume).id, account=7, name=NAME, expires_at_us=1))
        assert [type(header) for header in play.sent] == [Hello, Resume, Overview]
        play.answer(account(play.last(Overview)))
        assert isinstance(play.told[1], Account)

    def test_what_needs_no_account_uses_no_token(self) -> None:
        play = Play()
        play.ask(1, Hello(id=1))
        play.ask(2, Register(id=1, op=OP, name="bob", password="correct horse"))
        play.welcome()
        assert [type(header) for header in play.sent] == [Hello, Register]
        assert isinstance(play.told[1], Welcome)

    def test_request_ids_are_never_used_twice(self) -> None:
        play = ready()
        for ticket in range(1, 5):
            play.ask(ticket, OVERVIEW)
        play.lose()
        play.pass_time(1)
        play.let_in()
        ids = [header.id for header in play.sent if isinstance(header, envelopes.Request)]
        assert len(set(ids)) == len(ids) == 4 + 2 + 4

    def test_without_welcome_it_tries_again(self) -> None:
        play = Play()
        play.ask(1, OVERVIEW)
        play.pass_time(HANDSHAKE_S + 0.1)
        assert len(play.connections) == 2

    def test_waits_double_up_to_a_bound(self) -> None:
        play = Play()
        play.ask(1, OVERVIEW, timeout_s=100)
        while 1 not in play.told:
            play.pass_time(0.01)
            if play.connected:
                play.lose("connection refused")
        waits = [after - before for before, after in zip(play.connections, play.connections[1:], strict=False)]
        assert waits[0] < 0.1
        assert 20 < len(waits) < 60
        assert max(waits) <= BACKOFF_S_MAX + 0.02
        assert min(waits[-5:]) >= BACKOFF_S_MAX / 2

    def test_a_server_that_is_full_is_asked_again_when_it_said(self) -> None:
        play = Play()
        play.ask(1, OVERVIEW)
        play.refuse(play.last(Hello), "busy", wait_s=4)
        play.pass_time(3.9)
        assert len(play.connections) == 1
        play.pass_time(1.2)
        assert len(play.connections) == 2

    def test_another_version_is_the_end_at_once(self) -> None:
        play = Play()
        play.ask(1, OVERVIEW)
        play.refuse(play.last(Hello), "unsupported_version", fatal=True)
        assert isinstance(play.told[1], errors.UnsupportedVersion)

    def test_hello_on_a_greeted_session_greets_anew(self) -> None:
        play = ready()
        play.ask(1, Hello(id=1))
        assert len(play.connections) == 2
        play.welcome()
        assert isinstance(play.told[1], Welcome)

    def test_what_comes_on_an_older_connection_is_nothing(self) -> None:
        play = Play()
        play.ask(1, OVERVIEW)
        hello = play.last(Hello)
        play.lose()
        play.pass_time(1)
        play.feed(events.Received(1, Welcome(id=hello.id, version=1, server="s", heartbeat_ms=1)))
        play.feed(events.Lost(1, "late news"))
        play.feed(events.Received(1, Error(code="session_ended", fatal=True)))
        assert play.session.stage is Stage.GREETING
        assert len(play.connections) == 2


class TestUnreachable:
    def test_a_request_that_never_went_is_unreachable_and_says_why(self) -> None:
        play = Play()
        play.ask(1, OVERVIEW, timeout_s=5)
        play.lose("connection refused")
        play.pass_time(5)
        error = play.told[1]
        assert isinstance(error, errors.UnreachableError)
        assert "server:5570" in str(error)
        assert "connection refused" in str(error)
        assert play.told_at[1] == pytest.approx(1_005.0)

    def test_afterwards_it_rests(self) -> None:
        play = Play()
        play.ask(1, OVERVIEW, timeout_s=5)
        play.lose("connection refused")
        play.pass_time(60)
        count = len(play.connections)
        play.pass_time(600)
        assert len(play.connections) == count

    def test_handshakes_that_keep_failing_are_a_wrong_key(self) -> None:
        play = Play()
        play.ask(1, OVERVIEW)
        while 1 not in play.told:
            if play.connected:
                play.lose("the secure handshake failed", handshake=True)
            play.pass_time(0.01)
        assert isinstance(play.told[1], errors.WrongServerKey)
        assert WRONG_KEY_S <= play.now - 1_000 < 5

    def test_one_failed_handshake_is_not(self) -> None:
        play = Play()
        play.ask(1, OVERVIEW)
        play.lose("the secure handshake failed", handshake=True)
        play.pass_time(0.5)
        play.let_in()
        play.answer(account(play.last(Overview)))
        assert isinstance(play.told[1], Account)

    def test_a_key_that_was_right_does_not_become_wrong(self) -> None:
        play = ready()
        play.lose()
        play.ask(1, OVERVIEW, timeout_s=8)
        while 1 not in play.told:
            if play.connected:
                play.lose("the secure handshake failed", handshake=True)
            play.pass_time(0.01)
        assert isinstance(play.told[1], errors.UnreachableError)
        assert not isinstance(play.told[1], errors.WrongServerKey)


class TestLosingTheConnection:
    def test_requests_go_again_as_they_were(self) -> None:
        play = ready()
        change = Passwd(id=1, op=OP, old="correct horse", new="battery staple")
        play.ask(1, change)
        play.lose()
        play.pass_time(1)
        play.let_in()
        again = play.all(Passwd)
        assert len(again) == 2
        assert again[0].op == again[1].op == OP

    def test_a_change_in_doubt_says_so_when_time_is_up(self) -> None:
        play = ready()
        play.ask(1, Logout(id=1, op=OP), timeout_s=5)
        play.lose()
        play.pass_time(6)
        assert isinstance(play.told[1], errors.OutcomeUnknown)

    def test_a_read_in_doubt_has_changed_nothing(self) -> None:
        play = ready()
        play.ask(1, Fetch(id=1), timeout_s=5)
        play.pass_time(6)
        assert isinstance(play.told[1], errors.UnreachableError)

    def test_forgotten_by_the_broker_it_comes_back_unnoticed(self) -> None:
        play = ready()
        play.now += 3_600  # nobody called, so nobody ticked: a blocking client between two calls
        play.ask(1, OVERVIEW)
        play.refuse(play.last(Overview), "no_session", fatal=True)
        play.pass_time(1)
        play.let_in()
        play.answer(account(play.last(Overview)))
        assert isinstance(play.told[1], Account)

    def test_a_lost_session_that_wants_nothing_stays_away(self) -> None:
        play = ready()
        play.lose()
        play.pass_time(3_600)
        assert len(play.connections) == 1

    def test_an_answer_that_does_not_come_ends_the_connection(self) -> None:
        play = ready()
        play.ask(1, OVERVIEW, timeout_s=1_000)
        play.pass_time(ANSWER_S_MAX - 1)
        assert len(play.connections) == 1
        play.pass_time(2)
        assert len(play.connections) == 2

    def test_short_calls_into_the_void_do_not_go_on_for_ever(self) -> None:
        """Half-open: the other end is gone, and nobody told us. No call is patient enough for `ANSWER_S_MAX`."""
        play = ready()
        for ticket in range(1, 20):
            play.ask(ticket, OVERVIEW, timeout_s=2)
            play.pass_time(2.2)
            if len(play.connections) == 2:
                break
        assert len(play.connections) == 2
        assert play.now - 1_000 < 3 * DEAF_S

    def test_a_call_that_ran_out_of_time_leaves_a_connection_that_speaks_alone(self) -> None:
        play = ready()
        play.ask(1, OVERVIEW, timeout_s=DEAF_S + 5)
        play.ask(2, OVERVIEW)
        play.pass_time(DEAF_S)
        play.answer(account(play.all(Overview)[1]))
        play.pass_time(6)
        assert isinstance(play.told[1], errors.UnreachableError)
        assert len(play.connections) == 1

    def test_an_answer_that_is_there_counts_however_late_it_is_read(self) -> None:
        play = ready()
        play.ask(1, OVERVIEW)
        play.ask(2, OVERVIEW)
        play.now += 3_600  # the process was stopped; both answers wait in the socket
        first, second = play.all(Overview)
        play.answer(account(first))
        play.answer(account(second))
        assert isinstance(play.told[2], Account)

    def test_what_is_abandoned_is_not_asked_again(self) -> None:
        play = ready()
        play.ask(1, OVERVIEW)
        play.feed(events.Abandoned(1))
        play.lose()
        play.pass_time(100)
        assert len(play.connections) == 1
        assert 1 not in play.told


class TestKeepingAlive:
    def test_a_quiet_session_pings(self) -> None:
        play = ready()
        play.pass_time(29)
        assert play.all(Ping) == []
        play.pass_time(2)
        assert len(play.all(Ping)) == 1
        play.answer(Pong(id=play.last(Ping).id))
        play.pass_time(30.5)
        assert len(play.all(Ping)) == 2

    def test_traffic_is_as_good_as_a_ping(self) -> None:
        play = ready()
        for ticket in range(1, 5):
            play.pass_time(20)
            play.ask(ticket, OVERVIEW)
            play.answer(account(play.last(Overview)))
        assert play.all(Ping) == []

    def test_a_ping_unanswered_for_two_beats_ends_the_connection(self) -> None:
        play = ready()
        play.feed(events.Followed(1))
        play.answer(envelopes.Subscribed(id=play.last(envelopes.Subscribe).id, sub=1, history=OP))
        play.pass_time(30 + 59)
        assert len(play.connections) == 1
        play.pass_time(2)
        assert len(play.connections) == 2


class TestRefusals:
    def test_busy_is_repeated_after_the_time_it_says(self) -> None:
        play = ready()
        play.ask(1, OVERVIEW)
        play.refuse(play.last(Overview), "busy", wait_s=2)
        play.pass_time(1.9)
        assert len(play.all(Overview)) == 1
        play.pass_time(0.7)
        assert len(play.all(Overview)) == 2

    def test_a_wait_that_is_too_long_is_told_at_once(self) -> None:
        play = Play(token=None)
        play.ask(1, LOGIN)
        play.welcome()
        play.refuse(play.last(Login), "rate_limited", wait_s=60)
        error = play.told[1]
        assert isinstance(error, errors.RateLimited)
        assert error.retry_after_s == 60

    def test_the_last_refusal_is_what_is_told_when_time_is_up(self) -> None:
        play = ready()
        play.ask(1, OVERVIEW, timeout_s=5)
        for _ in range(4):
            if 1 not in play.told:
                play.refuse(play.last(Overview), "unavailable", wait_s=2)
                play.pass_time(2.6)
        assert isinstance(play.told[1], errors.Unavailable)

    def test_what_is_final_is_told(self) -> None:
        play = ready()
        play.ask(1, Passwd(id=1, op=OP, old="wrong horse", new="battery staple"))
        play.refuse(play.last(Passwd), "wrong_credentials")
        assert isinstance(play.told[1], errors.WrongCredentials)

    def test_a_code_of_the_future_is_told_too(self) -> None:
        play = ready()
        play.ask(1, OVERVIEW)
        play.refuse(play.last(Overview), "too_tired")
        error = play.told[1]
        assert isinstance(error, errors.RefusedError)
        assert error.refused_code == "too_tired"

    def test_no_more_requests_are_out_than_the_server_takes(self) -> None:
        play = Play()
        play.limits = envelopes.Limits(requests_in_flight=10)
        for ticket in range(1, 31):
            play.ask(ticket, OVERVIEW)
        play.let_in()
        assert len(play.all(Overview)) == 2  # eight places are the stream's
        while len(play.told) < 30:
            play.answer(account(play.all(Overview)[len(play.told)]))
        assert len(play.all(Overview)) == 30


class TestAccounts:
    def test_login_brings_a_token_that_is_kept(self) -> None:
        play = Play(token=None)
        play.ask(1, LOGIN)
        play.welcome()
        play.answer(LoggedIn(id=play.last(Login).id, account=3, name=NAME, expires_at_us=1, token=b"n" * 32))
        assert play.session.token == b"n" * 32
        play.lose()
        play.ask(2, OVERVIEW)
        play.pass_time(1)
        play.welcome()
        assert play.last(Resume).token == b"n" * 32

    def test_without_token_nothing_is_sent_that_needs_an_account(self) -> None:
        play = Play(token=None)
        play.ask(1, OVERVIEW)
        play.submit([2])
        play.feed(events.AckRequested(3, [1], [], True, math.inf))
        play.feed(events.Followed(1))
        assert all(isinstance(play.told[ticket], errors.NotLoggedIn) for ticket in (1, 2, 3))
        assert isinstance(play.ended[0], errors.NotLoggedIn)
        assert play.connections == []

    def test_what_waits_for_a_login_fails_with_it(self) -> None:
        play = Play(token=None)
        play.ask(1, LOGIN)
        play.submit([2])
        play.welcome()
        play.refuse(play.last(Login), "wrong_credentials")
        assert isinstance(play.told[1], errors.WrongCredentials)
        assert isinstance(play.told[2], errors.NotLoggedIn)

    def test_a_dead_token_fails_everything_that_needs_it(self) -> None:
        play = Play()
        play.ask(1, OVERVIEW)
        play.submit([2])
        play.welcome()
        play.refuse(play.last(Resume), "bad_token")
        play.ask(3, OVERVIEW)
        assert all(isinstance(play.told[ticket], errors.BadToken) for ticket in (1, 2, 3))
        assert play.session.token is None

    def test_a_session_that_is_ended_from_elsewhere_learns_it_by_its_token(self) -> None:
        play = ready()
        play.feed(events.Followed(1))
        play.answer(Error(code="session_ended", text="the password was changed", fatal=True))
        play.pass_time(1)
        play.welcome()
        play.refuse(play.last(Resume), "bad_token")
        assert isinstance(play.ended[0], errors.BadToken)

    def test_login_as_somebody_else_begins_a_connection_of_its_own(self) -> None:
        play = ready()
        play.ask(1, LOGIN)
        assert len(play.connections) == 2
        play.welcome()
        assert play.all(Resume) == []
        play.answer(LoggedIn(id=play.last(Login).id, account=3, name="bob", expires_at_us=1, token=b"n" * 32))
        assert play.session.identity is not None
        assert play.session.identity.name == "bob"

    @pytest.mark.parametrize("given_up", ["its time was up", "it was abandoned"])
    def test_a_login_that_comes_through_too_late_leaves_no_account_behind(self, given_up: str) -> None:
        play = Play(token=None)
        play.ask(1, LOGIN, timeout_s=3.0)
        play.welcome()
        late = LoggedIn(id=play.last(Login).id, account=3, name=NAME, expires_at_us=1, token=b"n" * 32)
        if given_up == "it was abandoned":
            play.feed(events.Abandoned(1))
        else:
            play.pass_time(4.0)
        play.ask(2, LOGIN)
        play.answer(late)
        play.pass_time(1.0)
        assert len(play.connections) == 2
        play.welcome()
        play.answer(LoggedIn(id=play.last(Login).id, account=3, name=NAME, expires_at_us=1, token=b"n" * 32))
        assert isinstance(play.told[2], LoggedIn)

    def test_login_waits_for_nobody_elses_messages(self) -> None:
        play = ready()
        play.submit([1])
        play.ask(2, LOGIN)
        assert isinstance(play.told[2], errors.AlreadyLoggedIn)

    def test_logout_forgets_the_token_and_the_connection(self) -> None:
        play = ready()
        play.ask(1, Logout(id=1, op=OP))
        play.answer(Done(id=play.last(Logout).id))
        assert isinstance(play.told[1], Done)
        assert play.session.token is None
        assert not play.connected

    def test_a_logout_whose_answer_was_lost_has_happened_if_the_token_is_dead(self) -> None:
        play = ready()
        play.ask(1, Logout(id=1, op=OP))
        play.lose()
        play.pass_time(1)
        play.welcome()
        play.refuse(play.last(Resume), "bad_token")
        assert isinstance(play.told[1], Done)

    def test_a_passwd_whose_answer_was_lost_logs_in_with_the_new_password(self) -> None:
        play = ready()
        play.ask(1, Passwd(id=1, op=OP, old="correct horse", new="battery staple"))
        play.lose()
        play.pass_time(1)
        play.welcome()
        play.refuse(play.last(Resume), "bad_token")
        login = play.last(Login)
        assert (login.name, login.password) == (NAME, "battery staple")
        play.answer(LoggedIn(id=login.id, account=1, name=NAME, expires_at_us=1, token=b"n" * 32))
        assert isinstance(play.told[1], LoggedIn)
        assert play.session.token == b"n" * 32

    def test_who_waits_to_be_somebody_is_told_who(self) -> None:
        play = Play()
        play.ask(1, Resume(id=1, token=TOKEN))
        play.let_in()
        play.ask(2, Resume(id=1, token=TOKEN))
        for ticket in (1, 2):
            identity = play.told[ticket]
            assert isinstance(identity, LoggedIn)
            assert identity.account == 1
        assert len(play.all(Resume)) == 1

    def test_a_registration_is_answered_on_a_session_without_account(self) -> None:
        play = Play(token=None)
        play.ask(1, Register(id=1, op=OP, name="bob", password="correct horse"))
        play.welcome()
        play.answer(Registered(id=play.last(Register).id, account=2, name="bob"))
        assert isinstance(play.told[1], Registered)


class TestAcknowledging:
    @staticmethod
    def ack(play: Play, ticket: int, seqs: list[int], *, read: bool = True, timeout_s: float = 30.0) -> None:
        play.feed(events.AckRequested(ticket, seqs, [], read, play.now + timeout_s))

    def test_the_first_goes_at_once_and_what_waits_goes_together(self) -> None:
        play = ready()
        for ticket in range(1, 6):
            self.ack(play, ticket, [ticket])
        (first,) = play.all(envelopes.Ack)
        assert first.seqs == [1]
        play.answer(envelopes.Acked(id=first.id, changed=1))
        second = play.last(envelopes.Ack)
        assert second.seqs == [2, 3, 4, 5]
        play.answer(envelopes.Acked(id=second.id, changed=3, unknown_seqs=[4]))
        unknown = {
            ticket: answer.unknown_seqs
            for ticket in range(1, 6)
            if isinstance(answer := play.told[ticket], envelopes.Acked)
        }
        assert unknown == {1: [], 2: [], 3: [], 4: [4], 5: []}

    def test_read_and_unread_do_not_mix_and_keep_their_order(self) -> None:
        play = ready()
        self.ack(play, 1, [1])
        self.ack(play, 2, [2])
        self.ack(play, 3, [2], read=False)
        self.ack(play, 4, [3])
        seen = []
        while len(play.told) < 4:
            ack = play.last(envelopes.Ack)
            seen.append((ack.seqs, ack.read))
            play.answer(envelopes.Acked(id=ack.id))
        assert seen == [([1], True), ([2], True), ([2], False), ([3], True)]

    def test_no_request_is_larger_than_the_server_takes(self) -> None:
        play = Play()
        play.limits = envelopes.Limits(acks_per_request=3)
        for ticket in range(1, 8):
            self.ack(play, ticket, [ticket])
        play.let_in()
        sizes = []
        while len(play.told) < 7:
            ack = play.last(envelopes.Ack)
            sizes.append(len(ack.seqs))
            play.answer(envelopes.Acked(id=ack.id))
        assert sizes == [3, 3, 1]

    def test_one_whose_time_is_up_does_not_take_the_others_with_it(self) -> None:
        play = ready()
        self.ack(play, 1, [1])
        self.ack(play, 2, [2], timeout_s=DEAF_S - 1)
        self.ack(play, 3, [3], timeout_s=60)
        play.answer(envelopes.Acked(id=play.last(envelopes.Ack).id))
        play.pass_time(DEAF_S - 0.5)
        assert isinstance(play.told[2], errors.OutcomeUnknown)
        assert play.last(envelopes.Ack).seqs == [3]

    def test_one_that_waits_behind_another_has_its_time_too(self) -> None:
        play = ready()
        self.ack(play, 1, [1], timeout_s=40)
        self.ack(play, 2, [2], timeout_s=5)
        play.pass_time(6)
        assert isinstance(play.told[2], errors.UnreachableError)


class TestClosing:
    def test_whoever_waits_is_told(self) -> None:
        play = ready()
        play.submit([1])
        play.ask(2, OVERVIEW)
        play.feed(events.Followed(1))
        play.feed(events.Closed())
        assert isinstance(play.told[1], errors.OutcomeUnknown)
        assert isinstance(play.told[2], errors.UnreachableError)
        assert len(play.ended) == 1
        assert not play.connected
        assert play.session.next_deadline() is None

    def test_what_was_never_sent_is_known_not_to_be(self) -> None:
        play = Play()
        play.submit([1])
        play.feed(events.Closed())
        assert isinstance(play.told[1], errors.UnreachableError)
