"""The codec: whatever comes in, a typed header or a RemoteProtocolError comes out; what goes out comes back."""

from __future__ import annotations

import time
from typing import Any, get_args

import msgpack
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from restante.wire import auth_link, codec, envelopes, limits, links, store_link
from restante.wire.errors import CODES, LocalProtocolError, RemoteProtocolError
from tests.protocol.vectors import frames_of, load

READERS: dict[str, codec.Reader[Any]] = {
    "from_client": codec.from_client,
    "from_broker": codec.from_broker,
    "from_auth_worker": links.from_auth_worker,
    "to_auth_worker": links.to_auth_worker,
    "from_store": links.from_store,
    "to_store": links.to_store,
}

TAGS = [kind.__struct_config__.tag for kind in get_args(envelopes.ToBroker | envelopes.ToClient)]
KEYS = sorted({field.encode_name for kind in get_args(envelopes.ToBroker) for field in msgspec.structs.fields(kind)})

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=40)
    | st.text(max_size=40),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=8), part, max_size=4),
    max_leaves=12,
)  # fmt: skip
HEADERLIKE = st.fixed_dictionaries(
    {"type": st.sampled_from(TAGS) | PLAIN, "id": st.integers(0, 2**54) | PLAIN}
).flatmap(
    lambda head: st.dictionaries(st.sampled_from(KEYS), PLAIN | st.binary(min_size=16, max_size=16)).map(
        lambda rest: rest | head
    )
)


def outcome(reader: codec.Reader[Any], frames: list[bytes]) -> msgspec.Struct | RemoteProtocolError:
    """What a reader makes of frames; anything raised but the one allowed kind fails the test."""
    try:
        header, body = reader.read(frames)
    except RemoteProtocolError as refusal:
        error = refusal
    else:
        assert isinstance(header, msgspec.Struct)
        assert isinstance(body, bytes)
        return header
    assert error.code in CODES
    assert len(error.text) <= 500
    assert error.request_id is None or 1 <= error.request_id < 2**53
    return error


# --- anything in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READERS)
@given(frames=st.lists(st.binary(max_size=60), max_size=5))
def test_any_frames_give_an_error_of_the_one_kind(name: str, frames: list[bytes]) -> None:
    outcome(READERS[name], frames)


@given(header=st.binary(max_size=200), body=st.binary(max_size=20))
@example(header=b"\x82\xa4type\xa4ping\xa2id\xd6\xff\xff\xff\xff\xff", body=b"")
@example(header=b"\x82\xa4type\xa4ping\xa2id\xc7\x0c\xff" + b"\xff" * 12, body=b"")
def test_any_header_gives_a_type_or_an_error(header: bytes, body: bytes) -> None:
    outcome(codec.from_client, [codec.PROTOCOL, header, body])


@given(frame=st.binary(max_size=200))
@example(frame=b"\x81\x81\x01\x02\x03")
@example(frame=b"\x81\x05\x06")
def test_any_header_gives_a_client_a_type_or_an_error(frame: bytes) -> None:
    outcome(codec.from_broker, [codec.PROTOCOL, frame, b""])


@given(raw=PLAIN | HEADERLIKE)
@example(raw={"type": ["ping"], "id": 1})
@example(raw={"type": {"a": 1}, "id": 1})
@example(raw={"type": "x" * 10_000, "id": 1})
@example(raw={"type": "\udcff".encode("utf-8", "surrogatepass"), "id": 1})
@example(raw={"type": "lookup", "id": 1, "names": ["\0" * 32]})
def test_any_msgpack_gives_a_type_or_an_error(raw: Any) -> None:
    outcome(codec.from_client, [codec.PROTOCOL, msgpack.packb(raw), b""])


@given(data=st.data())
def test_a_flipped_byte_gives_a_type_or_an_error(data: st.DataObject) -> None:
    vectors = [vector for vector in load("session") + load("sending")[:2] if vector["direction"] == "client→broker"]
    frame = bytearray(frames_of(data.draw(st.sampled_from(vectors)))[1][:400])
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    outcome(codec.from_client, [codec.PROTOCOL, bytes(frame), b""])


