"""Every request of the two clients: what is asked, and what the user gets of the answer.

A call is made by a function here and carried by either shell, so that the two differ in nothing but waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, Generic, TypeVar

from msgspec import Struct

from restante.messages import Received
from restante.wire import codec, envelopes, limits
from restante.wire.envelopes import (
    Account,
    Acked,
    Done,
    Entry,
    LoggedIn,
    MessageStatus,
    Page,
    Registered,
    Request,
    ToClient,
    TokenInfo,
    Welcome,
)  # fmt: skip
from restante.wire.errors import BadName, BadPassword, BadRequest, RemoteProtocolError

T = TypeVar("T")
A = TypeVar("A", bound=envelopes.Answer)
M = TypeVar("M", bound=Received)

INBOX_PAGE: Final = 500
"""Messages an inbox asks for at once: large enough that asking costs nothing, small enough to begin soon."""

Mark = Received | int | bytes
"""What an acknowledgement can name: a message, its seq, or its id."""


class Call(Struct, Generic[T], frozen=True):
    """A request, and how its answer is read. Reading raises RemoteProtocolError for an answer of another kind."""

    header: Request
    read: Callable[[ToClient, bytes], T]


def _as(kind: type[A]) -> Callable[[ToClient, bytes], A]:
    """Reads an answer as it is."""

    def read(answer: ToClient, body: bytes) -> A:
        if not isinstance(answer, kind):
            raise RemoteProtocolError(
                "bad_request", f"the server answered {type(answer).__name__}, not {kind.__name__}"
            )
        return answer

    return read


def _nothing(answer: ToClient, body: bytes) -> None:
    _as(Done)(answer, body)


def hello() -> Call[Welcome]:
    """Greet the server on a new connection."""
    return Call(envelopes.Hello(id=1), _as(Welcome))


def join() -> Call[LoggedIn]:
    """Have an account; the session answers it with its own token."""
    return Call(envelopes.Resume(id=1, token=bytes(limits.TOKEN_BYTES)), _as(LoggedIn))


def register(op: bytes, name: str, password: str, display_name: str) -> Call[Registered]:
    """Make an account. Raises BadName, BadPassword, BadRequest for what can't even be asked."""
    _check_name(name)
    _check_password(password)
    if len(display_name) > limits.DISPLAY_NAME_CHARS_MAX:
        raise BadRequest(f"a display name has at most {limits.DISPLAY_NAME_CHARS_MAX} characters")
    header = envelopes.Register(id=1, op=op, name=name, password=password, display_name=display_name)
    return Call(header, _as(Registered))


def login(op: bytes, name: str, password: str, device: str) -> Call[LoggedIn]:
    """Log in. Raises as `register`."""
    _check_name(name)
    _check_password(password)
    if len(device) > limits.DEVICE_CHARS_MAX:
        raise BadRequest(f"a device's name has at most {limits.DEVICE_CHARS_MAX} characters")
    return Call(envelopes.Login(id=1, op=op, name=name, password=password, device=device), _as(LoggedIn))


def logout(op: bytes) -> Call[None]:
    """End this token."""
    return Call(envelopes.Logout(id=1, op=op), _nothing)


def passwd(op: bytes, old: str, new: str) -> Call[LoggedIn]:
    """Change the password. Raises BadPassword for what can't even be asked."""
    _check_password(old)
    _check_password(new)
    return Call(envelopes.Passwd(id=1, op=op, old=old, new=new), _as(LoggedIn))


def tokens() -> Call[list[TokenInfo]]:
    """The account's tokens."""
    read = _as(envelopes.TokenList)
    return Call(envelopes.Tokens(id=1), lambda answer, body: read(answer, body).tokens)


def revoke(op: bytes, token_id: int) -> Call[None]:
    """End one of the account's tokens."""
    return Call(envelopes.Revoke(id=1, op=op, token=token_id), _nothing)


def lookup(names: list[str]) -> Call[list[str]]:
    """Which of at most NAMES_PER_LOOKUP_MAX names have an account."""
    read = _as(envelopes.Found)
    return Call(envelopes.Lookup(id=1, names=names), lambda answer, body: read(answer, body).names)


def overview() -> Call[Account]:
    """Who am I, and how much is unread."""
    return Call(envelopes.Overview(id=1), _as(Account))


