"""The language of the session: what happens to it (past participles), what it wants done (imperatives).

A *ticket* is a number that the shell chose for something it wants an answer to; exactly one `Resolve` or `Fail`
brings it back, unless it was `Abandoned`. A message to send is its own ticket: exactly one `Settle` or `Return` brings
it back, unless it was `Withdrawn`. A *connection* is the number of one socket, from its `Open` to the next. Deadlines
and `now` are seconds of a monotonic clock. A deadline of `math.inf` never comes.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from restante.wire.envelopes import Credit, Entry, Item, Request, Result, ToClient
from restante.wire.errors import ChatError

QUEUED: Final = 0
"""A submission that waits for room."""
IN_FLIGHT: Final = 1
"""A submission in an envelope that was transmitted, or will be again."""
SETTLED: Final = 2
"""A submission whose asker was told."""


class Submission(Struct, eq=False):
    """One message to send, with all that a repetition must repeat: its id above all.

    A shell gives one of a kind of its own, with room for what it has to remember: one object a message, and nobody
    looks it up.
    """

    item: Item
    body: bytes
    deadline: float
    state: int = QUEUED
    """The session's own."""


# --- events -----------------------------------------------------------------------------------------------


class Submitted(Struct, frozen=True):
    """Messages were given, to be sent in this order."""

    messages: list[Submission]


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
    """Nobody waits for these messages any more. What was not transmitted yet will not be."""

    messages: list[Submission]


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
    """Messages were stored just now, under these seqs. The two lists go in parallel."""

    messages: list[Submission]
    seqs: list[int]
    stored_at_us: int


class Conclude(Struct, frozen=True):
    """A message had been stored before, or was refused for good by a `code`."""

    message: Submission
    result: Result


class Return(Struct, frozen=True):
    """A message failed, and goes back to its sender."""

    message: Submission
    error: ChatError


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


Action = Open | Transmit | Drop | Resolve | Settle | Conclude | Return | Fail | Hand | Mark | EndFollow
