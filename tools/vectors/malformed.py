"""Frames that are no envelope of the client protocol, each with the code that answers them."""

from __future__ import annotations

from collections.abc import Iterator

import msgpack

from restante.wire import limits
from tools.vectors.form import CHAT, ONE, SEQ_MAX, STORE, TO_CLIENT, TOKEN, Part, Vector, bad, unfit

ping: bytes = msgpack.packb({"type": "ping", "id": 1})
one = {"id": 5}


def malformed() -> Iterator[Vector]:
    yield from frames()
    yield from not_msgpack()
    yield from headers()
    yield from fields()
    yield from to_clients()


def frames() -> Iterator[Vector]:
    yield bad("no frame but the first", "bad_frame", CHAT)
    yield bad("four frames", "bad_frame", CHAT, ping, b"", b"")
    yield bad("a first frame that is no protocol", "bad_frame", b"", ping, b"")
    yield bad("a first frame of another protocol", "bad_frame", STORE, ping, b"")
    yield bad("a first frame in lower case", "bad_frame", b"chat/1", ping, b"")
    yield bad("an unknown version", "unsupported_version", b"CHAT/2", ping, b"")
    yield bad("no version", "unsupported_version", b"CHAT/", ping, b"")
    size = limits.HEADER_BYTES_MAX - len(ping) - 4
    filler: list[Part] = [b"\x83", ping[1:], b"\xa1x\xc6" + size.to_bytes(4, "big"), (b"\0", size)]
    yield bad("a header over its limit", "too_large", CHAT, filler, b"")


def not_msgpack() -> Iterator[Vector]:
    yield bad("an empty header", "bad_frame", CHAT, b"", b"")
    yield bad("a header that is JSON", "bad_frame", CHAT, b'{"type":"ping","id":1}', b"")
    yield bad("a byte that msgpack never uses", "bad_frame", CHAT, b"\xc1", b"")
    yield bad("a header that ends too early", "bad_frame", CHAT, ping[:-1], b"")
    yield bad("a header with something behind it", "bad_frame", CHAT, ping + b"\0", b"")
    yield bad("a map that lies about its length", "bad_frame", CHAT, b"\xdf\xff\xff\xff\xff\xa4type\xa4ping", b"")
    yield bad(
        "a list that lies about its length",
        "bad_frame",
        CHAT,
        b"\x82\xa4type\xa3ack\xa4seqs\xdd\xff\xff\xff\xff",
        b"",
    )
    yield bad("a string that lies about its length", "bad_frame", CHAT, b"\x82\xa4type\xdb\xff\xff\xff\xffping", b"")
    yield bad(
        "bytes that lie about their length",
        "bad_frame",
        CHAT,
        b"\x82\xa4type\xa4ping\xa2id\xc6\xff\xff\xff\xff",
        b"",
    )
    deep: list[Part] = [b"\x82\xa4type\xa4ping\xa2id", (b"\x91", 5_000), b"\x01"]
    yield bad("a header nested too deep", "bad_frame", CHAT, deep, b"")
    deep_maps: list[Part] = [b"\x82\xa4type\xa4ping\xa2id", (b"\x81\xa1a", 5_000), b"\x01"]
    yield bad("maps nested too deep", "bad_frame", CHAT, deep_maps, b"")
    yield bad("a string that is not UTF-8", "bad_frame", CHAT, b"\x82\xa4type\xa1\xff\xa2id\x01", b"")
    yield bad("a key that is an integer", "bad_frame", CHAT, b"\x83\xa4type\xa4ping\xa2id\x01\x05\x06", b"")
    yield unfit("a header that is a list", "bad_frame", ["ping", 1])
    yield unfit("a header that is nil", "bad_frame", None)


def headers() -> Iterator[Vector]:
    yield unfit("an unknown type", "unknown_type", {"type": "teleport", **one}, request_id=5)
    yield unfit("an unknown type without an id", "unknown_type", {"type": "teleport"})
    yield unfit("an answer where a request belongs", "unknown_type", {"type": "pong", **one}, request_id=5)
    yield unfit("no type", "bad_request", one, request_id=5)
    yield unfit("a type that is a number", "bad_request", {"type": 1, **one}, request_id=5)
    yield unfit("keys that are bytes", "bad_request", {b"type": "ping", b"id": 5})
    yield unfit("no id", "bad_request", {"type": "ping"})
    for what, value in (
        ("0", 0),
        ("negative", -1),
        ("over 2^53-1", 2**53),
        ("a float", 1.0),
        ("a bool", True),
        ("nil", None),
    ):
        yield unfit(f"an id that is {what}", "bad_request", {"type": "ping", "id": value})


