"""What a message travels as, and what is refused before it travels."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from restante.composing import BINARY, HEAD_BYTES, Composer, _is_text
from restante.messages import Outgoing
from restante.wire.envelopes import TEXT
from restante.wire.errors import BadName, BadRequest, BodyTooLarge, ChatError, EmptyBody
from restante.wire.limits import MESSAGE_BYTES_MAX

KNOWN: Final = "bob"


@pytest.fixture(scope="module")
def composer() -> Composer:
    """One that has sent to KNOWN before."""
    made = Composer()
    made.compose(Outgoing(KNOWN, b"x"), None)
    return made


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
    item, made = composer.compose(Outgoing(to, body), None)
    assert (item.to, item.size, item.content_type, item.reply_to) == ([to], len(content), content_type, None)
    assert type(made) is bytes
    assert made == content


def test_what_is_said_of_a_message_travels_with_it(composer: Composer) -> None:
    own, other = bytes(range(16)), bytes(16)
    given_ = Outgoing([KNOWN, "carol", KNOWN], b"\xff", content_type="image/png", reply_to=other, id=own)
    item, _ = composer.compose(given_, None)
    assert (item.id, item.to, item.content_type, item.reply_to) == (own, [KNOWN, "carol"], "image/png", other)


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
