"""The worker's side of the link, in memory: what it says, when, and what becomes of what it holds."""

from __future__ import annotations

import pytest

from auth_service.core import (
    LEAVE_S,
    Abandon,
    Action,
    Connect,
    Core,
    Due,
    End,
    Event,
    Finished,
    Garbled,
    Heard,
    Note,
    Say,
    Stopped,
    Work,
)
from restante.wire.auth_link import Ask, Beat, Leaving, Ready, Refused, TokensEnded, Told, UseToken, Who
from restante.wire.limits import LINK_BEAT_S, LINK_SILENCE_S_MAX

QUESTION = UseToken(token=bytes(32))
OUTCOME = TokensEnded(ended=[1])
READY = Say(Ready(worker=b"w" * 16, capacity=2))
BEAT = Heard(Beat())


class Bench:
    """A core and its clock. What it notes for the log is left out."""

    def __init__(self) -> None:
        self.now = 100.0
        self.core = Core(b"w" * 16, self.now, capacity=2)

    def handle(self, event: Event) -> list[Action]:
        return [action for action in self.core.handle(event, self.now) if not isinstance(action, Note)]

    def wait(self) -> list[Action]:
        """Let time pass to the next deadline, and what was due be done."""
        deadline = self.core.next_deadline()
        assert deadline is not None
        assert deadline >= self.now
        self.now = deadline
        return self.handle(Due())

    def ask(self, n: int) -> list[Action]:
        return self.handle(Heard(Ask(n=n, question=QUESTION)))


@pytest.fixture
def fresh() -> Bench:
    return Bench()


@pytest.fixture
def linked(fresh: Bench) -> Bench:
    """A bench whose broker has answered."""
    fresh.wait()
    fresh.handle(BEAT)
    return fresh


def told(n: int) -> Say:
    return Say(Told(n=n, outcome=OUTCOME))


def test_it_begins_at_once_by_saying_that_it_is_ready(fresh: Bench) -> None:
    assert fresh.core.next_deadline() == fresh.now
    assert fresh.wait() == [Connect(), READY]


def test_a_question_becomes_a_job_and_its_end_the_answer(linked: Bench) -> None:
    assert linked.ask(71) == [Work(1, QUESTION)]
    assert linked.handle(Finished(1, OUTCOME)) == [told(71)]


def test_answers_go_out_in_the_order_in_which_they_are_found(linked: Bench) -> None:
    linked.ask(71)
    linked.ask(72)
    assert linked.handle(Finished(2, OUTCOME)) == [told(72)]
    assert linked.handle(Finished(1, OUTCOME)) == [told(71)]


def test_what_is_beyond_its_capacity_is_refused_and_not_kept(linked: Bench) -> None:
    linked.ask(71)
    linked.ask(72)
    (say,) = linked.ask(73)
    assert isinstance(say, Say)
    assert isinstance(say.header, Told)
    assert isinstance(say.header.outcome, Refused)
    assert (say.header.n, say.header.outcome.code) == (73, "busy")
    linked.handle(Finished(1, OUTCOME))
    assert linked.ask(74) == [Work(3, QUESTION)]


class TestSignsOfLife:
    def test_it_beats_when_it_has_said_nothing_for_a_beat(self, linked: Bench) -> None:
        said_at = linked.now
        assert linked.wait() == [Say(Beat())]
        assert linked.now == said_at + LINK_BEAT_S

    def test_an_answer_is_a_sign_of_life_too(self, linked: Bench) -> None:
        linked.ask(71)
        linked.now += LINK_BEAT_S / 2
        linked.handle(Finished(1, OUTCOME))
        assert linked.core.next_deadline() == linked.now + LINK_BEAT_S

    def test_while_the_broker_beats_it_is_not_called_anew(self, linked: Bench) -> None:
        until = linked.now + 3 * LINK_SILENCE_S_MAX
        while linked.now < until:
            assert linked.wait() == [Say(Beat())]
            linked.handle(BEAT)

    def test_a_silent_broker_is_called_anew_over_a_new_link(self, linked: Bench) -> None:
        heard_at = linked.now
        actions = until_called(linked)
        assert linked.now == heard_at + LINK_SILENCE_S_MAX
        assert actions == [Connect(), READY]

    def test_a_broker_that_never_answers_is_called_once_a_silence_and_sent_nothing_else(self, fresh: Bench) -> None:
        begun_at, done = fresh.now, []
        while fresh.now <= begun_at + 3 * LINK_SILENCE_S_MAX:
            done += [(fresh.now - begun_at, action) for action in fresh.wait()]
        called_at = [times * LINK_SILENCE_S_MAX for times in range(4)]
        assert done == [(at, action) for at in called_at for action in (Connect(), READY)]

    def test_what_is_no_envelope_is_none(self, linked: Bench) -> None:
        heard_at = linked.now
        linked.wait()
        assert linked.handle(Garbled("bad_frame", "why")) == []
        until_called(linked)
        assert linked.now == heard_at + LINK_SILENCE_S_MAX

    def test_losing_and_finding_the_broker_is_noted_once_each(self, linked: Bench) -> None:
        notes: list[Action] = []
        events: list[Event] = [*[Due()] * 40, *[BEAT] * 3]
        for event in events:
            linked.now += LINK_BEAT_S
            notes += [action for action in linked.core.handle(event, linked.now) if isinstance(action, Note)]
        assert notes == [Note("the broker is silent, calling it anew"), Note("the broker answers", trouble=False)]


