"""A client without a server: it remembers what it was asked, and answers from memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from restante.messages import Message, Outcome, Outgoing, PageOf, Receipt
from restante.wire.address import parse_address
from restante.wire.envelopes import (
    Account,
    Acked,
    LoggedIn,
    MessageStatus,
    RecipientState,
    Registered,
    Welcome,
)
from restante.wire.errors import ChatError, UnknownRecipient
from restante.wire.ids import once_id

ADDRESS = "chat://127.0.0.1:5999/" + "A" * 43
OTHER_ADDRESS = "chat://127.0.0.1:5999/" + "B" * 42 + "A"
TOKEN = bytes(range(32))
NOW_US = 1_790_000_000_123_456


def message(seq: int, body: bytes = b"hi", **fields: Any) -> Message:
    """A message of the mailbox, of plain text unless told otherwise."""
    told: dict[str, Any] = {
        "seq": seq,
        "id": seq.to_bytes(16, "big"),
        "sender": "alice",
        "to": ["bob"],
        "body": body,
        "content_type": "text/plain; charset=utf-8",
        "sent_at_us": NOW_US - 1_000_000,
        "stored_at_us": NOW_US,
        "state": "stored",
    }
    return Message(**{**told, **fields})


class FakeClient:
    """Stands for `restante.client.Client`; one is shared by all commands of a test."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.address = ADDRESS
        self.sent: list[Outgoing] = []
        self.mailbox: list[Message] = []
        self.arriving: list[Message] = []
        self.asked: dict[str, Any] = {}
        self.acked: list[tuple[list[int | bytes], bool]] = []
        self.unknown: set[int | bytes] = set()
        self.names = {"alice", "bob", "eve"}
        self.fails: BaseException | None = None
        self.fails_after = 10**9
        self.refuses: dict[int, ChatError] = {}
        self.welcome = Welcome(id=1, version=1, server="fake 1", heartbeat_ms=1000, auth=True, store=True)
        self.calls: list[tuple[Any, ...]] = []
        self.connections: list[bool] = []
        """Lost (False) and there again (True) while somebody follows."""

    def made(self, address: str | None = None, **given: Any) -> Self:
        """Takes the class's place."""
        self.given = {"address": address, **given}
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.calls.append(("closed",))

    def _maybe_fail(self) -> None:
        if self.fails is not None and len(self.sent) >= self.fails_after:
            raise self.fails

    def hello(self) -> Welcome:
        self._maybe_fail()
        return self.welcome

    def register(self, name: str, password: str, *, display_name: str = "") -> Registered:
        self._maybe_fail()
        self.calls.append(("register", name, password, display_name))
        return Registered(id=1, account=7, name=name)

    def login(self, name: str, password: str, *, device: str = "") -> LoggedIn:
        self._maybe_fail()
        self.calls.append(("login", name, password))
        return LoggedIn(id=2, account=7, name=name, expires_at_us=NOW_US, token=TOKEN)

    def logout(self) -> None:
        self._maybe_fail()
        self.calls.append(("logout",))

    def passwd(self, old: str, new: str) -> LoggedIn:
        self.calls.append(("passwd", old, new))
        return LoggedIn(id=2, account=7, name="alice", expires_at_us=NOW_US, token=TOKEN[::-1])

    def overview(self) -> Account:
        return Account(id=1, account=7, name="alice", unread=3, total=1234)

    def send(self, to: Iterable[str], body: bytes, **given: Any) -> Receipt:
        self._maybe_fail()
        outgoing = Outgoing(list(to), body, **given)
        outcome = self._take(outgoing)
        if outcome.error is not None:
            raise outcome.error
        assert outcome.receipt is not None
        return outcome.receipt

    def send_many(self, messages: Iterable[Outgoing]) -> Iterator[Outcome]:
        for one in messages:
            if self.fails is not None and len(self.sent) >= self.fails_after:
                raise self.fails
            yield self._take(one)

    def _take(self, outgoing: Outgoing) -> Outcome:
        index = len(self.sent)
        self.sent.append(outgoing)
        error = self.refuses.get(index)
        strangers = [name for name in outgoing.to if name not in self.names]
        if strangers:
            error = UnknownRecipient(f"No account is called {strangers[0]!r}.")
        one_id = outgoing.id or once_id(7, outgoing.once or "?")
        return Outcome(index=index, outgoing=outgoing, id=one_id, seq=index + 1, stored_at_us=NOW_US, error=error)

    def inbox(self, **asked: Any) -> Iterator[Message]:
        self._maybe_fail()
        self.asked = {"follow": False, "wait_s": None, **asked}
        wanted = [one for one in self.mailbox if not asked["unread"] or one.state != "read"]
        if self.asked["follow"]:
            for there in self.connections:
                self.notice(there)
            wanted += self.arriving
        yield from wanted[: asked.get("limit")]

    def fetch(self, after: int, *, limit: int, unread: bool, peek: bool) -> PageOf:
        assert peek
        rest = [one for one in self.mailbox if one.seq > after and not (unread and one.state == "read")]
        return PageOf(rest[:limit], through=after, more=False, history=bytes(16))

    def lookup(self, names: Iterable[str]) -> list[str]:
        asked = list(names)
        self.calls.append(("lookup", *asked))
        return [name for name in asked if name in self.names]

    def on_connection(self, notice: Callable[[bool], None]) -> None:
        self.notice = notice

    def ack(self, messages: Iterable[int | bytes], *, read: bool = True) -> Acked:
        marks = list(messages)
        self.acked.append((marks, read))
        return Acked(
            id=1,
            changed=len([one for one in marks if one not in self.unknown]),
            unknown_seqs=[one for one in marks if isinstance(one, int) and one in self.unknown],
            unknown_ids=[one for one in marks if isinstance(one, bytes) and one in self.unknown],
        )

    def status(self, ids: Iterable[bytes]) -> list[MessageStatus]:
        return [
            MessageStatus(id=one)
            if one in self.unknown
            else MessageStatus(
                id=one,
                seq=5,
                stored_at_us=NOW_US,
                recipients=[RecipientState(name="bob", state="read", state_at_us=NOW_US)],
            )
            for one in ids
        ]


assert parse_address(ADDRESS).key != parse_address(OTHER_ADDRESS).key
