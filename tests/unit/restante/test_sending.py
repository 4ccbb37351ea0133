"""The stream of sends: batching, order, retry, and what is told when time is up."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante import events
from restante.backlog import ENVELOPE_BYTES
from restante.sending import EAGER_ENVELOPES, WINDOW_BYTES, WINDOW_ENVELOPES
from restante.wire import codec, envelopes, errors, limits
from restante.wire.envelopes import Error, LoggedIn, Result, Send, Sent
from tests.unit.restante.playing import NAME, Play, ready, submission, tickets_of

MANY = 10_000


def one_by_one() -> Play:
    """A session whose server takes one message an envelope: each fills one."""
    return ready(envelopes.Limits(messages_per_send=1))


class TestBatching:
    def test_an_idle_session_sends_one_message_at_once(self) -> None:
        play = ready()
        play.submit([1])
        (send,) = play.take_sends()
        assert tickets_of(send) == [1]
        assert play.bodies[-1] == b"1........."

    def test_messages_given_together_travel_together(self) -> None:
        play = ready()
        play.submit(range(1, 301))
        (send,) = play.take_sends()
        assert tickets_of(send) == list(range(1, 301))

    def test_what_waits_goes_together_when_the_window_has_room(self) -> None:
        play = ready()
        play.submit_each(range(1, 101))
        first = play.take_sends()
        assert [tickets_of(send) for send in first] == [[n] for n in range(1, EAGER_ENVELOPES + 1)]
        play.accept(first[0])
        (send,) = play.take_sends()
        assert tickets_of(send) == list(range(EAGER_ENVELOPES + 1, 101))

    def test_full_ones_go_as_far_as_the_window_reaches(self) -> None:
        play = ready()
        full = envelopes.Limits().messages_per_send
        play.submit(range(full * WINDOW_ENVELOPES + 1))
        assert [len(send.messages) for send in play.take_sends()] == [full] * WINDOW_ENVELOPES

    def test_what_is_left_of_many_waits_until_it_fills_one_or_few_are_out(self) -> None:
        play = ready()
        full = envelopes.Limits().messages_per_send
        play.submit(range(full * 3 + 1))
        first, second, third = play.take_sends()
        play.accept(first)
        assert play.take_sends() == []
        play.submit(range(full * 3 + 1, full * 4))
        (fourth,) = play.take_sends()
        assert len(fourth.messages) == full
        play.submit([full * 4])
        for send in (second, third):
            play.accept(send)
        (last,) = play.take_sends()
        assert tickets_of(last) == [full * 4]

    def test_large_contents_fill_one_too(self) -> None:
        play = ready()
        play.submit_each([1, 2])
        play.take_sends()
        play.submit([3], size=ENVELOPE_BYTES - 1)
        assert play.take_sends() == []
        play.submit([4])
        assert [tickets_of(send) for send in play.take_sends()] == [[3]]

    def test_numbers_count_from_one_without_gap(self) -> None:
        play = one_by_one()
        play.submit_each(range(1, 6))
        sends = play.take_sends()
        assert [send.n for send in sends] == [1, 2, 3, 4, 5]
        assert len({send.stream for send in sends}) == 1

    @pytest.mark.parametrize(
        ("bounds", "largest"),
        [
            (envelopes.Limits(messages_per_send=7), 7),
            (envelopes.Limits(recipients_per_send=5), 5),
            (envelopes.Limits(body_bytes=30), 3),
        ],
    )
    def test_no_envelope_is_larger_than_the_server_takes(self, bounds: envelopes.Limits, largest: int) -> None:
        play = Play()
        play.limits = bounds
        play.submit(range(1, 21))
        play.let_in()
        assert {len(send.messages) for send in play.take_sends()[:-1]} == {largest}

    def test_the_largest_messages_make_a_header_that_is_within_its_limit(self) -> None:
        play = ready()
        name = "n" * limits.NAME_CHARS_MAX
        large = submission(range(8_000), size=1, deadline=play.now + 9)
        large.sent_at_us = 2**62
        large.to = [[name] * 10 for _ in large.ids]
        large.content_types = ["c" * limits.CONTENT_TYPE_BYTES_MAX for _ in large.ids]
        large.reply_to = [b"r" * 16 for _ in large.ids]
        play.feed(events.Submitted([large]))
        for send in play.take_sends():
            codec.request_frames(send, b"x")
        assert not play.told

    def test_bytes_in_flight_are_bounded(self) -> None:
        play = ready()
        play.submit(range(1, 41), size=limits.MESSAGE_BYTES_MAX)
        sends = play.take_sends()
        assert all(len(send.messages) == 1 for send in sends)
        assert sum(item.size for send in sends for item in send.messages) <= WINDOW_BYTES

    def test_small_messages_make_no_envelope_larger_than_is_useful(self) -> None:
        play = ready()
        play.submit(range(1, 9), size=ENVELOPE_BYTES // 3)
        first, second = play.take_sends()
        play.accept(first)
        (third,) = play.take_sends()
        assert [len(send.messages) for send in (first, second, third)] == [3, 3, 2]

    def test_each_has_the_time_of_those_it_was_given_with(self) -> None:
        play = Play()
        for ticket, sent_at_us in ((1, 7), (3, 8)):
            given_ = submission([ticket, ticket + 1])
            given_.sent_at_us = sent_at_us
            play.feed(events.Submitted([given_]))
        play.let_in()
        assert [send.sent_at_us for send in play.take_sends()] == [[7, 7, 8, 8]]

    def test_what_was_given_together_travels_apart_where_an_envelope_is_full(self) -> None:
        play = one_by_one()
        play.submit([1, 2, 3])
        for send in play.take_sends():
            play.answer(Sent.of(send.id, [Result(seq=10 * send.n, stored_at_us=send.n)]))
        assert play.told == {n: Result(seq=10 * n, stored_at_us=n) for n in (1, 2, 3)}

    def test_what_this_server_would_not_take_is_refused_alone(self) -> None:
        play = Play()
        play.limits = envelopes.Limits(message_bytes=50)
        play.submit([1])
        play.submit([2], size=51)
        play.submit([3])
        play.let_in()
        assert isinstance(play.told[2], errors.BodyTooLarge)
        assert [tickets_of(send) for send in play.take_sends()] == [[1, 3]]


class TestAnswers:
    def test_each_message_has_its_own_outcome(self) -> None:
        play = ready()
        play.submit([1, 2, 3])
        (send,) = play.take_sends()
        results = [
            Result(seq=5),
            Result(code="unknown_recipient", text="no account is named 'bob'"),
            Result(seq=6, again=True),
        ]
        play.answer(Sent.of(send.id, results))
        assert [play.told[ticket] for ticket in (1, 2, 3)] == results

    def test_answers_may_come_in_any_order(self) -> None:
        play = one_by_one()
        play.submit_each([1, 2, 3])
        for send in reversed(play.take_sends()):
            play.accept(send)
        assert play.accepted() == [3, 2, 1]

    def test_an_answer_that_does_not_fit_ends_the_connection(self) -> None:
        play = ready()
        play.submit([1, 2])
        (send,) = play.take_sends()
        play.answer(Sent.of(send.id, [Result(seq=1)]))
        assert not play.connected
        assert 1 not in play.told


class TestOrder:
    def test_busy_takes_the_whole_envelope_and_its_number_comes_again(self) -> None:
        play = one_by_one()
        play.submit_each([1, 2, 3])
        first, second, third = play.take_sends()
        play.refuse(first, "busy", wait_s=1)
        play.gap(second, 1)
        play.gap(third, 1)
        assert play.take_sends() == []
        play.pass_time(0.9)
        assert play.take_sends() == []
        play.pass_time(0.5)
        again = play.take_sends()
        assert [(send.n, tickets_of(send)) for send in again] == [(1, [1]), (2, [2]), (3, [3])]

    def test_nothing_new_overtakes_what_is_repeated(self) -> None:
        play = ready()
        play.submit([1])
        (first,) = play.take_sends()
        play.refuse(first, "busy", wait_s=1)
        play.submit([2])
        assert play.take_sends() == []
        play.pass_time(2)
        assert [tickets_of(send) for send in play.take_sends()] == [[1], [2]]

    def test_nothing_is_repeated_while_something_is_out(self) -> None:
        play = ready()
        play.submit_each([1, 2])
        first, second = play.take_sends()
        play.refuse(first, "busy", wait_s=0)
        play.pass_time(1)
        assert play.take_sends() == []
        play.gap(second, 1)
        assert [tickets_of(send) for send in play.take_sends()] == [[1], [2]]

    def test_a_gap_goes_back_to_what_is_expected(self) -> None:
        play = ready()
        play.submit_each([1, 2])
        first, second = play.take_sends()
        play.accept(first)
        play.gap(second, 1)  # the broker lost its count, and says so
        assert [send.n for send in play.take_sends()] == [1]

    def test_what_was_accepted_meanwhile_counts_whatever_was_expected_before(self) -> None:
        """As when an envelope that was refused came a second time, and was taken then (simulation seed 41327)."""
        play = one_by_one()
        play.submit_each([1, 2, 3, 4])
        first, second, third, fourth = play.take_sends()
        play.gap(first, 2)
        play.accept(second)
        play.accept(third)
        play.refuse(fourth, "busy", wait_s=0)
        play.pass_time(1)
        assert [(send.n, tickets_of(send)) for send in play.take_sends()] == [(4, [1]), (5, [4])]

    def test_a_broker_that_expects_what_it_gets_does_not_make_it_spin(self) -> None:
        play = ready()
        play.submit([1], timeout_s=10)
        sent = 0
        while 1 not in play.told:
            for send in play.take_sends():
                sent += 1
                play.gap(send, send.n)
            play.pass_time(0.01)
        assert sent < 2_000

    def test_after_a_loss_the_lowest_unanswered_comes_first(self) -> None:
        play = one_by_one()
        play.submit_each([1, 2, 3])
        sends = play.take_sends()
        play.accept(sends[0])
        play.lose()
        play.submit([4])
        play.pass_time(1)
        play.let_in()
        again = play.take_sends()
        assert [(send.n, tickets_of(send)) for send in again] == [(2, [2]), (3, [3]), (4, [4])]
        assert [send.messages for send in again[:2]] == [send.messages for send in sends[1:]]

    def test_a_refusal_for_good_lets_the_others_pass(self) -> None:
        play = ready()
        play.submit_each([1, 2])
        first, second = play.take_sends()
        play.refuse(first, "bad_request")
        play.gap(second, 1)
        assert isinstance(play.told[1], errors.BadRequest)
        assert [(send.n, tickets_of(send)) for send in play.take_sends()] == [(1, [2])]

    def test_after_a_doubtful_refusal_both_halves_are_in_doubt(self) -> None:
        play = ready()
        play.submit([1, 2], timeout_s=3)
        play.refuse(play.take_sends()[0], "internal")
        halves = play.take_sends()
        assert [tickets_of(send) for send in halves] == [[1], [2]]
        play.refuse(halves[0], "busy", wait_s=9)
        assert isinstance(play.told[1], errors.OutcomeUnknown)

    def test_a_message_that_spoils_its_envelope_is_found(self) -> None:
        play = ready()
        play.submit(range(1, 101))
        while len(play.told) < 100:
            for send in play.take_sends():
                if 42 in tickets_of(send):
                    play.refuse(send, "bad_request")
                else:
                    play.accept(send)
        assert isinstance(play.told[42], errors.BadRequest)
        assert len(play.accepted()) == 99


class TestTime:
    def test_what_never_went_is_unreachable(self) -> None:
        play = Play()
        play.submit([1], timeout_s=3)
        play.pass_time(4)
        assert isinstance(play.told[1], errors.UnreachableError)
        assert not isinstance(play.told[1], errors.OutcomeUnknown)

    def test_each_has_an_error_of_its_own(self) -> None:
        play = Play()
        play.submit([1, 2], timeout_s=3)
        play.pass_time(4)
        assert play.told[1] is not play.told[2]

    def test_what_waits_behind_a_full_window_never_went_either(self) -> None:
        play = ready()
        play.submit_each(range(1, EAGER_ENVELOPES + 2), timeout_s=3)
        play.pass_time(4)
        assert isinstance(play.told[1], errors.OutcomeUnknown)
        assert isinstance(play.told[EAGER_ENVELOPES + 1], errors.UnreachableError)

    def test_what_went_unanswered_is_unknown_and_carries_its_id(self) -> None:
        play = ready()
        play.submit([7], timeout_s=3)
        play.pass_time(4)
        error = play.told[7]
        assert isinstance(error, errors.OutcomeUnknown)
        assert error.message_id == (7).to_bytes(16, "big")

    def test_what_went_before_a_loss_is_unknown(self) -> None:
        play = ready()
        play.submit([1], timeout_s=3)
        play.lose()
        play.pass_time(4)
        assert isinstance(play.told[1], errors.OutcomeUnknown)

    def test_what_was_refused_is_known_not_to_be_stored(self) -> None:
        play = ready()
        play.submit([1], timeout_s=3)
        play.refuse(play.take_sends()[0], "storage_full", wait_s=2)
        play.pass_time(2.6)
        play.refuse(play.take_sends()[0], "storage_full", wait_s=2)
        assert isinstance(play.told[1], errors.StorageFull)
        assert play.told_at[1] < 1_003, "there is no time left to ask again, so there is nothing to wait for"

    def test_what_was_refused_after_a_loss_is_still_unknown(self) -> None:
        play = ready()
        play.submit([1], timeout_s=3)
        play.lose()
        play.pass_time(0.1)
        play.let_in()
        play.refuse(play.take_sends()[-1], "busy", wait_s=5)
        assert isinstance(play.told[1], errors.OutcomeUnknown)

    def test_one_behind_a_refused_one_gives_the_same_reason(self) -> None:
        play = ready()
        play.submit([1], timeout_s=60)
        play.submit([2], timeout_s=3)
        first, second = play.take_sends()
        play.refuse(first, "busy", wait_s=10)
        play.gap(second, 1)
        play.pass_time(4)
        assert isinstance(play.told[2], errors.Busy)

    def test_the_expired_are_left_out_when_the_rest_is_repeated(self) -> None:
        play = ready()
        both = [submission([1], deadline=play.now + 1), submission([2], deadline=play.now + 60)]
        play.feed(events.Submitted(both))
        play.take_sends()
        play.lose()
        play.pass_time(2)
        play.let_in()
        assert [tickets_of(send) for send in play.take_sends()] == [[2]]
        assert play.session.stream._flight[0].size == 10
        assert [each.bodies for each in both] == [[], [b"2........."]]

    def test_an_abandoned_message_that_never_went_does_not_go(self) -> None:
        play = Play()
        play.submit([1])
        play.submit([2, 3, 4])
        play.feed(events.Withdrawn({1: None}))
        play.feed(events.Withdrawn({2: {1}}))
        play.let_in()
        assert [tickets_of(send) for send in play.take_sends()] == [[2, 4]]
        assert not play.told

    def test_an_abandoned_message_that_went_is_not_repeated_and_not_told(self) -> None:
        play = ready()
        play.submit([1, 2, 3])
        (send,) = play.take_sends()
        play.feed(events.Withdrawn({1: {1}}))
        play.lose()
        play.pass_time(2)
        play.let_in()
        (again,) = play.take_sends()
        assert (tickets_of(send), tickets_of(again)) == ([1, 2, 3], [1, 3])
        play.accept(again)
        assert play.accepted() == [1, 3]

    def test_what_was_given_up_and_is_then_abandoned_stays_so(self) -> None:
        play = ready()
        play.submit([1, 2, 3], timeout_s=3)
        (send,) = play.take_sends()
        play.pass_time(4)
        play.feed(events.Withdrawn({1: {1}}))
        play.accept(send)
        assert {type(outcome) for outcome in play.told.values()} == {errors.OutcomeUnknown}
        assert play.session.stream.unsettled == 0

    def test_the_others_of_an_abandoned_one_are_told_what_is_theirs(self) -> None:
        play = ready()
        play.submit([1, 2, 3])
        (send,) = play.take_sends()
        play.feed(events.Withdrawn({1: {1}}))
        play.accept(send)
        assert play.told == {1: Result(seq=1), 3: Result(seq=3)}

    def test_a_late_answer_to_what_was_given_up_is_no_matter(self) -> None:
        play = ready()
        play.submit([1], timeout_s=3)
        (send,) = play.take_sends()
        play.pass_time(4)
        play.accept(send)
        play.submit([2])
        assert [send.n for send in play.take_sends()] == [2]


class TestMemory:
    def test_nothing_is_kept_of_what_is_settled(self) -> None:
        play = ready()
        stream = play.session.stream
        for start in range(1, MANY, 100):
            play.submit(range(start, start + 100))
            for send in play.take_sends():
                play.accept(send)
        assert stream.unsettled == stream.unsettled_bytes == 0
        assert stream.expiry() == math.inf


@given(seed=st.integers(0, 2**32))
def test_no_deadline_is_overlooked_and_nothing_is_counted_wrong(seed: int) -> None:
    """What the stream keeps by the submission is what a look at every message would find."""
    dice = random.Random(seed)
    play = ready(envelopes.Limits(messages_per_send=4))  # so that some is left behind
    stream = play.session.stream
    waiting: dict[int, tuple[int, float, int]] = {}
    """Of each message: its submission's owner, deadline and its bytes."""
    tickets = 0
    for _ in range(60):
        what = dice.random()
        sends = [header for header in play.sent if isinstance(header, Send)]
        if what < 0.4:
            owner, size, deadline = tickets + 1, dice.choice([10, 30]), play.now + dice.choice([0.5, 3, 3, 60])
            tickets += dice.randint(1, 9)
            waiting |= dict.fromkeys(range(owner, tickets + 1), (owner, deadline, size))
            play.submit(range(owner, tickets + 1), size=size, timeout_s=deadline - play.now)
        elif what < 0.6 and sends:
            play.sent.remove(sends[0])
            if dice.random() < 0.7:
                play.accept(sends[0])
            else:
                play.refuse(sends[0], dice.choice(["busy", "bad_request", "unavailable"]), wait_s=dice.choice([0, 2]))
        elif what < 0.7 and waiting:
            ticket = dice.choice(list(waiting))
            owner = waiting[ticket][0]
            places = dice.choice([None, {ticket - owner}, {ticket - owner, ticket - owner + 2}])
            play.feed(events.Withdrawn({owner: places}))
            gone = {t for t, w in waiting.items() if w[0] == owner and (places is None or t - owner in places)}
            waiting = {t: w for t, w in waiting.items() if t not in gone}
        elif what < 0.75:
            play.lose()
            play.sent.clear()
        else:
            play.pass_time(dice.choice([0.1, 1.0]))
            assert not [t for t, (_, deadline, _) in waiting.items() if deadline <= play.now and t not in play.told]
        if play.all(envelopes.Hello):
            play.welcome()
        for resume in play.all(envelopes.Resume):  # not at once, if nothing was wanted any more
            play.answer(LoggedIn(id=resume.id, account=1, name=NAME, expires_at_us=1))
        play.sent = [header for header in play.sent if isinstance(header, Send)]
        waiting = {ticket: each for ticket, each in waiting.items() if ticket not in play.told}
        assert stream.expiry() <= min((deadline for _, deadline, _ in waiting.values()), default=math.inf)
        assert stream.unsettled == len(waiting)
        assert stream.unsettled_bytes == sum(size for _, _, size in waiting.values())
    play.pass_time(100)
    assert stream.expiry() == math.inf


