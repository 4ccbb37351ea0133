"""Envelopes between a client and the broker: each type minimal, full, and at the edges of its limits."""

from __future__ import annotations

from collections.abc import Iterator

from restante.wire import envelopes as e
from restante.wire import limits
from tools.vectors.form import (
    HISTORY,
    INT_MAX,
    MESSAGE,
    NAME_MAX,
    NOW_US,
    ONE,
    SEQ_MAX,
    THREE,
    TO_BROKER,
    TO_CLIENT,
    TOKEN,
    TWO,
    UMLAUTS,
    Vector,
    good,
    lenient,
    unfit,
)


def session() -> Iterator[Vector]:
    up, down = TO_BROKER, TO_CLIENT
    yield good("hello, minimal", up, e.Hello(id=1))
    yield good("hello, full", up, e.Hello(id=1, client="restante/0.1.0", heartbeat_ms=5_000))
    yield good("hello, at its limits", up, e.Hello(id=INT_MAX, client="c" * 128, heartbeat_ms=86_400_000))
    yield good("welcome, minimal", down, e.Welcome(id=1, version=1, server="restante", heartbeat_ms=30_000))
    small = e.Limits(**{name: n for n, name in enumerate(e.Limits.__struct_fields__, 1)})
    yield good(
        "welcome, full",
        down,
        e.Welcome(id=2, version=1, server="restante/0.1.0", heartbeat_ms=1_000, auth=True, store=True, limits=small),
    )
    yield good("register, minimal", up, e.Register(id=2, op=ONE, name="bob", password="correct horse"))
    yield good(
        "register, full, at its limits",
        up,
        e.Register(id=2, op=ONE, name=NAME_MAX, password="p" * 1_024, display_name="ß" * 64),
    )
    yield good("registered", down, e.Registered(id=2, account=7, name="bob"))
    yield good("login, minimal", up, e.Login(id=3, op=TWO, name="bob", password="correct horse"))
    yield good("login, full", up, e.Login(id=3, op=TWO, name="bob", password="πάσσωορντ", device="d" * 64))
    yield good(
        "session, after login",
        down,
        e.LoggedIn(id=3, account=7, name="bob", expires_at_us=NOW_US, token=TOKEN),
    )
    yield good("resume", up, e.Resume(id=4, token=TOKEN))
    yield good("session, after resume", down, e.LoggedIn(id=4, account=7, name="bob", expires_at_us=SEQ_MAX))
    yield good("logout", up, e.Logout(id=5, op=THREE))
    yield good("done", down, e.Done(id=5))
    yield good("passwd", up, e.Passwd(id=6, op=ONE, old="correct horse", new="battery staple"))
    yield good("tokens", up, e.Tokens(id=7))
    yield good("token_list, empty", down, e.TokenList(id=7, tokens=[]))
    info = e.TokenInfo(token=1, device="", created_at_us=1, last_used_at_us=0, expires_at_us=3)
    here = e.TokenInfo(
        token=2,
        device="laptop",
        created_at_us=NOW_US,
        last_used_at_us=NOW_US,
        expires_at_us=SEQ_MAX,
        current=True,
    )
    yield good("token_list, full", down, e.TokenList(id=7, tokens=[info, here]))
    yield good("revoke", up, e.Revoke(id=8, op=ONE, token=1))
    yield good("lookup, one", up, e.Lookup(id=9, names=["eve"]))
    yield good("lookup, at its limit", up, e.Lookup(id=9, names=["bo"] * limits.NAMES_PER_LOOKUP_MAX))
    yield good("found, none", down, e.Found(id=9, names=[]))
    yield good("found, two", down, e.Found(id=9, names=["eve", "bob"]))
    yield good("overview", up, e.Overview(id=10))
    yield good("account", down, e.Account(id=10, account=7, name="bob", unread=3, total=INT_MAX))
    yield good("ping", up, e.Ping(id=11))
    yield good("pong", down, e.Pong(id=11))