def fetch(
    after: int, *, limit: int, unread: bool, sender: str, peek: bool, history: bytes | None = None
) -> Call[tuple[Page, list[tuple[Entry, bytes]]]]:
    """A page of the mailbox, its entries with their contents. Raises BadRequest, BadName for what can't be asked."""
    if not 1 <= limit <= limits.PAGE_MESSAGES_MAX:
        raise BadRequest(f"a page has 1 to {limits.PAGE_MESSAGES_MAX} messages, not {limit}")
    if after < 0:
        raise BadRequest(f"a place in the mailbox is not negative, {after} is")
    if sender:
        _check_name(sender)
    header = envelopes.Fetch(id=1, after=after, limit=limit, unread=unread, sender=sender, peek=peek, history=history)

    def read(answer: ToClient, body: bytes) -> tuple[Page, list[tuple[Entry, bytes]]]:
        page = _as(Page)(answer, body)
        contents = codec.cut(body, (entry.size for entry in page.messages))
        return page, list(zip(page.messages, contents, strict=True))

    return Call(header, read)


def status(ids: list[bytes]) -> Call[list[MessageStatus]]:
    """How far at most STATUS_IDS_MAX messages have come. Raises BadRequest for what is no id."""
    for each in ids:
        _check_id(each)
    read = _as(envelopes.Statuses)
    return Call(envelopes.Status(id=1, ids=ids), lambda answer, body: read(answer, body).messages)


def sort_marks(marks: Mark | Iterable[Mark]) -> Iterator[tuple[list[int], list[bytes]]]:
    """What is to be acknowledged, as seqs and ids, in lots of at most ACKS_PER_REQUEST_MAX. Raises BadRequest."""
    each = iter([marks] if isinstance(marks, Received | int | bytes) else marks)
    while lot := list(islice(each, limits.ACKS_PER_REQUEST_MAX)):
        seqs = [mark.seq if isinstance(mark, Received) else mark for mark in lot if not isinstance(mark, bytes)]
        ids = [mark for mark in lot if isinstance(mark, bytes)]
        if min(seqs, default=0) < 0:
            raise BadRequest("a place in the mailbox is not negative")
        for message_id in ids:
            _check_id(message_id)
        yield seqs, ids


def read_acked(answer: ToClient, body: bytes) -> Acked:
    """The answer to an acknowledgement."""
    return _as(Acked)(answer, body)


def add_acked(total: Acked, more: Acked) -> Acked:
    """What came of several lots."""
    return Acked(
        id=total.id,
        changed=total.changed + more.changed,
        unknown_seqs=total.unknown_seqs + more.unknown_seqs,
        unknown_ids=total.unknown_ids + more.unknown_ids,
    )


def in_lots(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """A list in pieces that one request takes."""
    rest = iter(items)
    while lot := list(islice(rest, size)):
        yield lot


def check_names(names: Iterable[str]) -> Iterator[str]:
    """Names that may be asked for. Raises BadName for one that would make the whole request ill-formed."""
    for name in names:
        _check_name(name)
        yield name


def _check_name(name: str) -> None:
    """Keep from the wire what is no header any more; the server says what else is wrong with a name."""
    if len(name) > limits.NAME_CHARS_MAX:
        raise BadName(f"{name[:64]!r} is no name: it has more than {limits.NAME_CHARS_MAX} characters")


def _check_password(password: str) -> None:
    if len(password.encode(errors="surrogatepass")) > limits.PASSWORD_BYTES_MAX:
        raise BadPassword(f"a password has at most {limits.PASSWORD_BYTES_MAX} bytes")


def _check_id(message_id: bytes) -> None:
    if len(message_id) != limits.ID_BYTES:
        raise BadRequest(f"a message's id has {limits.ID_BYTES} bytes, not {len(message_id)}")


def received(kind: type[M], entry: Entry, content: bytes) -> M:
    """A received message, of what came over the wire."""
    return kind(
        seq=entry.seq,
        id=entry.id,
        sender=entry.sender,
        to=entry.to,
        body=content,
        content_type=entry.content_type,
        sent_at_us=entry.sent_at_us,
        stored_at_us=entry.stored_at_us,
        state=entry.state,
        reply_to=entry.reply_to,
    )