class Broker:
    """What RULES 10 and 12 want of a broker, with chance for the rest."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.log: list[int] = []
        self.expected: int | None = None

    def forget_session(self) -> None:
        self.expected = None

    def take(self, send: Send) -> Sent | Error:
        if self.expected is None:
            self.expected = send.n
        if send.n != self.expected:
            return Error(id=send.id, code="gap", retry_after_ms=0, expected=self.expected)
        if self.dice.random() < 0.3:
            code = self.dice.choice(["busy", "unavailable", "storage_full"])
            return Error(id=send.id, code=code, retry_after_ms=self.dice.choice([0, 50, 500]))
        self.expected += 1
        known = set(self.log)
        tickets = tickets_of(send)
        self.log += [ticket for ticket in tickets if ticket not in known]
        return Sent.of(send.id, [Result(seq=1, again=ticket in known) for ticket in tickets])


@given(seed=st.integers(0, 2**32))
def test_whatever_happens_each_message_is_stored_once_and_in_order(seed: int) -> None:
    dice = random.Random(seed)
    play, broker = ready(), Broker(dice)
    unread: list[Send] = []
    unsaid: list[Sent | Error] = []
    given_up_to = 0
    while len(play.told) < 100:
        what = dice.random()
        if what < 0.3 and given_up_to < 100:
            more = min(100 - given_up_to, dice.randint(1, 9))
            play.submit(range(given_up_to + 1, given_up_to + more + 1), timeout_s=1e6)
            given_up_to += more
        elif what < 0.6 and unread:
            unsaid.append(broker.take(unread.pop(0)))
        elif what < 0.9 and unsaid:
            play.answer(unsaid.pop(dice.randrange(len(unsaid)) if dice.random() < 0.1 else 0))
        elif what > 0.97:
            if dice.random() < 0.5:  # the broker had read what was on its way
                unsaid.extend(map(broker.take, unread))
            play.lose()
            play.sent.clear()
            unread, unsaid = [], []
            broker.forget_session()
        else:
            play.pass_time(0.1)
        if play.connected and any(isinstance(header, envelopes.Hello) for header in play.sent):
            play.let_in()
            play.sent = [header for header in play.sent if isinstance(header, Send)]
        unread += play.take_sends()
    assert broker.log == list(range(1, 101))
    assert sorted(play.accepted()) == list(range(1, 101))
