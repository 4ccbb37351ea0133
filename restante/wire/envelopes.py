"""What a client and the broker say to each other: every header, as a type.

A connection carries `[b"CHAT/1", header, body]`; these are the headers. A *request* has an id and gets exactly one
*answer* that echoes it: the answer its table row names, or `error`. A *notice* has none and gets none.

    request        answer        body of the request, of the answer       needs
    hello          welcome                                                a new connection
    register       registered                                             hello
    login          session                                                hello
    resume         session                                                hello
    logout         done                                                   a login, as all that follow
    passwd         session
    tokens         token_list
    revoke         done
    lookup         found
    overview       account
    send           sent          contents, –
    fetch          page          –, contents
    subscribe      subscribed
    unsubscribe    done
    ack            acked
    status         statuses
    ping           pong

    notice         direction     body
    credit         to broker
    deliver        to client     contents
    marked         to client
    error          to client                (with no id: it ends the session, or answers what had no readable id)

Sends and their answers are defined in `columns`, kinds of field in `fields`.

Unknown keys of a header are ignored, an absent key is its default. A body with several contents is their bytes, one
after the other, in the order of the header's list; each entry's `size` cuts it. Times are microseconds since the
epoch, UTC.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct, field

from restante.wire import limits
from restante.wire.columns import ApartResult, Item, Result, Send, Sent
from restante.wire.fields import (
    TEXT,
    Answer,
    ContentType,
    Count,
    Envelope,
    Id16,
    Name,
    Password,
    Request,
    RequestId,
    Seq,
    State,
    Text,
    TimeUs,
    Token,
)

__all__ = ["TEXT", "Answer", "ApartResult", "Envelope", "Item", "Request", "Result", "Send", "Sent", "State"]
"""What is defined elsewhere and found here all the same: who speaks the protocol needs no other module."""

# --- a session begins -------------------------------------------------------------------------------------


class Hello(Request, frozen=True, omit_defaults=True, kw_only=True, tag="hello"):
    """The first word on a connection."""

    client: Annotated[str, Meta(max_length=128, description="The client's name and version, for the log.")] = ""
    heartbeat_ms: Annotated[int, Meta(ge=0, le=86_400_000, description="The beat wished for; 0: as you like.")] = 0


class Limits(Struct, frozen=True, kw_only=True):
    """What this broker takes: see the limits in the specification, section 11."""

    header_bytes: Count = limits.HEADER_BYTES_MAX
    body_bytes: Count = limits.BODY_BYTES_MAX
    message_bytes: Count = limits.MESSAGE_BYTES_MAX
    messages_per_send: Count = limits.MESSAGES_PER_SEND_MAX
    recipients_per_message: Count = limits.RECIPIENTS_PER_MESSAGE_MAX
    recipients_per_send: Count = limits.RECIPIENTS_PER_SEND_MAX
    requests_in_flight: Count = limits.REQUESTS_IN_FLIGHT_MAX
    page_messages: Count = limits.PAGE_MESSAGES_MAX
    acks_per_request: Count = limits.ACKS_PER_REQUEST_MAX
    credit_messages: Count = limits.CREDIT_MESSAGES_MAX
    credit_bytes: Count = limits.CREDIT_BYTES_MAX


class Welcome(Answer, frozen=True, omit_defaults=True, kw_only=True, tag="welcome"):
    """The broker takes the connection. Also what a health check reads."""

    version: Annotated[int, Meta(description="The protocol's version.")]
    server: Annotated[str, Meta(max_length=128, description="The server's name and version.")]
    heartbeat_ms: Annotated[int, Meta(ge=1, description="A client silent for three of these is forgotten.")]
    auth: Annotated[bool, Meta(description="An authentication worker is ready.")] = False
    store: Annotated[bool, Meta(description="The store is ready.")] = False
    limits: Limits = field(default_factory=Limits)
    """Always on the wire: the defaults of another release are not this one's."""


class Register(Request, frozen=True, omit_defaults=True, kw_only=True, tag="register"):
    """Make an account. It does not log in."""

    op: Id16
    name: Name
    password: Password
    display_name: Annotated[str, Meta(max_length=limits.DISPLAY_NAME_CHARS_MAX)] = ""


class Registered(Answer, frozen=True, omit_defaults=True, kw_only=True, tag="registered"):
    """The account exists. A retry with the same `op` is answered the same."""

    account: Count
    name: Name


class Login(Request, frozen=True, omit_defaults=True, kw_only=True, tag="login"):
    """Log in with a password; makes a token. A retry with the same `op` gets the same one."""

    op: Id16
    name: Name
    password: Password
    device: Annotated[str, Meta(max_length=limits.DEVICE_CHARS_MAX, description="What to call this machine.")] = ""


