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

Unknown keys of a header are ignored, an absent key is its default. A body with several contents is their bytes, one
after the other, in the order of the header's list; each entry's `size` cuts it. Times are microseconds since the
epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, cast

from msgspec import Meta, Struct, field

from restante.wire import limits

# --- kinds of field ---------------------------------------------------------------------------------------

RequestId = Annotated[int, Meta(ge=1, le=2**53 - 1, description="Chosen by the client, not used twice in a session.")]
Id16 = Annotated[bytes, Meta(min_length=limits.ID_BYTES, max_length=limits.ID_BYTES, description="16 bytes: a UUID.")]
Name = Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX, description="An account's name.")]
TimeUs = Annotated[int, Meta(ge=0, le=2**62, description="Microseconds since the epoch, UTC.")]
Seq = Annotated[int, Meta(ge=0, le=2**62, description="A place in the order of everything stored. Opaque, increasing.")]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
NotNegative = Annotated[int, Meta(ge=0)]
Text = Annotated[str, Meta(max_length=4_096)]
Password = Annotated[str, Meta(max_length=limits.PASSWORD_BYTES_MAX)]
Token = Annotated[bytes, Meta(min_length=limits.TOKEN_BYTES, max_length=limits.TOKEN_BYTES)]
ContentType = Annotated[str, Meta(max_length=limits.CONTENT_TYPE_BYTES_MAX, description="A media type (RFC 6838).")]

TEXT: Final = "text/plain; charset=utf-8"
"""The content type of a message that says none."""

State = Literal["stored", "delivered", "read"]
"""How far a message has come with one recipient."""


class Envelope(Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="type"):
    """What all headers have in common: their type, under the key `type`."""


class Request(Envelope, frozen=True, omit_defaults=True, kw_only=True):
    """A header from a client that is answered."""

    id: RequestId


class Answer(Envelope, frozen=True, omit_defaults=True, kw_only=True):
    """A header from the broker that answers a request."""

    id: RequestId


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


# --- sending ----------------------------------------------------------------------------------------------


# What comes by the hundred thousand and can be part of no cycle is kept from the collector (gc=False): to look through
# it was a tenth of what a message cost a client.


class Item(Struct, frozen=True, kw_only=True, gc=False):
    """One message of a `send`. It travels as a place in the columns of that."""

    id: bytes
    to: list[str]
    size: int
    """Bytes of its content in the body."""
    content_type: str = TEXT
    sent_at_us: int = 0
    reply_to: bytes | None = None


Recipients = Name | Annotated[list[Name], Meta(min_length=1, max_length=limits.RECIPIENTS_PER_MESSAGE_MAX)]
"""One name, or several."""


class Send(Request, frozen=True, omit_defaults=True, kw_only=True, tag="send"):
    """Store messages, told by columns: what is said of a message stands at its place in each. The n-th envelope of a
    stream, from any first n a session begins with, without a gap.
    """

    stream: Id16
    n: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    ids: Annotated[list[Id16], Meta(min_length=1, max_length=limits.MESSAGES_PER_SEND_MAX)]
    to: list[Recipients]
    sizes: Annotated[list[NotNegative], Meta(description="Bytes of the contents in the body.")]
    content_types: Annotated[list[ContentType], Meta(description="Empty, if all are the default.")] = []
    sent_at_us: Annotated[list[TimeUs], Meta(description="The sender's own clock; part of no decision.")] = []
    reply_to: Annotated[
        list[Id16 | None], Meta(description="The messages that these answer; empty, if none does.")
    ] = []

    def __post_init__(self) -> None:
        """Raise ValueError unless the columns are of one length."""
        messages = len(self.ids)
        if not messages == len(self.to) == len(self.sizes):
            raise ValueError(f"{messages} ids, {len(self.to)} recipients and {len(self.sizes)} sizes")
        optional = len(self.content_types), len(self.sent_at_us), len(self.reply_to)
        if not {0, messages}.issuperset(optional):
            raise ValueError(f"{messages} messages, but {optional} content types, times and messages answered")

    @classmethod
    def of(cls, request_id: int, stream: bytes, n: int, items: Sequence[Item]) -> Send:
        """Return the columns of some messages."""
        types = [item.content_type for item in items]
        times = [item.sent_at_us for item in items]
        answered = [item.reply_to for item in items]
        return cls(
            id=request_id,
            stream=stream,
            n=n,
            ids=[item.id for item in items],
            to=[item.to[0] if len(item.to) == 1 else item.to for item in items],
            sizes=[item.size for item in items],
            content_types=types if types.count(TEXT) < len(types) else [],
            sent_at_us=times if any(times) else [],
            reply_to=answered if any(answered) else [],
        )

    @property
    def single(self) -> list[str] | None:
        """The recipients, if each message has one: that of each. Nothing is made anew."""
        return cast("list[str]", self.to) if set(map(type, self.to)) == {str} else None

    @property
    def names(self) -> list[str]:
        """The recipients of all messages, as often as they stand there."""
        return self.single or [name for to in self.to for name in ([to] if isinstance(to, str) else to)]

    @property
    def messages(self) -> list[Item]:
        """The messages one by one, made anew each time: for who has few, or is in no hurry."""
        return [self.message(place) for place in range(len(self.ids))]

    def message(self, place: int) -> Item:
        """One message."""
        to = self.to[place]
        return Item(
            id=self.ids[place],
            to=[to] if isinstance(to, str) else to,
            size=self.sizes[place],
            content_type=self.content_types[place] if self.content_types else TEXT,
            sent_at_us=self.sent_at_us[place] if self.sent_at_us else 0,
            reply_to=self.reply_to[place] if self.reply_to else None,
        )


