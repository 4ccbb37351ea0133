"""What a message travels as: the plain way, which nearly all go, beside the careful one."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from restante.composing import BINARY, HEAD_BYTES, Composer, _is_text
from restante.messages import Outgoing
from restante.wire.envelopes import TEXT, Item
from restante.wire.errors import BodyTooLarge, ChatError
from restante.wire.limits import MESSAGE_BYTES_MAX

KNOWN: Final = "bob"


@pytest.fixture(scope="module")
def composer() -> Composer:
    """One that has sent to KNOWN before."""
    made = Composer()
    made.compose(Outgoing(KNOWN, b"x"), None)
    return made


def described(item: Item) -> Item:
    """All of an item but what the clock and the dice make of it."""
    return structs.replace(item, id=b"", sent_at_us=0)


@given(st.one_of(st.binary(max_size=100), st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))))
@example("é".encode() * 64)
@example(b"a" * HEAD_BYTES + b"\xff")
@example(b"\xe2\x82")
@example("\U0010ffff".encode() * 20)
def test_text_is_what_utf8_is(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError:
        assert not _is_text(body)
    else:
        assert _is_text(body)


@given(
    st.builds(
        Outgoing,
        st.sampled_from([KNOWN, "carol", ["bob", "carol"], "", "x" * 40]),
        st.sampled_from([b"x", b"", "text", "", "\ud800", b"\xff\xfe", "é".encode(), bytearray(b"x"), b"y" * 300]),
        content_type=st.sampled_from([None, None, "text/html", "x" * 200]),
        reply_to=st.sampled_from([None, None, bytes(16), b"short"]),
        id=st.sampled_from([None, None, bytes(range(16)), b"short"]),
    )
)
def test_a_plain_message_is_made_as_any_other(composer: Composer, outgoing: Outgoing) -> None:
    made: list[tuple[Item, bytes] | str] = []
    for compose in (composer.compose, composer._compose_carefully):
        try:
            item, body = compose(outgoing, None)
        except ChatError as error:
            made.append(f"{type(error).__name__}: {error}")
        else:
            assert item.id == outgoing.id or outgoing.id is None
            made.append((described(item), body))
    assert made[0] == made[1]


def test_what_is_too_large_is_refused_the_plain_way_too(composer: Composer) -> None:
    with pytest.raises(BodyTooLarge):
        composer.compose(Outgoing(KNOWN, bytes(MESSAGE_BYTES_MAX + 1)), None)


def test_bytes_are_text_if_they_can_be(composer: Composer) -> None:
    bodies = {b"plain": TEXT, "é".encode(): TEXT, b"\xc0\xaf": BINARY, bytes(range(256)): BINARY}
    assert {body: composer.compose(Outgoing(KNOWN, body), None)[0].content_type for body in bodies} == bodies
