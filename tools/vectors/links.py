"""Envelopes between the broker and its workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack
import msgspec

from restante.wire import auth_link as a
from restante.wire import envelopes as e
from restante.wire import store_link as s
from tools.vectors.form import (
    AUTH,
    CHAT,
    FROM_STORE,
    FROM_WORKER,
    HISTORY,
    MESSAGE,
    NOW_US,
    ONE,
    STORE,
    THREE,
    TO_STORE,
    TO_WORKER,
    TOKEN,
    TWO,
    Vector,
    bad,
    good,
    unfit,
)


def auth_link() -> Iterator[Vector]:
    up, down = FROM_WORKER, TO_WORKER
    questions: list[tuple[str, a.Question]] = [
        ("make_account, minimal", a.MakeAccount(op=ONE, name="bob", password="correct horse")),
        (
            "make_account, full",
            a.MakeAccount(op=ONE, name="bob", password="correct horse", display_name="Bob"),
        ),
        ("log_in, minimal", a.LogIn(op=ONE, name="bob", password="correct horse")),
        ("log_in, full", a.LogIn(op=ONE, name="bob", password="correct horse", device="laptop")),
        ("use_token", a.UseToken(token=TOKEN)),
        ("end_token", a.EndToken(op=ONE, account=7, token_id=2)),
        (
            "change_password, minimal",
            a.ChangePassword(op=ONE, account=7, old="correct horse", new="battery staple"),
        ),
        (
            "change_password, full",
            a.ChangePassword(op=ONE, account=7, old="correct horse", new="battery staple", device="laptop", token_id=2),
        ),
        ("list_tokens", a.ListTokens(account=7, token_id=2)),
        ("resolve_names", a.ResolveNames(names=["bob", "eve"])),
        ("check_tokens", a.CheckTokens(token_ids=[1, 2])),
    ]
    for n, (name, question) in enumerate(questions, 1):
        yield good(f"ask: {name}", down, a.Ask(n=n, question=question))
    made = a.TokenMade(account=7, name="bob", token_id=2, token=TOKEN, expires_at_us=NOW_US)
    info = e.TokenInfo(token=2, device="laptop", created_at_us=1, last_used_at_us=2, expires_at_us=3, current=True)
    outcomes: list[tuple[str, a.Outcome]] = [
        ("account_made", a.AccountMade(account=7, name="bob")),
        ("token_made, minimal", made),
        ("token_made, full", msgspec.structs.replace(made, ended=[1, 3])),
        ("token_valid", a.TokenValid(account=7, name="bob", token_id=2, expires_at_us=NOW_US)),
        ("tokens_ended, none", a.TokensEnded()),
        ("tokens_ended, two", a.TokensEnded(ended=[1, 2])),
        ("tokens_listed", a.TokensListed(tokens=[info])),
        ("names_resolved", a.NamesResolved(accounts={"bob": 7, "eve": 9})),
        ("refused, minimal", a.Refused(code="wrong_credentials")),
        ("refused, full", a.Refused(code="rate_limited", text="too many attempts", retry_after_ms=6_000)),
    ]
    for n, (name, outcome) in enumerate(outcomes, 1):
        yield good(f"told: {name}", up, a.Told(n=n, outcome=outcome))
    yield good("ready", up, a.Ready(worker=ONE, capacity=64))
    yield good("beat, of a worker", up, a.Beat())
    yield good("beat, of the broker", down, a.Beat())
    yield good("who", down, a.Who())
    yield good("leaving", up, a.Leaving())
    yield bad("no frame but the first", "bad_frame", AUTH, direction=up)
    yield bad("the protocol of clients", "bad_frame", CHAT, msgpack.packb({"type": "beat"}), direction=up)
    yield bad("an unknown version", "unsupported_version", b"AUTH/2", msgpack.packb({"type": "beat"}), direction=up)
    yield unfit("an unknown type", "unknown_type", {"type": "bat"}, up)
    yield unfit("a question of a worker", "unknown_type", {"type": "ask", "n": 1, "question": {"type": "who"}}, up)
    yield unfit(
        "an outcome of an unknown type",
        "bad_request",
        {"type": "told", "n": 1, "outcome": {"type": "odd"}},
        up,
    )
    yield unfit("a worker without a name", "bad_request", {"type": "ready", "capacity": 1}, up)


def store_link() -> Iterator[Vector]:
    up, down = FROM_STORE, TO_STORE
    at: dict[str, Any] = {"epoch": 3, "generation": 2}
    of: dict[str, Any] = {"epoch": 3, "name": "broker-1", "generation": 2}
    yield good("open", down, s.Open(name="broker-1", nonce=ONE))
    yield good("opened", up, s.Opened(nonce=ONE, epoch=3, generation=2, history=HISTORY, high=41))
    yield from _batches(of, at)
    yield good("closed", up, s.Closed(**at))
    yield good("closed, fenced", up, s.Closed(**at, fenced=True))
    yield from _questions(of, at)
    yield good("beat, of the broker", down, s.Beat(**of))
    yield good("beat, of the store", up, s.Beat(**of))
    yield from _malformed(of)


def _batches(of: dict[str, Any], at: dict[str, Any]) -> Iterator[Vector]:
    up, down = FROM_STORE, TO_STORE
    plain = s.Message(id=MESSAGE, to=["bob"], mailboxes=[7], size=2)
    full = s.Message(
        id=TWO,
        to=["bob", "eve"],
        mailboxes=[7, 9],
        size=3,
        content_type="application/octet-stream",
        sent_at_us=NOW_US,
        reply_to=MESSAGE,
    )
    refused = s.Message(
        id=THREE,
        to=["nobody"],
        mailboxes=[],
        size=0,
        refusal="unknown_recipient",
        refusal_text="nobody is called nobody",
    )
    commands: list[s.Command] = [
        s.StoreMessages.of(9, "eve", [plain, full, refused]),
        s.MarkMessages(mailbox=7),
        s.MarkMessages(mailbox=7, seqs=[41], ids=[TWO], read=False),
        s.NoteDelivered(mailbox=7, through=42),
        s.CloseMailbox(mailbox=11),
    ]
    yield good("batch, of nothing", down, s.Batch(**of, n=1, commands=[]))
    yield good("batch, of every command", down, s.Batch(**of, n=2, commands=commands), b"hi\xff\x00\xfe")
    results = [e.Result(seq=42, stored_at_us=NOW_US), e.Result(seq=41, stored_at_us=NOW_US, again=True)]
    outcomes: list[s.Outcome] = [
        s.Stored.of([*results, e.Result(code="unknown_recipient", text="nobody is called nobody")]),
        s.MarkedMessages(),
        s.MarkedMessages(changed=[41], unknown_seqs=[43], unknown_ids=[THREE]),
        s.Noted(),
        s.Noted(),
    ]
    yield good("confirmed", up, s.Confirmed(**at, n=2, base=41, high=42, outcomes=outcomes))
    yield good("aborted, minimal", up, s.Aborted(**at, n=3, code="storage_failed"))
    yield good("aborted, full", up, s.Aborted(**at, n=3, code="storage_full", text="no space left"))
    yield good("expecting", up, s.Expecting(**at, n=3))


def _questions(of: dict[str, Any], at: dict[str, Any]) -> Iterator[Vector]:
    up, down = FROM_STORE, TO_STORE
    queries: list[tuple[str, s.Query]] = [
        ("read_page, minimal", s.ReadPage(mailbox=7, limit=100, bytes_max=4 << 20)),
        (
            "read_page, full",
            s.ReadPage(mailbox=7, after=41, limit=1, bytes_max=1, unread=False, sender="eve", history=HISTORY),
        ),
        ("read_status", s.ReadStatus(sender=9, ids=[MESSAGE])),
        ("count_mailbox", s.CountMailbox(mailbox=7)),
    ]
    for n, (name, query) in enumerate(queries, 1):
        yield good(f"ask: {name}", down, s.Ask(**of, n=n, query=query))
    entry = e.Entry(seq=41, id=MESSAGE, sender="eve", to=["bob"], size=2, stored_at_us=NOW_US)
    seen = e.MessageStatus(
        id=MESSAGE, seq=41, stored_at_us=NOW_US, recipients=[e.RecipientState(name="bob", state="stored")]
    )
    readings: list[tuple[str, s.Reading, bytes]] = [
        ("page_read, empty", s.PageRead(entries=[], through=41, more=False), b""),
        ("page_read", s.PageRead(entries=[entry], through=41, more=True), b"hi"),
        ("status_read", s.StatusRead(messages=[seen]), b""),
        ("mailbox_counted", s.MailboxCounted(unread=1, total=2), b""),
        ("failed, minimal", s.Failed(code="history_changed"), b""),
        ("failed, full", s.Failed(code="storage_failed", text="the disk refused to read"), b""),
    ]
    for n, (name, reading, body) in enumerate(readings, 1):
        yield good(f"answered: {name}", up, s.Answered(**at, n=n, history=HISTORY, reading=reading), body)


def _malformed(of: dict[str, Any]) -> Iterator[Vector]:
    up, down = FROM_STORE, TO_STORE
    yield bad("no frame but the first", "bad_frame", STORE, direction=up)
    yield bad(
        "an unknown version",
        "unsupported_version",
        b"STORE/2",
        msgpack.packb({"type": "beat"}),
        direction=down,
    )
    yield unfit("an unknown type", "unknown_type", {"type": "bat"}, down)
    odd = {"type": "batch", **of, "n": 1, "commands": [{"type": "drop"}]}
    yield unfit("a command of an unknown type", "bad_request", odd, down)
    yield unfit("a broker without a name", "bad_request", {"type": "open", "name": "", "nonce": ONE}, down)
    yield unfit("a name of 65", "bad_request", {"type": "open", "name": "b" * 65, "nonce": ONE}, down)
    below = {"type": "batch", **of, "n": 1, "commands": [{"type": "close_mailbox", "mailbox": -1}]}
    yield unfit("a mailbox below zero", "bad_request", below, down)
