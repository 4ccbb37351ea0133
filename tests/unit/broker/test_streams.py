"""A stream by itself: the next number and no other, and what is held in order behind it."""

from __future__ import annotations

import pytest

from broker.events import Peer
from broker.sessions import Session
from broker.streams import Job, Stream
from restante.wire.envelopes import Item, Send
from tests.unit.broker.world import STREAM, an_id


def a_job(stream: Stream, n: int) -> Job:
    session = Session(Peer(b"id", "key", "10.0.0.1"), now=0.0)
    request = Send.of(n, STREAM, n, [Item(id=an_id(n), to=["bob"], size=1)])
    return Job(session, stream, request, b"x")


def filled(first: int, last: int) -> Stream:
    stream = Stream(first)
    for n in range(first, last + 1):
        stream.admit(a_job(stream, n))
    return stream


def test_admitting_counts_on_and_holds_in_order() -> None:
    stream = filled(5, 8)
    assert stream.expected == 9
    assert [job.request.n for job in stream.held] == [5, 6, 7, 8]


def test_another_number_is_the_callers_bug() -> None:
    stream = Stream(5)
    with pytest.raises(AssertionError):
        stream.admit(a_job(stream, 6))


def test_going_back_never_goes_forward() -> None:
    stream = filled(1, 4)
    stream.go_back(3)
    stream.go_back(4)
    assert stream.expected == 3


@pytest.mark.parametrize(
    ("n", "dropped", "left"), [(0, [1, 2, 3], []), (2, [2, 3], [1]), (3, [3], [1, 2]), (9, [], [1, 2, 3])]
)
def test_dropping_takes_a_number_and_all_behind_it_in_order(n: int, dropped: list[int], left: list[int]) -> None:
    stream = filled(1, 3)
    assert [job.request.n for job in stream.drop_from(n)] == dropped
    assert [job.request.n for job in stream.held] == left
