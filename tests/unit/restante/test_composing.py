"""What a message travels as, and what is refused before it travels."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from restante.composing import BINARY, HEAD_BYTES, USUAL_BYTES_MAX, Composer, _is_text
from restante.events import Columns
from restante.messages import Outgoing
from restante.wire.envelopes import TEXT
from restante.wire.errors import BadName, BadRequest, BodyTooLarge, ChatError, EmptyBody
from restante.wire.limits import MESSAGE_BYTES_MAX

KNOWN: Final = "bob"


@pytest.fixture(scope="module")
def composer() -> Composer:
    """One that has sent to KNOWN before."""
    made = Composer()
    composed(made, Outgoing(KNOWN, b"x"))
    return made


def composed(composer: Composer, outgoing: Outgoing, account: int | None = None) -> Columns:
    """The columns of this message alone."""
    return Columns.of([composer.compose(outgoing, account)])


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


@pytest.mark.parametrize("to", [KNOWN, "carol"], ids=["known", "new"])
@pytest.mark.parametrize(
    ("body", "content", "content_type"),
    [
        (b"plain", b"plain", TEXT),
        ("é", "é".encode(), TEXT),
        (bytearray(b"x"), b"x", TEXT),
        (b"\xc0\xaf", b"\xc0\xaf", BINARY),
        (bytes(MESSAGE_BYTES_MAX), bytes(MESSAGE_BYTES_MAX), TEXT),
    ],
    ids=["ascii", "text", "bytearray", "binary", "largest"],
)
def test_a_message_travels_as_its_bytes_and_their_type(
    composer: Composer, to: str, body: str | bytes, content: bytes, content_type: str
) -> None:
    made = composed(composer, Outgoing(to, body))
    assert (made.to, made.sizes, made.content_types, made.reply_to) == ([to], [len(content)], [content_type], [None])
    assert made.bodies == [content]
    assert type(made.bodies[0]) is bytes


def test_what_is_said_of_a_message_travels_with_it(composer: Composer) -> None:
    own, other = bytes(range(16)), bytes(16)
    given_ = Outgoing([KNOWN, "carol", KNOWN], b"\xff", content_type="image/png", reply_to=other, id=own)
    made = composed(composer, given_)
    assert (made.ids, made.to, made.content_types, made.reply_to) == ([own], [[KNOWN, "carol"]], ["image/png"], [other])


def test_a_list_of_one_is_one(composer: Composer) -> None:
    assert composed(composer, Outgoing(["carol", "carol"], b"x")).to == ["carol"]


@pytest.mark.parametrize(
    ("outgoing", "error"),
    [
        (Outgoing(KNOWN, b""), EmptyBody),
        (Outgoing(KNOWN, ""), EmptyBody),
        (Outgoing(KNOWN, bytes(MESSAGE_BYTES_MAX + 1)), BodyTooLarge),
        (Outgoing(KNOWN, "\ud800"), BadRequest),
        (Outgoing("", b"x"), BadName),
        (Outgoing("x" * 40, b"x"), BadName),
        (Outgoing([], b"x"), BadRequest),
        (Outgoing(KNOWN, b"x", content_type="x" * 200), BadRequest),
        (Outgoing(KNOWN, b"x", content_type="é"), BadRequest),
        (Outgoing(KNOWN, b"x", reply_to=b"short"), BadRequest),
        (Outgoing(KNOWN, b"x", id=b"short"), BadRequest),
        (Outgoing(KNOWN, b"x", id=bytes(16), once="key"), BadRequest),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_what_can_be_refused_without_asking_is(composer: Composer, outgoing: Outgoing, error: type[ChatError]) -> None:
    with pytest.raises(error):
        composer.compose(outgoing, 1)


OUTGOINGS = st.builds(
    Outgoing,
    to=st.sampled_from([KNOWN, KNOWN, "new", "", "x" * 33, ["carol"]]),
    body=st.sampled_from([b"x", b"\xff", "text", "é", "", b"", "\ud800", bytearray(b"x"), bytes(USUAL_BYTES_MAX + 1)]),
    once=st.sampled_from([None] * 9 + ["key", ""]),
    content_type=st.sampled_from([None] * 9 + ["image/png"]),
    reply_to=st.sampled_from([None] * 9 + [b"", bytes(16)]),
    id=st.sampled_from([None] * 9 + [b"", bytes(16)]),
)


@given(outgoings=st.lists(OUTGOINGS, min_size=1, max_size=4))
@example(outgoings=[Outgoing(KNOWN, b"x"), Outgoing("new", "é"), Outgoing(KNOWN, b"\xff")])
def test_what_is_composed_together_is_what_is_composed_one_by_one(outgoings: list[Outgoing]) -> None:
    usual = Composer().compose_usual(outgoings)
    if usual is None:
        return
    alone = Composer()
    other = Columns.of([alone.compose(outgoing, 1) for outgoing in outgoings])
    for column in ("to", "sizes", "content_types", "reply_to", "bodies"):
        assert getattr(usual, column) == getattr(other, column)
    assert len(set(usual.ids)) == len(outgoings)


@pytest.mark.parametrize("body", [b"x", b"\xff", "text", "é"])
@pytest.mark.parametrize("to", [KNOWN, "new"])
def test_what_is_usual_is_composed_together(to: str, body: str | bytes) -> None:
    assert Composer().compose_usual([Outgoing(to, body)] * 3) is not None