class Result(Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """What became of one message: accepted with its `seq`, or refused for good with a `code`."""

    seq: Seq = 0
    stored_at_us: TimeUs = 0
    again: Annotated[bool, Meta(description="It had been accepted before; nothing was stored now.")] = False
    code: Annotated[str, Meta(max_length=64)] = ""
    text: Text = ""


class ApartResult(Struct, frozen=True, kw_only=True):
    """What became of a message that was not stored now: it was refused, or had been accepted before."""

    place: Count
    result: Result


class Sent(Answer, frozen=True, omit_defaults=True, kw_only=True, tag="sent"):
    """Everything accepted in it is on disk. What became of each message of the request, by its place."""

    seqs: Annotated[list[Seq], Meta(description="Of each that is accepted; 0 of those that are refused.")]
    stored_at_us: Annotated[TimeUs, Meta(description="Of all that were stored now.")] = 0
    apart: list[ApartResult] = []

    @classmethod
    def of(cls, request_id: int, results: Sequence[Result]) -> Sent:
        """Return the columns of some results."""
        seqs, stored_at_us, apart = columns_of(results)
        return cls(id=request_id, seqs=seqs, stored_at_us=stored_at_us, apart=apart)

    @property
    def results(self) -> list[Result]:
        """The results one by one."""
        return results_of(self.seqs, self.stored_at_us, self.apart)


def columns_of(results: Sequence[Result]) -> tuple[list[int], int, list[ApartResult]]:
    """Return results as they travel: seqs, the time of all that were stored now, and what stands apart."""
    apart = [ApartResult(place=place, result=each) for place, each in enumerate(results) if each.again or not each.seq]
    times = {each.stored_at_us for each in results if each.seq and not each.again}
    assert len(times) <= 1, "what is stored together is stored at one time"
    return [each.seq for each in results], max(times, default=0), apart


def results_of(seqs: Sequence[int], stored_at_us: int, apart: Sequence[ApartResult]) -> list[Result]:
    """Return results, of which those that are apart `fit`, one by one."""
    results = [Result(seq=seq, stored_at_us=stored_at_us) for seq in seqs]
    for each in apart:
        results[each.place] = each.result
    return results


def fits(seqs: Sequence[int], apart: Sequence[ApartResult], messages: int) -> bool:
    """Return whether this can be what became of so many messages: each has a seq, or a result that says why not."""
    if len(seqs) != messages:
        return False
    if not apart:
        return all(seqs)
    told = {each.place: each.result.seq for each in apart}
    refused = {place for place, seq in enumerate(seqs) if not seq}
    in_place = len(told) == len(apart) and max(told) < messages
    return in_place and refused <= told.keys() and all(seqs[place] == seq for place, seq in told.items())


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
    messages: list[Entry] = []


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

    seqs: Annotated[list[Seq], Meta(max_length=limits.ACKS_PER_REQUEST_MAX)] = []
    ids: Annotated[list[Id16], Meta(max_length=limits.ACKS_PER_REQUEST_MAX)] = []
    read: bool = True


class Acked(Answer, frozen=True, omit_defaults=True, kw_only=True, tag="acked"):
    """It is on disk. What was not in the mailbox is listed, the rest is marked."""

    changed: Annotated[Count, Meta(description="How many were not so before.")] = 0
    unknown_seqs: list[Seq] = []
    unknown_ids: list[Id16] = []


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
    recipients: list[RecipientState] = []


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