@given(header=st.sampled_from([b"\x91", b"\x81\xa1a", b"\x92\x01"]), depth=st.integers(1, 20_000))
def test_no_depth_overflows_the_stack(header: bytes, depth: int) -> None:
    frame = b"\x83\xa4type\xa4ping\xa2id\x01\xa1x" + header * depth + b"\xc0"
    result = outcome(codec.from_client, [codec.PROTOCOL, frame, b""])
    if depth > 2_000:
        assert isinstance(result, RemoteProtocolError)


@pytest.mark.parametrize("key", [5, -1, None, True, 1.5, b"k", "k"])
def test_a_newer_broker_may_say_maps_with_any_keys_and_a_client_may_not(key: Any) -> None:
    """[F4]: to the broker such keys could be chosen so that their hashes collide."""
    pong = msgpack.packb({"type": "pong", "id": 1, "new": [{key: {key: 1}}]})
    ping = msgpack.packb({"type": "ping", "id": 1, "new": [{key: {key: 1}}]})
    assert outcome(codec.from_broker, [codec.PROTOCOL, pong]) == envelopes.Pong(id=1)
    got = outcome(codec.from_client, [codec.PROTOCOL, ping])
    assert got == envelopes.Ping(id=1) if isinstance(key, (str, bytes)) else isinstance(got, RemoteProtocolError)