def sending() -> Iterator[Vector]:
    up = TO_BROKER
    hi = e.Item(id=MESSAGE, to=["bob"], size=2)
    yield good("send, minimal", up, e.Send.of(12, ONE, 1, [hi]), b"hi")
    full = e.Item(
        id=TWO,
        to=["bob", "eve"],
        size=len(UMLAUTS.encode()),
        content_type="text/markdown",
        sent_at_us=NOW_US,
        reply_to=MESSAGE,
    )
    raw = e.Item(id=THREE, to=["bob"], size=3, content_type="application/octet-stream")
    yield good(
        "send, three messages",
        up,
        e.Send.of(13, ONE, 2, [hi, full, raw]),
        b"hi" + UMLAUTS.encode() + b"\xff\x00\xfe",
    )
    most = e.Item(
        id=b"\xff" * 16,
        to=["bo"] * limits.RECIPIENTS_PER_MESSAGE_MAX,
        size=1,
        content_type="t" * limits.CONTENT_TYPE_BYTES_MAX,
        sent_at_us=SEQ_MAX,
    )
    yield good("send, at its limits", up, e.Send.of(INT_MAX, b"\0" * 16, INT_MAX, [most]), b"\0")
    yield good(
        "send, an empty content",
        up,
        e.Send.of(14, ONE, 3, [e.Item(id=ONE, to=["bob"], size=0)]),
    )
    yield good(
        "send, an ill-formed name, which is refused by its message's result",
        up,
        e.Send.of(15, ONE, 4, [e.Item(id=ONE, to=["Bob!", ""], size=2)]),
        b"hi",
    )
    yield from _sent()


def _sent() -> Iterator[Vector]:
    up, down = TO_BROKER, TO_CLIENT
    yield good("sent, accepted", down, e.Sent.of(12, [e.Result(seq=41, stored_at_us=NOW_US)]))
    yield good(
        "sent, accepted, before, and refused",
        down,
        e.Sent.of(
            13,
            [
                e.Result(seq=SEQ_MAX, stored_at_us=NOW_US),
                e.Result(seq=41, stored_at_us=NOW_US, again=True),
                e.Result(code="unknown_recipient", text="nobody is called eve"),
            ],
        ),
    )
    yield good("status", up, e.Status(id=16, ids=[MESSAGE, TWO]))
    yield good("status, at its limit", up, e.Status(id=16, ids=[ONE] * limits.STATUS_IDS_MAX))
    yield good(
        "statuses",
        down,
        e.Statuses(
            id=16,
            messages=[
                e.MessageStatus(
                    id=MESSAGE,
                    seq=41,
                    stored_at_us=NOW_US,
                    recipients=[
                        e.RecipientState(name="bob", state="read", state_at_us=NOW_US + 1),
                        e.RecipientState(name="eve", state="delivered"),
                        e.RecipientState(name="mallory", state="stored"),
                    ],
                ),
                e.MessageStatus(id=TWO),
            ],
        ),
    )


def reading() -> Iterator[Vector]:
    up, down = TO_BROKER, TO_CLIENT
    yield good("fetch, minimal", up, e.Fetch(id=17))
    yield good(
        "fetch, full, at its limits",
        up,
        e.Fetch(id=17, after=SEQ_MAX, limit=1_000, unread=False, sender=NAME_MAX, history=HISTORY, peek=True),
    )
    plain = e.Entry(seq=41, id=MESSAGE, sender="eve", to=["bob"], size=2, stored_at_us=NOW_US)
    full = e.Entry(
        seq=42,
        id=TWO,
        sender="eve",
        to=["bob", "mallory"],
        size=3,
        stored_at_us=NOW_US,
        content_type="application/octet-stream",
        sent_at_us=NOW_US - 5,
        reply_to=MESSAGE,
        state="read",
    )
    yield good("page, empty", down, e.Page(id=17, history=HISTORY, through=0))
    yield good(
        "page, two messages and more",
        down,
        e.Page(id=17, history=HISTORY, through=42, more=True, messages=[plain, full]),
        b"hi\xff\x00\xfe",
    )
    yield good("subscribe, minimal", up, e.Subscribe(id=18, sub=1))
    yield good(
        "subscribe, full",
        up,
        e.Subscribe(id=18, sub=INT_MAX, after=41, sender="eve", history=HISTORY, messages=100, bytes=1 << 20),
    )
    yield good("subscribed", down, e.Subscribed(id=18, sub=1, history=HISTORY))
    yield good("credit", up, e.Credit(sub=1, messages=200, bytes=2 << 20))
    yield good("deliver, one", down, e.Deliver(sub=1, first=1, messages=[plain]), b"hi")
    yield good("deliver, two", down, e.Deliver(sub=1, first=2, messages=[plain, full]), b"hi\xff\x00\xfe")
    yield good("unsubscribe", up, e.Unsubscribe(id=19, sub=1))
    yield good("ack, nothing", up, e.Ack(id=20))
    yield good("ack, seqs", up, e.Ack(id=20, seqs=[41, 42, SEQ_MAX]))
    yield good("ack, ids, unread again", up, e.Ack(id=20, ids=[MESSAGE, TWO], read=False))
    yield good("ack, at its limit", up, e.Ack(id=20, seqs=[1] * limits.ACKS_PER_REQUEST_MAX))
    yield good("acked, minimal", down, e.Acked(id=20))
    yield good("acked, full", down, e.Acked(id=20, changed=2, unknown_seqs=[42], unknown_ids=[TWO]))
    yield good("marked", down, e.Marked(sub=1, seqs=[41, 42]))
    yield good("marked, unread again", down, e.Marked(sub=1, seqs=[41], read=False))


