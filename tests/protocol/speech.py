"""What tests of the protocol say often, and how they look at what came back."""

from __future__ import annotations

from typing import Any, TypeVar

from restante.wire import envelopes as e
from restante.wire.errors import CODES
from tests.protocol.dialogue import PASSWORD, Client

STREAM = bytes([7]) * 16

H = TypeVar("H", bound=e.ToClient)


def message(n: int, *to: str, size: int = 2, **more: Any) -> e.Item:
    return e.Item(id=n.to_bytes(16, "big"), to=list(to or ("bob",)), size=size, **more)


def send(client: Client, n: int, *items: e.Item, stream: bytes = STREAM, body: bytes | None = None) -> e.ToClient:
    request = e.Send.of(client.next_id(), stream, n, list(items or (message(n),)))
    content = b"".join(b"x" * item.size for item in request.messages) if body is None else body
    return client.ask(request, content)


def codes(got: e.ToClient) -> list[str]:
    """The codes of a `sent`, "" for what was accepted."""
    assert isinstance(got, e.Sent), got
    return [result.code for result in got.results]


def refused(got: e.ToClient, code: str, *, fatal: bool | None = None) -> e.Error:
    """The error, which must have this code, and keep to the table of codes."""
    assert isinstance(got, e.Error), got
    assert got.code == code, got
    assert got.fatal is (CODES[code].fatal if fatal is None else fatal)
    assert (got.retry_after_ms is not None) is CODES[code].passes
    assert got.text
    return got


def of_type(client: Client, kind: type[H]) -> list[H]:
    """All that was ever heard of one type."""
    return [header for header, _ in client.heard if isinstance(header, kind)]


def deliveries(client: Client) -> list[tuple[int, int]]:
    """(number, seq) of all that was delivered."""
    found = []
    for header, _ in client.heard:
        if isinstance(header, e.Deliver):
            found += [(header.first + at, entry.seq) for at, entry in enumerate(header.messages)]
    return found


REQUESTS: dict[str, e.ToBroker] = {
    "hello": e.Hello(id=90),
    "register": e.Register(id=90, op=b"r" * 16, name="newcomer", password=PASSWORD),
    "login": e.Login(id=90, op=b"l" * 16, name="bob", password=PASSWORD),
    "resume": e.Resume(id=90, token=bytes(32)),
    "logout": e.Logout(id=90, op=b"o" * 16),
    "passwd": e.Passwd(id=90, op=b"p" * 16, old=PASSWORD, new="battery staple"),
    "tokens": e.Tokens(id=90),
    "revoke": e.Revoke(id=90, op=b"v" * 16, token=1),
    "lookup": e.Lookup(id=90, names=["bob"]),
    "overview": e.Overview(id=90),
    "send": e.Send.of(90, STREAM, 1, [message(1, size=0)]),
    "fetch": e.Fetch(id=90),
    "subscribe": e.Subscribe(id=90, sub=1),
    "unsubscribe": e.Unsubscribe(id=90, sub=1),
    "ack": e.Ack(id=90),
    "status": e.Status(id=90, ids=[bytes(16)]),
    "ping": e.Ping(id=90),
}
NEED_A_LOGIN = sorted(set(REQUESTS) - {"hello", "register", "login", "resume"})
