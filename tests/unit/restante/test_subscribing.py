"""Subscriptions: credit, gaps, reconnects; each message handed on once and in order."""

from __future__ import annotations

from restante import events
from restante.wire import envelopes, errors
from restante.wire.envelopes import Credit, Deliver, Entry, Marked, Subscribe, Subscribed, Unsubscribe
from tests.unit.restante.playing import HISTORY, Play, ready

FOLLOW = 5


def following(*, messages: int = 100, size: int = 1_000, after: int = 0) -> Play:
    play = ready()
    play.feed(events.Followed(FOLLOW, after=after, messages=messages, bytes=size))
    stand(play)
    return play


def stand(play: Play) -> Subscribe:
    """Answer the last `subscribe`."""
    subscribe = play.last(Subscribe)
    play.answer(Subscribed(id=subscribe.id, sub=subscribe.sub, history=HISTORY))
    return subscribe


def seqs(play: Play) -> list[int]:
    return [seq for seq, _ in play.handed]


class TestCredit:
    def test_the_first_credit_is_the_window(self) -> None:
        subscribe = following(messages=100, size=1_000).last(Subscribe)
        assert (subscribe.messages, subscribe.bytes) == (100, 1_000)

    def test_it_grows_by_what_is_consumed_once_half_the_window_is(self) -> None:
        play = following(messages=100, size=10_000)
        play.deliver(1, 1, list(range(1, 61)))
        play.feed(events.Consumed(FOLLOW, 49, 49 * 3))
        assert play.all(Credit) == []
        play.feed(events.Consumed(FOLLOW, 1, 3))
        assert play.last(Credit) == Credit(sub=1, messages=150, bytes=10_150)

    def test_bytes_count_as_well(self) -> None:
        play = following(messages=100, size=1_000)
        play.deliver(1, 1, [1, 2], size=300)
        play.feed(events.Consumed(FOLLOW, 2, 600))
        assert play.last(Credit) == Credit(sub=1, messages=102, bytes=1_600)

    def test_what_is_not_consumed_gets_no_more(self) -> None:
        play = following(messages=10)
        play.deliver(1, 1, list(range(1, 11)))
        play.pass_time(25)
        assert play.all(Credit) == []

    def test_a_new_subscription_has_less_by_what_waits_unconsumed(self) -> None:
        play = following(messages=100, size=1_000)
        play.deliver(1, 1, [1, 2, 3, 4], size=5)
        play.feed(events.Consumed(FOLLOW, 1, 5))
        play.lose()
        play.pass_time(1)
        play.let_in()
        subscribe = play.last(Subscribe)
        assert (subscribe.messages, subscribe.bytes) == (97, 985)
        play.feed(events.Consumed(FOLLOW, 3, 15))
        play.deliver(subscribe.sub, 1, list(range(5, 102)), size=1)
        play.feed(events.Consumed(FOLLOW, 97, 97))
        assert play.last(Credit) == Credit(sub=subscribe.sub, messages=197, bytes=1_097)


class TestDeliveries:
    def test_are_handed_on_with_their_contents(self) -> None:
        play = following()
        entry = Entry(seq=3, id=b"i" * 16, sender="bob", to=["alice"], size=2, stored_at_us=1)
        play.answer(Deliver(sub=1, first=1, messages=[entry]), b"hi")
        assert play.handed == [(3, b"hi")]

    def test_a_missing_one_makes_it_subscribe_anew_behind_the_last(self) -> None:
        play = following()
        play.deliver(1, 1, [10, 11])
        play.deliver(1, 4, [13])
        assert seqs(play) == [10, 11]
        assert play.last(Unsubscribe).sub == 1
        assert (play.last(Subscribe).sub, play.last(Subscribe).after) == (2, 11)
        stand(play)
        play.deliver(2, 1, [12, 13])
        assert seqs(play) == [10, 11, 12, 13]

    def test_what_comes_late_for_the_old_subscription_is_nothing(self) -> None:
        play = following()
        play.deliver(1, 2, [10])
        play.deliver(1, 1, [9])
        assert seqs(play) == []

    def test_a_body_that_does_not_fit_ends_the_connection(self) -> None:
        play = following()
        entry = Entry(seq=3, id=b"i" * 16, sender="bob", to=["alice"], size=2, stored_at_us=1)
        play.answer(Deliver(sub=1, first=1, messages=[entry]), b"longer")
        assert not play.connected
        assert seqs(play) == []


class TestReconnecting:
    def test_it_goes_on_behind_the_last_that_was_handed_on(self) -> None:
        play = following()
        play.deliver(1, 1, [10, 11])
        play.lose()
        play.pass_time(1)
        play.let_in()
        subscribe = play.last(Subscribe)
        assert (subscribe.after, subscribe.history) == (11, HISTORY)
        assert subscribe.sub != 1

    def test_a_repeat_is_not_handed_on_and_takes_no_credit(self) -> None:
        play = following(messages=4)
        play.deliver(1, 1, [10, 11])
        play.feed(events.Consumed(FOLLOW, 2, 6))
        play.lose()
        play.pass_time(1)
        play.let_in()
        sub = play.last(Subscribe).sub
        play.deliver(sub, 1, [10, 11, 12])
        assert seqs(play) == [10, 11, 12]
        assert play.last(Credit) == Credit(sub=sub, messages=6, bytes=1_006)

    def test_another_history_begins_at_the_beginning(self) -> None:
        play = following()
        play.deliver(1, 1, [10])
        play.lose()
        play.pass_time(1)
        play.let_in()
        play.refuse(play.last(Subscribe), "history_changed")
        subscribe = play.last(Subscribe)
        assert (subscribe.after, subscribe.history) == (0, None)
        play.deliver(subscribe.sub, 1, [2])
        assert seqs(play) == [10, 2]

    def test_a_server_that_stays_away_does_not_end_it(self) -> None:
        play = following()
        play.lose()
        for _ in range(100):
            play.pass_time(60)
        assert play.ended == []
        play.let_in()
        assert play.last(Subscribe).after == 0


class TestEnding:
    def test_a_refusal_for_good_ends_it(self) -> None:
        play = ready()
        play.feed(events.Followed(FOLLOW))
        play.refuse(play.last(Subscribe), "too_large")
        assert isinstance(play.ended[0], errors.TooLarge)

    def test_unfollowing_tells_the_server_and_forgets(self) -> None:
        play = following()
        play.feed(events.Unfollowed(FOLLOW))
        play.answer(envelopes.Done(id=play.last(Unsubscribe).id))
        play.deliver(1, 1, [1])
        play.lose()
        play.pass_time(100)
        assert seqs(play) == []
        assert len(play.connections) == 1

    def test_marks_of_other_sessions_are_passed_on(self) -> None:
        play = following()
        play.answer(Marked(sub=1, seqs=[4, 5]))
        assert play.marked == [[4, 5]]