def errors() -> Iterator[Vector]:
    down = TO_CLIENT
    yield good("error, minimal", down, e.Error(id=21, code="unknown_subscription"))
    yield good("error, busy", down, e.Error(id=21, code="busy", text="too much waits already", retry_after_ms=250))
    yield good("error, gap", down, e.Error(id=21, code="gap", text="the stream expects 7", expected=7))
    yield good(
        "error, fatal, of no request",
        down,
        e.Error(code="session_ended", text="the token was revoked", fatal=True),
    )
    yield good("error, of a request that could not be read", down, e.Error(code="bad_frame", text="not msgpack"))
    yield good("error, a code that is not known yet", down, e.Error(id=1, code="c" * 64, text="t" * 4_096))


def leniency() -> Iterator[Vector]:
    ping = {"type": "ping", "id": 1}
    yield lenient("two frames are enough where there is no body", ping, ping, frames=2)
    yield lenient("unknown keys are ignored", {**ping, "x-trace": {"a": [1, b"\0", 1.5]}, "expires": None}, ping)
    yield lenient("the order of keys is free", {"id": 1, "type": "ping"}, ping)
    yield lenient("an extension type under an unknown key", {}, ping, b"\x83\xa4type\xa4ping\xa2id\x01\xa1x\xd4\x05\0")
    yield lenient("integers in a wider form", {}, ping, b"\x82\xa4type\xa4ping\xa2id\xcf\0\0\0\0\0\0\0\x01")
    yield lenient("a map and its strings in a wider form", {}, ping, b"\xde\0\x02\xd9\x04type\xda\0\x04ping\xa2id\x01")
    yield lenient(
        "a key that stands twice counts as it stood last",
        {},
        ping,
        b"\x83\xa4type\xa4ping\xa2id\x02\xa2id\x01",
    )
    spelled = {
        "type": "fetch",
        "id": 1,
        "after": 0,
        "limit": 100,
        "unread": True,
        "from": "",
        "history": None,
    }
    yield lenient("defaults spelled out", spelled | {"peek": False}, {"type": "fetch", "id": 1})
    yield from lenient_clients()


def lenient_clients() -> Iterator[Vector]:
    """What a newer broker may say to a client of today."""
    pong = {"type": "pong", "id": 1}
    acked = {"type": "acked", "id": 1}
    info = {"token": 1, "device": "", "created_at_us": 1, "last_used_at_us": 0, "expires_at_us": 3}
    tokens = {"type": "token_list", "id": 1, "tokens": [info]}
    new = {"expires_in_ms": 5, "trace": {"a": None}}
    for name, header, meaning in (
        ("unknown keys are ignored", {**pong, **new}, pong),
        ("unknown keys in a map inside are ignored", {**tokens, "tokens": [{**info, **new}]}, tokens),
        ("what has a default may be missing", {**acked, "new": True}, acked),
        ("an unknown key's value may be a map whose keys are no strings", {**pong, "by_seq": {41: 1, None: {}}}, pong),
        ("an error of an unknown code", {**new, "type": "error", "code": "new"}, {"type": "error", "code": "new"}),
    ):
        yield lenient(f"to a client: {name}", header, meaning, direction=TO_CLIENT)
    yield lenient("to a client: two frames are enough", pong, pong, frames=2, direction=TO_CLIENT)
    header = {"type": "presence", "names": ["eve"]}
    yield unfit("to a client: an unknown type, which is ignored", "unknown_type", header, TO_CLIENT)
