"""Messages by columns and one by one say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.wire import links
from restante.wire.columns import fits
from restante.wire.envelopes import TEXT, ApartResult, Result
from restante.wire.store_link import Batch, Confirmed, Message, Stored, StoreMessages

IDS = st.binary(min_size=16, max_size=16)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    refusal = draw(st.sampled_from(["", "", "unknown_recipient"]))
    mailboxes = [] if refusal else draw(st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True))
    return Message(
        id=draw(IDS),
        to=["nobody"] if refusal else [f"user{mailbox}" for mailbox in mailboxes],
        mailboxes=mailboxes,
        size=draw(st.integers(0, 9)),
        content_type=draw(st.sampled_from([TEXT, "image/png"])),
        sent_at_us=draw(st.integers(0, 9)),
        reply_to=draw(st.none() | IDS),
        refusal=refusal,
        refusal_text=refusal and "nobody is called that",
    )


RESULTS = st.one_of(
    st.builds(Result, seq=st.integers(1, 99), stored_at_us=st.just(5)),
    st.builds(Result, seq=st.integers(1, 99), stored_at_us=st.integers(1, 9), again=st.just(True)),
    st.builds(Result, code=st.just("mailbox_full"), text=st.just("no")),
)


@given(st.lists(messages()))
def test_messages_travel_as_columns(given_: list[Message]) -> None:
    command = StoreMessages.of(7, "ann", given_)
    batch = Batch(epoch=1, name="b", generation=1, n=1, commands=[command])
    arrived, _ = links.to_store.read(links.store_frames(batch))
    assert arrived == batch
    assert command.messages == given_


@given(st.lists(RESULTS))
def test_results_travel_as_columns(given_: list[Result]) -> None:
    stored = Stored.of(given_)
    confirmed = Confirmed(epoch=1, generation=1, n=1, base=0, high=0, outcomes=[stored])
    arrived, _ = links.from_store.read(links.store_frames(confirmed))
    assert arrived == confirmed
    assert fits(stored.seqs, stored.apart, len(given_))
    assert stored.results == given_


REFUSED, AGAIN = Result(code="mailbox_full"), Result(seq=7, again=True)


@pytest.mark.parametrize(
    ("seqs", "apart", "good"),
    [
        ([1, 0, 7], {1: REFUSED, 2: AGAIN}, True),
        ([1, 2], {}, False),
        ([1, 0, 7], {2: AGAIN}, False),
        ([1, 0, 7], {1: REFUSED, 2: REFUSED}, False),
        ([1, 0, 7], {1: AGAIN}, False),
        ([1, 0, 7], {1: REFUSED, 3: AGAIN}, False),
    ],
)
def test_an_outcome_fits_its_messages(seqs: list[int], apart: dict[int, Result], good: bool) -> None:
    told = [ApartResult(place=place, result=result) for place, result in apart.items()]
    assert fits(seqs, told, 3) is good
    assert not told or not fits(seqs, [*told, told[0]], 3)