class TestAnotherBroker:
    """A broker that restarts counts its questions from the start: its numbers are not its predecessor's."""

    def test_who_is_answered_ready_and_what_was_held_is_never_told(self, linked: Bench) -> None:
        linked.ask(1)
        assert linked.handle(Heard(Who())) == [Abandon(1), READY]
        assert linked.ask(1) == [Work(2, QUESTION)]
        assert linked.handle(Finished(1, OUTCOME)) == []
        assert linked.handle(Finished(2, TokensEnded(ended=[2]))) == [Say(Told(n=1, outcome=TokensEnded(ended=[2])))]

    def test_after_a_silence_too(self, linked: Bench) -> None:
        linked.ask(1)
        assert until_called(linked) == [Abandon(1), Connect(), READY]
        assert linked.handle(Finished(1, OUTCOME)) == []

    def test_what_was_abandoned_takes_no_room(self, linked: Bench) -> None:
        linked.ask(1)
        linked.ask(2)
        linked.handle(Heard(Who()))
        assert linked.ask(1) == [Work(3, QUESTION)]


class TestStopping:
    def test_it_says_so_answers_what_it_holds_and_ends(self, linked: Bench) -> None:
        linked.ask(71)
        assert linked.handle(Stopped()) == [Say(Leaving())]
        assert linked.wait() == [Say(Beat())], "a slow answer is not taken for a death"
        assert linked.handle(Finished(1, OUTCOME)) == [told(71)]
        ended_at = linked.now + LEAVE_S
        assert linked.wait() == [End()]
        assert linked.now == ended_at

    def test_with_nothing_in_hand_it_ends_when_what_it_said_has_gone_out(self, linked: Bench) -> None:
        linked.handle(Stopped())
        stopped_at = linked.now
        assert linked.wait() == [End()]
        assert linked.now == stopped_at + LEAVE_S

    def test_what_was_asked_before_the_broker_knew_is_answered(self, linked: Bench) -> None:
        linked.handle(Stopped())
        assert linked.ask(72) == [Work(1, QUESTION)]
        linked.now += 10 * LEAVE_S
        linked.handle(BEAT)
        assert End() not in linked.handle(Due())
        assert linked.handle(Finished(1, OUTCOME)) == [told(72)]
        assert linked.wait() == [End()]

    def test_a_broker_that_does_not_know_it_is_left_without_a_word(self, linked: Bench) -> None:
        linked.ask(71)
        linked.handle(Stopped())
        assert linked.handle(Heard(Who())) == [Abandon(1)]
        assert linked.wait() == [End()]

    def test_a_silent_broker_is_not_waited_for(self, linked: Bench) -> None:
        linked.ask(71)
        linked.handle(Stopped())
        assert until_called(linked) == [Abandon(1), End()]

    def test_before_the_broker_was_ever_there_it_just_ends(self, fresh: Bench) -> None:
        fresh.wait()
        fresh.handle(Stopped())
        assert fresh.wait() == [End()]


def until_called(bench: Bench) -> list[Action]:
    """What is done when the broker is taken for gone."""
    for _ in range(100):
        actions = bench.wait()
        if actions not in ([], [Say(Beat())]):
            return actions
    raise AssertionError("the broker is never called")
