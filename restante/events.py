"""The language of the session: what happens to it (past participles), what it wants done (imperatives).

A *ticket* is a number that the shell chose for something it wants an answer to; exactly one `Resolve` or `Fail`
brings it back, unless it was `Abandoned`. A *submission* is its own ticket: exactly one `Settle` or `Return`
brings each of its messages back, unless it was `Withdrawn`. A *connection* is the number of one socket, from its `Open`
to the next. Deadlines and `now` are seconds of a monotonic clock. A deadline of `math.inf` never comes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from typing import Any

from msgspec import Struct, field

from restante.wire.envelopes import ApartResult, Credit, Entry, Request, ToClient
from restante.wire.errors import ChatError

Row = tuple[bytes, str | list[str], int, str, bytes | None, bytes]
"""A message as it travels, and all that a repetition must repeat: id, recipients, size, content type, the id of the
message it answers, content."""


class Columns(Struct, eq=False):
    """Messages by columns: what is said of one stands at its place in each list."""

    ids: list[bytes] = field(default_factory=list)
    to: list[str | list[str]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    content_types: list[str] = field(default_factory=list)
    reply_to: list[bytes | None] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Columns:
        """Return the columns of some rows."""
        return cls(*map(list, zip(*rows, strict=True)))

    @property
    def lists(self) -> tuple[list[Any], ...]:
        """All of them, in the order in which they are made."""
        return self.ids, self.to, self.sizes, self.content_types, self.reply_to, self.bodies


class Submission(Columns, eq=False, kw_only=True):
    """Messages given together.

    They share a deadline and an `owner`, whoever gave them; it is the shell's, and comes back with whatever becomes of
    them. What was given together may have to travel apart: `first` is the place that the first of these has among its
    owner's. So a message costs its places in some lists and no object, and nobody looks it up.
    """

    deadline: float
    sent_at_us: int = 0
    owner: object = None
    first: int = 0
    settled: bool = False
    """The session's own: the owner was told, or wants to hear no more."""

    def __len__(self) -> int:
        """How many messages these are."""
        return len(self.ids)

    @property
    def size(self) -> int:
        """Bytes of their contents."""
        return sum(self.sizes)

    def part(self, start: int, stop: int) -> Submission:
        """Some of these, from one place to before another, as a submission of their own."""
        return Submission(
            *[column[start:stop] for column in self.lists],
            deadline=self.deadline,
            sent_at_us=self.sent_at_us,
            owner=self.owner,
            first=self.first + start,
            settled=self.settled,
        )

    def cut(self, *places: int) -> list[Submission]:
        """These, cut before some places, in order; none of the parts is empty."""
        bounds = sorted({0, len(self), *places})
        return [self.part(start, stop) for start, stop in pairwise(bounds)]


# --- events -----------------------------------------------------------------------------------------------


class Submitted(Struct, frozen=True):
    """Messages were given, to be sent in this order."""

    submissions: list[Submission]


class Requested(Struct, frozen=True):
    """A request was made. Its `id` is filled in here; it goes again until it is answered or its time is up.

    Two are answered without being sent as they are: `Hello` by the welcome of a new connection, and `Resume` by the
    session having an account, whichever way it came to it.
    """

    ticket: int
    header: Request
    deadline: float


class AckRequested(Struct, frozen=True):
    """Messages are to be marked. What waits is put together in one request."""

    ticket: int
    seqs: list[int]
    ids: list[bytes]
    read: bool
    deadline: float


class Followed(Struct, frozen=True):
    """A subscription is wanted until `Unfollowed`, over any number of connections. `follow` is the shell's number."""

    follow: int
    sender: str = ""
    after: int = 0
    messages: int = 1_000
    """How many may wait unconsumed."""
    bytes: int = 4 << 20
    """How many bytes may, one message more."""


class Consumed(Struct, frozen=True):
    """The user has taken so much of what was handed on: there is room for more."""

    follow: int
    messages: int
    bytes: int


class Unfollowed(Struct, frozen=True):
    """A subscription is no longer wanted."""

    follow: int


class Abandoned(Struct, frozen=True):
    """Nobody waits for this ticket any more."""

    ticket: int


class Withdrawn(Struct, frozen=True):
    """Nobody waits any more for some messages: by their owner, those at these places, or (None) all. What was not
    transmitted yet will not be.
    """

    places: Mapping[object, Collection[int] | None]

    def means(self, submission: Submission) -> bool:
        """Whether this, and nothing else, is no longer waited for."""
        if submission.owner not in self.places:
            return False
        places = self.places[submission.owner]
        return places is None or (len(submission) == 1 and submission.first in places)

    def lay_open(self, submission: Submission) -> list[Submission]:
        """A submission in parts, each of which is meant as a whole or not at all."""
        first, stop = submission.first, submission.first + len(submission)
        meant = [place for place in self.places.get(submission.owner) or () if first <= place < stop]
        bounds = {place - first + n for place in meant for n in (0, 1)}
        return submission.cut(*bounds) if meant else [submission]


class Received(Struct, frozen=True):
    """An envelope came."""

    connection: int
    header: ToClient
    body: bytes = b""


class Lost(Struct, frozen=True):
    """A connection is over, or was never made; or what came on it was no envelope."""

    connection: int
    reason: str
    handshake: bool = False
    """Somebody was there, but the CURVE handshake failed."""


class Ticked(Struct, frozen=True):
    """Time has passed. Sockets are drained first (RULES 22)."""


class Closed(Struct, frozen=True):
    """The user is done."""


Event = (
    Submitted | Requested | AckRequested | Followed | Consumed | Unfollowed | Abandoned | Withdrawn | Received | Lost
    | Ticked | Closed
)  # fmt: skip


# --- actions ----------------------------------------------------------------------------------------------


class Open(Struct, frozen=True):
    """Close the last socket, if there is one, and make a new one."""

    connection: int


class Transmit(Struct, frozen=True):
    """Send this on the socket that is open."""

    header: Request | Credit
    body: bytes = b""


class Drop(Struct, frozen=True):
    """Close the socket."""


class Resolve(Struct, frozen=True):
    """A request was answered."""

    ticket: int
    answer: ToClient
    body: bytes = b""


class Settle(Struct, frozen=True):
    """The server has answered for messages: they are stored under these `seqs`, one each, at this time, but for what
    stands `apart` by its place among them: refused for good, or stored before.
    """

    submission: Submission
    seqs: list[int]
    stored_at_us: int
    apart: list[ApartResult]


class Return(Struct, frozen=True):
    """Messages failed, and go back to their owner, with an error each."""

    submission: Submission
    errors: list[ChatError]


class Fail(Struct, frozen=True):
    """A request failed."""

    ticket: int
    error: ChatError


class Hand(Struct, frozen=True):
    """Messages of a subscription came. The two lists go in parallel."""

    follow: int
    entries: list[Entry]
    contents: list[bytes]


class Mark(Struct, frozen=True):
    """Another session of the account marked these."""

    follow: int
    seqs: list[int]
    read: bool


class EndFollow(Struct, frozen=True):
    """A subscription can't go on."""

    follow: int
    error: ChatError


Action = Open | Transmit | Drop | Resolve | Settle | Return | Fail | Hand | Mark | EndFollow
