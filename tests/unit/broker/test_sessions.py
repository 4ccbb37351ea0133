"""Sessions: bound to id and key, ended by silence, counted; and the one answer that each request gets."""

from __future__ import annotations

import pytest

from broker.events import Action, Peer, Reply
from broker.sessions import RETRY_MS, Session, Sessions, Stage, answer, refuse
from restante.wire import limits
from restante.wire.envelopes import Error, Pong
from restante.wire.errors import CODES

PEER = Peer(b"id", "key", "10.0.0.1")


def test_a_connection_keeps_its_session() -> None:
    sessions = Sessions()
    session, replaced = sessions.of(PEER, now=0.0)
    assert sessions.of(PEER, now=5.0) == (session, None)
    assert (session.heard_at, replaced, len(sessions)) == (5.0, None, 1)


def test_the_same_id_with_another_key_is_somebody_else() -> None:
    sessions = Sessions()
    victim, _ = sessions.of(PEER, now=0.0)
    thief, replaced = sessions.of(Peer(b"id", "other key", "10.0.0.2"), now=1.0)
    assert replaced is victim
    assert thief is not victim
    sessions.remove(victim)
    assert victim.over
    assert sessions.get(b"id") is thief


def test_sessions_are_counted() -> None:
    sessions = Sessions(sessions_max=1)
    sessions.of(PEER, now=0.0)
    assert not sessions.full
    sessions.of(Peer(b"other", "key", ""), now=0.0)
    assert sessions.full


def test_sessions_are_found_by_their_tokens() -> None:
    sessions = Sessions()
    session, _ = sessions.of(PEER, now=0.0)
    session.log_in(account=1, name="ann", token_id=7)
    assert sessions.with_tokens({7, 8}) == [session]
    assert sessions.with_tokens({8}) == []


class TestSilence:
    def test_a_session_ends_after_its_silence(self) -> None:
        session = Session(PEER, now=0.0)
        session.log_in(1, "ann", 7)
        assert not session.expired(session.silence_s)
        assert session.expired(session.silence_s + 0.1)

    def test_a_connection_that_never_logs_in_ends_though_it_talks(self) -> None:
        sessions = Sessions()
        session, _ = sessions.of(PEER, now=0.0)
        sessions.of(PEER, now=limits.GREETING_S_MAX)
        assert sessions.expired(limits.GREETING_S_MAX + 0.1) == [session]

    def test_a_login_under_way_is_waited_for(self) -> None:
        session = Session(PEER, now=0.0)
        session.in_flight = 1
        assert not session.expired(limits.GREETING_S_MAX + 0.1)

    def test_an_ignored_peer_is_ignored_for_as_long_as_it_goes_on(self) -> None:
        sessions = Sessions()
        sessions.ignore(PEER, now=0.0)
        session, _ = sessions.of(PEER, now=100.0)
        assert session.ignored
        assert sessions.expired(100.0 + limits.GREETING_S_MAX) == []
        assert sessions.expired(100.1 + limits.GREETING_S_MAX) == [session]


class TestAnswers:
    def test_an_answer_is_one_request_less_in_flight(self) -> None:
        session, actions = Session(PEER, now=0.0), list[Action]()
        session.in_flight = 2
        answer(session, Pong(id=1), actions)
        refuse(session, 2, "busy", "later", actions)
        assert session.in_flight == 0
        assert actions == [
            Reply(b"id", Pong(id=1)),
            Reply(b"id", Error(id=2, code="busy", text="later", retry_after_ms=RETRY_MS)),
        ]

    def test_a_session_that_is_over_is_told_nothing(self) -> None:
        session, actions = Session(PEER, now=0.0), list[Action]()
        session.stage = Stage.OVER
        answer(session, Pong(id=1), actions)
        refuse(session, 2, "busy", "later", actions)
        assert actions == []

    @pytest.mark.parametrize("code", CODES)
    def test_codes_that_pass_say_when_and_fatal_ones_say_so(self, code: str) -> None:
        session, actions = Session(PEER, now=0.0), list[Action]()
        refuse(session, 1, code, "no", actions)
        (reply,) = actions
        assert isinstance(reply, Reply)
        assert isinstance(reply.envelope, Error)
        assert (reply.envelope.retry_after_ms is not None) is CODES[code].passes
        assert reply.envelope.fatal is CODES[code].fatal

    def test_a_code_of_a_newer_worker_is_passed_on(self) -> None:
        session, actions = Session(PEER, now=0.0), list[Action]()
        refuse(session, 1, "a_code_of_tomorrow", "no", actions)
        assert actions == [Reply(b"id", Error(id=1, code="a_code_of_tomorrow", text="no"))]
