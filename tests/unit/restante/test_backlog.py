"""What waits, and how much of it an envelope takes: the same however it was given."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from restante.backlog import ENTRY_HEADER_BYTES, SEND_HEADER_BYTES, Backlog
from restante.events import Submission, Withdrawn
from restante.wire.envelopes import TEXT, Limits
from restante.wire.errors import BodyTooLarge, TooLarge
from tests.unit.restante.playing import submission, ticket_of


@st.composite
def submissions(draw: st.DrawFn) -> Submission:
    """Messages of which some are large, some to two, some of a long content type."""
    many = draw(st.integers(1, 6))
    made = submission(range(many))
    made.sizes = draw(st.lists(st.sampled_from([1, 10, 10, 60]), min_size=many, max_size=many))
    made.to = draw(st.lists(st.sampled_from(["bob", "bob", ["bob", "carol"]]), min_size=many, max_size=many))
    made.content_types = draw(st.lists(st.sampled_from([TEXT, "t" * 100]), min_size=many, max_size=many))
    return made


LIMITS = st.builds(
    Limits,
    messages_per_send=st.sampled_from([1, 4, 1_000]),
    recipients_per_send=st.sampled_from([3, 10_000]),
    recipients_per_message=st.sampled_from([1, 1_000]),
    message_bytes=st.sampled_from([50, 1_000]),
    body_bytes=st.sampled_from([50, 1_000]),
    header_bytes=st.sampled_from([SEND_HEADER_BYTES + 2 * ENTRY_HEADER_BYTES, 1 << 20]),
)


def all_taken(waiting: list[Submission], limits: Limits) -> list[tuple[list[int], list[str]]]:
    """Envelope by envelope: the numbers of the messages in it, and what was found unfit on the way to it."""
    backlog, found = Backlog(), list[tuple[list[int], list[str]]]()
    backlog.add(waiting)
    while backlog:
        before = backlog.messages
        taken, unfit = backlog.take(limits)
        ids = [ticket_of(message_id) for each in taken for message_id in each.ids]
        assert before - backlog.messages == len(ids) + len(unfit) > 0
        found.append((ids, [str(why) for _, why in unfit]))
    assert backlog.messages == 0
    return found


@given(waiting=st.lists(submissions(), min_size=1, max_size=4), limits=LIMITS)
def test_envelopes_are_the_same_whether_messages_were_given_together_or_one_by_one(
    waiting: list[Submission], limits: Limits
) -> None:
    number = 0
    for each in waiting:
        each.ids = [(number + place).to_bytes(16, "big") for place in range(len(each))]
        number += len(each)
    one_by_one = [part for each in waiting for part in each.cut(*range(len(each)))]
    together = all_taken(waiting, limits)
    assert together == all_taken(one_by_one, limits)
    order = [message for ids, _ in together for message in ids]
    assert order == sorted(order)
    assert len(order) + sum(len(unfit) for _, unfit in together) == number


def test_what_fits_nowhere_says_why_and_keeps_nothing_else() -> None:
    backlog, mixed = Backlog(), submission([1, 2, 3, 4])
    mixed.sizes = [10, 60, 10, 10]
    mixed.to = ["bob", "bob", ["bob", "carol"], "bob"]
    backlog.add([mixed])
    taken, unfit = backlog.take(Limits(message_bytes=50, recipients_per_message=1))
    assert [ticket_of(each.ids[0]) for each in taken] == [1, 4]
    assert [(ticket_of(each.ids[0]), each.first, type(why)) for each, why in unfit] == [
        (2, 1, BodyTooLarge),
        (3, 2, TooLarge),
    ]


def test_only_what_is_past_its_deadline_goes() -> None:
    backlog = Backlog()
    backlog.add([submission([1, 2], deadline=5.0), submission([3], deadline=7.0)])
    assert backlog.expire(4.9) == []
    (gone,) = backlog.expire(5.0)
    assert list(map(ticket_of, gone.ids)) == [1, 2]
    assert (backlog.messages, backlog.expiry) == (1, 7.0)
    backlog.clear()
    assert (backlog.messages, backlog.expiry) == (0, math.inf)


def test_only_what_stands_alone_at_a_place_is_meant() -> None:
    withdrawn = Withdrawn({"ours": {1}})
    one, two, three = submission([1, 2, 3], owner="ours").cut(1, 2)
    assert [withdrawn.means(each) for each in (one, two, three)] == [False, True, False]
    assert not withdrawn.means(submission([1, 2, 3], owner="ours"))
    assert not withdrawn.means(submission([1, 2, 3], owner="ours").part(1, 3))
    assert [withdrawn.lay_open(each) for each in (one, three)] == [[one], [three]]


def test_one_message_is_withdrawn_from_among_those_it_was_given_with() -> None:
    backlog = Backlog()
    backlog.add([submission([1, 2, 3], owner="ours"), submission([4, 5, 6], owner="theirs")])
    (gone,) = backlog.withdraw(Withdrawn({"ours": {1}}))
    assert list(map(ticket_of, gone.ids)) == [2]
    taken, _ = backlog.take(Limits())
    assert [(each.first, list(map(ticket_of, each.ids))) for each in taken] == [(0, [1]), (2, [3]), (0, [4, 5, 6])]