@pytest.mark.parametrize("key", [b"\x91\x01", b"\x80"])
@pytest.mark.parametrize("reader", READERS.values(), ids=list(READERS))
def test_a_key_that_is_a_list_or_a_map_is_no_key(reader: codec.Reader[Any], key: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        reader.read_header(b"\x83\xa4type\xa4pong\xa2id\x01\xa1x\x81" + key + b"\x01")
    assert caught.value.code == "bad_frame"


def test_a_body_is_handed_on_untouched() -> None:
    body = bytes(range(256))
    assert codec.from_client.read(codec.client_frames(envelopes.Ping(id=1), body)) == (envelopes.Ping(id=1), body)


def test_two_frames_are_an_envelope_without_a_body() -> None:
    assert codec.from_client.read(codec.client_frames(envelopes.Ping(id=1))[:2]) == (envelopes.Ping(id=1), b"")


def test_an_error_names_the_field() -> None:
    with pytest.raises(RemoteProtocolError, match=r"names\[1\]") as caught:
        codec.from_client.read_header(msgpack.packb({"type": "lookup", "id": 9, "names": ["bob", 7]}))
    assert caught.value.request_id == 9


def test_a_long_type_is_cut_in_the_text() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        codec.from_client.read_header(msgpack.packb({"type": "x" * 5_000, "id": 9}))
    assert len(caught.value.text) < 120


# --- limits -----------------------------------------------------------------------------------------------


def padded(bytes_total: int) -> bytes:
    """A ping whose header has exactly so many bytes."""
    size = bytes_total - len(b"\x83\xa4type\xa4ping\xa2id\x01\xa1x\xc6....")
    return b"\x83\xa4type\xa4ping\xa2id\x01\xa1x\xc6" + size.to_bytes(4, "big") + bytes(size)


def test_a_header_may_be_as_large_as_its_limit_and_no_larger() -> None:
    assert codec.from_client.read_header(padded(limits.HEADER_BYTES_MAX)) == envelopes.Ping(id=1)
    with pytest.raises(RemoteProtocolError) as caught:
        codec.from_client.read_header(padded(limits.HEADER_BYTES_MAX + 1))
    assert caught.value.code == "too_large"


def item(to: tuple[str, ...] = ("bob",)) -> envelopes.Item:
    return envelopes.Item(id=b"\1" * 16, to=list(to), size=0)


def test_the_largest_send_is_read_and_one_message_more_is_not() -> None:
    for count, fine in ((limits.MESSAGES_PER_SEND_MAX, True), (limits.MESSAGES_PER_SEND_MAX + 1, False)):
        header = envelopes.Send.of(1, b"\2" * 16, 1, [item()] * count)
        result = outcome(codec.from_client, codec.client_frames(header))
        assert isinstance(result, envelopes.Send) is fine


@pytest.mark.parametrize(
    ("field", "count"), [("seqs", limits.ACKS_PER_REQUEST_MAX), ("ids", limits.ACKS_PER_REQUEST_MAX)]
)
def test_the_most_acks_are_read_and_one_more_is_not(field: str, count: int) -> None:
    one: Any = 1 if field == "seqs" else b"\1" * 16
    for size, fine in ((count, True), (count + 1, False)):
        raw = msgpack.packb({"type": "ack", "id": 1, field: [one] * size})
        assert isinstance(outcome(codec.from_client, [codec.PROTOCOL, raw]), envelopes.Ack) is fine


def test_what_the_broker_would_refuse_for_its_size_is_not_sent() -> None:
    header = envelopes.Ping(id=1)
    assert codec.request_frames(header, bytes(limits.BODY_BYTES_MAX))[1] == codec.pack_header(header)
    with pytest.raises(LocalProtocolError, match="body") as caught:
        codec.request_frames(header, bytes(limits.BODY_BYTES_MAX + 1))
    assert caught.value.code == "too_large"
    recipients = ("n" * 32,) * 1_000
    huge = envelopes.Send.of(1, b"\2" * 16, 1, [item(to=recipients)] * 40)
    with pytest.raises(LocalProtocolError, match="header"):
        codec.request_frames(huge)


# --- round trips ------------------------------------------------------------------------------------------

UNIONS: list[tuple[str, Any]] = [
    ("from_client", envelopes.ToBroker),
    ("from_broker", envelopes.ToClient),
    ("from_auth_worker", auth_link.FromWorker),
    ("to_auth_worker", auth_link.ToWorker),
    ("from_store", store_link.FromStore),
    ("to_store", store_link.ToStore),
]


def strategy(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a field's type, from its limits."""
    if isinstance(kind, msgspec.inspect.Metadata):
        return strategy(kind.type)
    if isinstance(kind, msgspec.inspect.IntType):
        return st.integers(kind.ge if kind.ge is not None else -(2**63), kind.le if kind.le is not None else 2**63 - 1)
    if isinstance(kind, msgspec.inspect.StrType):
        return st.text(min_size=kind.min_length or 0, max_size=min(kind.max_length or 9, 40))
    if isinstance(kind, msgspec.inspect.BytesType):
        return st.binary(min_size=kind.min_length or 0, max_size=kind.max_length)
    if isinstance(kind, msgspec.inspect.ListType):
        return st.lists(strategy(kind.item_type), min_size=kind.min_length or 0, max_size=3)
    if isinstance(kind, msgspec.inspect.DictType):
        return st.dictionaries(strategy(kind.key_type), st.integers(0, 2**53), max_size=3)
    if isinstance(kind, msgspec.inspect.LiteralType):
        return st.sampled_from(kind.values)
    if isinstance(kind, msgspec.inspect.UnionType):
        return st.one_of(*(strategy(part) for part in kind.types))
    if isinstance(kind, msgspec.inspect.StructType):
        if kind.cls is envelopes.Send:
            return columns(kind)
        fields = {field.name: strategy(field.type) for field in kind.fields}
        return st.builds(kind.cls, **fields)
    if isinstance(kind, msgspec.inspect.NoneType):
        return st.none()
    assert isinstance(kind, msgspec.inspect.BoolType), kind
    return st.booleans()


@st.composite
def columns(draw: st.DrawFn, kind: msgspec.inspect.StructType) -> Any:
    """A header whose lists are of one length, or empty where that stands for the default."""
    messages = draw(st.integers(1, 3))
    fields = {}
    for field in kind.fields:
        values = strategy(field.type)
        kind_of = field.type.type if isinstance(field.type, msgspec.inspect.Metadata) else field.type
        if isinstance(kind_of, msgspec.inspect.ListType):
            sizes = [messages] if field.default_factory is msgspec.NODEFAULT else [0, messages]
            size = draw(st.sampled_from(sizes))
            values = st.lists(strategy(kind_of.item_type), min_size=size, max_size=size)
        fields[field.name] = draw(values)
    return kind.cls(**fields)


@pytest.mark.parametrize("name", ["to", "sizes", "content_types", "sent_at_us", "reply_to"])
def test_columns_of_a_send_are_of_one_length(name: str) -> None:
    """[M11]."""
    message = envelopes.Item(
        id=bytes(16), to=["bob"], size=1, content_type="image/png", sent_at_us=1, reply_to=bytes(16)
    )
    header = msgspec.to_builtins(envelopes.Send.of(1, bytes(16), 1, [message]), builtin_types=(bytes,))
    header[name] *= 2
    with pytest.raises(RemoteProtocolError) as error:
        codec.from_client.read_header(msgspec.msgpack.encode(header))
    assert (error.value.code, error.value.request_id) == ("bad_request", 1)


@pytest.mark.parametrize(("name", "union"), UNIONS)
@given(data=st.data())
def test_every_header_comes_back_as_it_was(name: str, union: Any, data: st.DataObject) -> None:
    header = data.draw(strategy(msgspec.inspect.type_info(union)))
    assert READERS[name].read_header(codec.pack_header(header)) == header


@given(header=strategy(msgspec.inspect.type_info(envelopes.ToBroker)), body=st.binary(max_size=50))
def test_an_envelope_comes_back_as_it_was(header: Any, body: bytes) -> None:
    assert codec.from_client.read(codec.request_frames(header, body)) == (header, body)


def test_the_links_have_frames_of_their_own() -> None:
    assert links.auth_frames(auth_link.Who()) == [b"AUTH/1", b"\x81\xa4type\xa3who"]
    beat = store_link.Beat(epoch=1, name="b", generation=2)
    assert links.store_frames(beat, b"x")[::2] == [b"STORE/1", b"x"]
    assert links.to_store.read(links.store_frames(beat)) == (beat, b"")


# --- cut --------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_contents_come_back_as_they_were(contents: list[bytes]) -> None:
    assert codec.cut(b"".join(contents), [len(content) for content in contents]) == contents


@given(st.binary(max_size=30), st.lists(st.integers(-40, 40), max_size=6))
@example(b"abc", [4, -1])
@example(b"abc", [-1, 4])
@example(b"", [])
@example(b"a", [])
@example(b"", [0, 0])
def test_sizes_that_lie_are_refused_and_others_cut_everything(body: bytes, sizes: list[int]) -> None:
    if sum(sizes) == len(body) and all(size >= 0 for size in sizes):
        parts = codec.cut(body, sizes)
        assert [len(part) for part in parts] == sizes
        assert b"".join(parts) == body
    else:
        with pytest.raises(RemoteProtocolError) as caught:
            codec.cut(body, sizes)
        assert caught.value.code == "bad_request"


def test_the_text_says_how_far_the_sizes_are_off() -> None:
    with pytest.raises(RemoteProtocolError, match="add up to 5 bytes, the body has 3"):
        codec.cut(b"abc", iter([2, 3]))


def test_a_value_of_an_extension_type_is_ignored_where_no_field_is_and_fits_none() -> None:
    """[F4]"""
    odd = msgpack.ExtType(5, b"x")
    assert codec.from_client.read_header(msgpack.packb({"type": "ping", "id": 1, "new": odd})) == envelopes.Ping(id=1)
    for field in ("read", "seqs", "ids"):
        with pytest.raises(RemoteProtocolError) as refused:
            codec.from_client.read_header(msgpack.packb({"type": "ack", "id": 1, field: odd}))
        assert refused.value.code == "bad_request"


def test_a_header_full_of_extension_types_takes_no_longer_than_one_of_maps() -> None:
    def seconds(value: object, size: int) -> float:
        frame = msgpack.packb({"type": "ping", "id": 1, "new": [value] * ((limits.HEADER_BYTES_MAX - 64) // size)})
        best = 9.0
        for _ in range(5):
            began = time.perf_counter()
            codec.from_client.read_header(frame)
            best = min(best, time.perf_counter() - began)
        return best

    assert seconds(msgpack.ExtType(5, b""), 3) < 2 * seconds({}, 1)