class Resume(Request, frozen=True, omit_defaults=True, kw_only=True, tag="resume"):
    """Log in with a token."""

    token: Token


class LoggedIn(Answer, frozen=True, omit_defaults=True, kw_only=True, tag="session"):
    """The session has an account."""

    account: Count
    name: Name
    expires_at_us: TimeUs
    token: Annotated[Token | None, Meta(description="A new token, told once; absent after `resume`.")] = None


class Logout(Request, frozen=True, omit_defaults=True, kw_only=True, tag="logout"):
    """Revoke this session's token; every session on it ends, this one after the answer."""

    op: Id16


class Passwd(Request, frozen=True, omit_defaults=True, kw_only=True, tag="passwd"):
    """Change the password. All tokens of the account die; the answer brings this session a new one."""

    op: Id16
    old: Password
    new: Password


class Tokens(Request, frozen=True, omit_defaults=True, kw_only=True, tag="tokens"):
    """List the account's tokens."""


class TokenInfo(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A token as its owner sees it: never the secret."""

    token: Count
    device: str
    created_at_us: TimeUs
    last_used_at_us: TimeUs
    expires_at_us: TimeUs
    current: bool = False


class TokenList(Answer, frozen=True, omit_defaults=True, kw_only=True, tag="token_list"):
    """The account's tokens, oldest first."""

    tokens: list[TokenInfo]


class Revoke(Request, frozen=True, omit_defaults=True, kw_only=True, tag="revoke"):
    """End one of the account's tokens and every session on it."""

    op: Id16
    token: Count


class Done(Answer, frozen=True, omit_defaults=True, kw_only=True, tag="done"):
    """It has happened."""


class Lookup(Request, frozen=True, omit_defaults=True, kw_only=True, tag="lookup"):
    """Which of these names have an account?"""

    names: Annotated[list[Name], Meta(min_length=1, max_length=limits.NAMES_PER_LOOKUP_MAX)]


class Found(Answer, frozen=True, omit_defaults=True, kw_only=True, tag="found"):
    """The names that have one, in the order asked."""

    names: list[Name]


class Overview(Request, frozen=True, omit_defaults=True, kw_only=True, tag="overview"):
    """Who am I, and how much is unread?"""


class Account(Answer, frozen=True, omit_defaults=True, kw_only=True, tag="account"):
    """The session's account and its mailbox."""

    account: Count
    name: Name
    unread: Count
    total: Count


# --- reading ----------------------------------------------------------------------------------------------


class Entry(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """One message of a mailbox."""

    seq: Seq
    id: Id16
    sender: Name = field(name="from")
    to: list[Name]
    size: Annotated[int, Meta(ge=0, description="Bytes of its content in the body.")]
    stored_at_us: TimeUs
    content_type: ContentType = TEXT
    sent_at_us: TimeUs = 0
    reply_to: Id16 | None = None
    state: State = "stored"


class Fetch(Request, frozen=True, omit_defaults=True, kw_only=True, tag="fetch"):
    """A page of the account's mailbox, oldest first. It changes nothing but `delivered`."""

    after: Annotated[Seq, Meta(description="Begin behind this place; 0 is the beginning.")] = 0
    limit: Annotated[int, Meta(ge=1, le=limits.PAGE_MESSAGES_MAX)] = 100
    unread: Annotated[bool, Meta(description="Only what is unread, or all.")] = True
    sender: Annotated[Name, Meta(description="Only from this account; empty: from all.")] = field(
        name="from", default=""
    )
    history: Annotated[Id16 | None, Meta(description="The history `after` belongs to.")] = None
    peek: Annotated[bool, Meta(description="Do not even mark as delivered.")] = False


class Page(Answer, frozen=True, omit_defaults=True, kw_only=True, tag="page"):
    """All that was asked for in (after, through] is in it; go on behind `through` while `more`."""

    history: Id16
    through: Seq
    more: bool = False
    messages: list[Entry] = field(default_factory=list)


class Subscribe(Request, frozen=True, omit_defaults=True, kw_only=True, tag="subscribe"):
    """Be sent what is unread, first the backlog, then what arrives, as far as credit reaches."""

    sub: Annotated[int, Meta(ge=1, le=2**53 - 1, description="Chosen by the client; one that stands begins anew.")]
    after: Seq = 0
    sender: Annotated[Name, Meta(description="Only from this account; empty: from all.")] = field(
        name="from", default=""
    )
    history: Id16 | None = None
    messages: Annotated[Count, Meta(description="The first credit, see `credit`.")] = 0
    bytes: Annotated[Count, Meta(description="The first credit, see `credit`.")] = 0


class Subscribed(Answer, frozen=True, omit_defaults=True, kw_only=True, tag="subscribed"):
    """The subscription stands."""

    sub: Count
    history: Id16


class Credit(Envelope, frozen=True, omit_defaults=True, kw_only=True, tag="credit"):
    """A notice: how much may have been delivered in all, since the subscription began. Totals never shrink.

    A delivery is sent while both totals exceed what was delivered; the last one may pass the total of bytes.
    """

    sub: Count
    messages: Count
    bytes: Count


class Deliver(Envelope, frozen=True, omit_defaults=True, kw_only=True, tag="deliver"):
    """A notice: messages of a subscription. They are numbered from 1; on a gap, subscribe anew."""

    sub: Count
    first: Annotated[int, Meta(ge=1, description="The number of the first message; the others follow.")]
    messages: Annotated[list[Entry], Meta(min_length=1)]


class Unsubscribe(Request, frozen=True, omit_defaults=True, kw_only=True, tag="unsubscribe"):
    """End a subscription."""

    sub: Count


class Ack(Request, frozen=True, omit_defaults=True, kw_only=True, tag="ack"):
    """Mark messages of the account's mailbox read, or unread again. By seq, by message id, or both.

    An id names every message of that id in the mailbox: two senders may have made the same.
    """

    seqs: Annotated[list[Seq], Meta(max_length=limits.ACKS_PER_REQUEST_MAX)] = field(default_factory=list)
    ids: Annotated[list[Id16], Meta(max_length=limits.ACKS_PER_REQUEST_MAX)] = field(default_factory=list)
    read: bool = True


class Acked(Answer, frozen=True, omit_defaults=True, kw_only=True, tag="acked"):
    """It is on disk. What was not in the mailbox is listed, the rest is marked."""

    changed: Annotated[Count, Meta(description="How many were not so before.")] = 0
    unknown_seqs: list[Seq] = field(default_factory=list)
    unknown_ids: list[Id16] = field(default_factory=list)


class Marked(Envelope, frozen=True, omit_defaults=True, kw_only=True, tag="marked"):
    """A notice to subscribers: another session of the account marked these."""

    sub: Count
    seqs: list[Seq]
    read: bool = True


class Status(Request, frozen=True, omit_defaults=True, kw_only=True, tag="status"):
    """How far have messages come that this account sent?"""

    ids: Annotated[list[Id16], Meta(min_length=1, max_length=limits.STATUS_IDS_MAX)]


class RecipientState(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How far one message has come with one recipient."""

    name: Name
    state: State
    state_at_us: Annotated[TimeUs, Meta(description="When it came there; 0 where that is not kept.")] = 0


class MessageStatus(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How far one message has come."""

    id: Id16
    seq: Annotated[Seq, Meta(description="0: this account has sent no message of that id.")] = 0
    stored_at_us: TimeUs = 0
    recipients: list[RecipientState] = field(default_factory=list)


class Statuses(Answer, frozen=True, omit_defaults=True, kw_only=True, tag="statuses"):
    """One status for each id, in the order asked."""

    messages: list[MessageStatus]


# --- keeping alive, and failing ---------------------------------------------------------------------------


class Ping(Request, frozen=True, omit_defaults=True, kw_only=True, tag="ping"):
    """Still there. Any other traffic says so too."""


class Pong(Answer, frozen=True, omit_defaults=True, kw_only=True, tag="pong"):
    """So am I."""


class Error(Envelope, frozen=True, omit_defaults=True, kw_only=True, tag="error"):
    """A request failed, or the session did."""

    id: Annotated[RequestId | None, Meta(description="The request; absent where it could not be read.")] = None
    code: Annotated[str, Meta(max_length=64, description="One of the table of codes.")]
    text: Text = ""
    retry_after_ms: Annotated[Count | None, Meta(description="When it may succeed; absent: not by waiting.")] = None
    expected: Annotated[
        Annotated[int, Meta(ge=0, le=2**53)] | None,  # one more than the last number that a stream can have
        Meta(description="With `gap`: the number that the stream expects."),
    ] = None
    fatal: Annotated[bool, Meta(description="The session is over.")] = False


ToBroker = (
    Hello | Register | Login | Resume | Logout | Passwd | Tokens | Revoke | Lookup | Overview | Send | Fetch | Subscribe
    | Unsubscribe | Credit | Ack | Status | Ping
)  # fmt: skip
"""Every header that a client may send."""

ToClient = (
    Welcome | Registered | LoggedIn | Done | TokenList | Found | Account | Sent | Page | Subscribed | Deliver | Acked
    | Marked | Statuses | Pong | Error
)  # fmt: skip
"""Every header that a broker may send."""

NEEDS_NO_ACCOUNT: Final = (Hello, Register, Login, Resume)
"""The requests that work without a login (G6)."""