def fields() -> Iterator[Vector]:
    send = {"type": "send", "id": 5, "stream": ONE, "n": 1, "ids": [ONE], "to": ["bob"], "sizes": [2]}
    yield unfit("a missing field", "bad_request", {"type": "resume", **one}, request_id=5)
    yield unfit("nil where there is a default", "bad_request", {"type": "hello", **one, "client": None}, request_id=5)
    yield unfit(
        "a string where bytes belong",
        "bad_request",
        {"type": "resume", **one, "token": "t" * 32},
        request_id=5,
    )
    yield unfit(
        "bytes where a string belongs",
        "bad_request",
        {"type": "lookup", **one, "names": [b"bob"]},
        request_id=5,
    )
    yield unfit("a string where a number belongs", "bad_request", {"type": "fetch", **one, "limit": "9"}, request_id=5)
    yield unfit("a number where a bool belongs", "bad_request", {"type": "fetch", **one, "unread": 1}, request_id=5)
    yield unfit("a map where a list belongs", "bad_request", {"type": "lookup", **one, "names": {}}, request_id=5)
    yield unfit("a token of 31 bytes", "bad_request", {"type": "resume", **one, "token": TOKEN[:31]}, request_id=5)
    yield unfit("a token of 33 bytes", "bad_request", {"type": "resume", **one, "token": TOKEN + b"\0"}, request_id=5)
    yield unfit("a stream of 15 bytes", "bad_request", {**send, "stream": ONE[:15]}, request_id=5)
    yield unfit("n of 0", "bad_request", {**send, "n": 0}, request_id=5)
    yield unfit("a send of no message", "bad_request", {**send, "ids": [], "to": [], "sizes": []}, request_id=5)
    yield unfit("a message to nobody", "bad_request", {**send, "to": [[]]}, request_id=5)
    yield unfit("a name of 33", "bad_request", {**send, "to": ["b" * 33]}, request_id=5)
    yield unfit("a negative size", "bad_request", {**send, "sizes": [-1]}, request_id=5)
    crowd = ["bo"] * (limits.RECIPIENTS_PER_MESSAGE_MAX + 1)
    yield unfit(
        "too many recipients of one message",
        "bad_request",
        {**send, "to": [crowd]},
        request_id=5,
    )
    long_type = "t" * (limits.CONTENT_TYPE_BYTES_MAX + 1)
    yield unfit(
        "a content type of 128",
        "bad_request",
        {**send, "content_types": [long_type]},
        request_id=5,
    )
    for name, value in (
        ("to", "eve"),
        ("sizes", 2),
        ("content_types", "image/png"),
        ("sent_at_us", 1),
        ("reply_to", ONE),
    ):
        column = [*send.get(name, [value]), value]  # type: ignore[misc]
        yield unfit(f"one message with two values in {name}", "bad_request", {**send, name: column}, request_id=5)
    yield unfit("a page of 0", "bad_request", {"type": "fetch", **one, "limit": 0}, request_id=5)
    yield unfit("a page of 1,001", "bad_request", {"type": "fetch", **one, "limit": 1_001}, request_id=5)
    yield unfit("a seq over 2^62", "bad_request", {"type": "ack", **one, "seqs": [SEQ_MAX + 1]}, request_id=5)
    yield unfit("a lookup of no name", "bad_request", {"type": "lookup", **one, "names": []}, request_id=5)
    yield unfit(
        "a lookup of 1,001 names",
        "bad_request",
        {"type": "lookup", **one, "names": ["bo"] * 1_001},
        request_id=5,
    )
    yield unfit("a status of no id", "bad_request", {"type": "status", **one, "ids": []}, request_id=5)
    yield unfit(
        "a beat of more than a day",
        "bad_request",
        {"type": "hello", **one, "heartbeat_ms": 86_400_001},
        request_id=5,
    )


def to_clients() -> Iterator[Vector]:
    yield unfit("to a client: a request", "unknown_type", {"type": "ping", **one}, TO_CLIENT, request_id=5)
    eaten = {"id": ONE, "recipients": [{"name": "bob", "state": "eaten"}]}
    header = {"type": "statuses", **one, "messages": [eaten]}
    yield unfit("to a client: a state that is not known", "bad_request", header, TO_CLIENT, request_id=5)
    header = {"type": "deliver", "sub": 1, "first": 1, "messages": []}
    yield unfit("to a client: a delivery of nothing", "bad_request", header, TO_CLIENT)
    yield bad("to a client: an unknown version", "unsupported_version", b"CHAT/9", ping, b"", direction=TO_CLIENT)
