"""What happened, as far as anybody could see it: calls, answers, and at the end the content of every mailbox.

The checker knows this and nothing else. Times are virtual seconds. `run` is one life of a client's process: a session
ends with it, and calls that it had not ended are nobody's any more.
"""

from __future__ import annotations

import math

from msgspec import Struct, field

from restante.wire.envelopes import Account, Entry, MessageStatus, Request, Result, ToBroker, ToClient


class Sending(Struct):
    """A message was given to be sent, once. A repetition by hand is another with the same id."""

    order: int
    """Its place among all that was ever given to be sent."""
    at: float
    sender: str
    run: int
    id: bytes
    to: tuple[str, ...]
    content: bytes
    reply_to: bytes | None
    ended_at: float = math.inf
    result: Result | None = None
    """What the server said of it: accepted, or refused for good."""
    failure: str = ""
    """A code, or the name of an exception, if there was no result."""
    device: str = ""
    """The sender's process that it was given to: each has an order of its own."""


class Acknowledging(Struct):
    """Messages were to be marked read."""

    at: float
    reader: str
    run: int
    seqs: tuple[int, ...]
    ids: tuple[bytes, ...]
    ended_at: float = math.inf
    confirmed: bool = False
    failure: str = ""
    unknown: int = 0


class Reading(Struct):
    """A page was asked for, and came."""

    at: float
    ended_at: float
    reader: str
    after: int
    unread: bool
    sender: str
    limit: int
    through: int
    more: bool
    entries: list[Entry]
    contents: list[bytes]


class Subscription(Struct):
    """What the broker said to one connection under one subscription, and the credit it had been told."""

    reader: str
    after: int
    sender: str
    messages: int
    """The highest total of credit the broker was told, so far."""
    bytes: int
    deliveries: list[Delivery] = field(default_factory=list)


class Delivery(Struct):
    """One `deliver`."""

    at: float
    first: int
    entries: list[Entry]
    messages: int
    """The credit at that time, in messages."""
    bytes: int
    """The credit at that time, in bytes."""


class Following(Struct):
    """What one reader was handed in one life of its process, over any number of connections."""

    reader: str
    run: int
    after: int
    sender: str
    entries: list[Entry] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    handed_at: list[float] = field(default_factory=list)


class Call(Struct):
    """A call that must end, once, whatever it is."""

    at: float
    who: str
    what: str
    ended_at: float = math.inf
    failure: str = ""
    ends: int = 0
    orphaned: bool = False
    """The process that made it died: nobody waits."""


class Asking(Struct):
    """Something was asked that changes nothing, and answered: how far messages are, how much there is, who exists."""

    at: float
    ended_at: float
    who: str
    request: Request
    names: list[str] = field(default_factory=list)
    """To a look-up: who was found."""
    statuses: list[MessageStatus] = field(default_factory=list)
    overview: Account | None = None


class Span(Struct):
    """Something that happens at some time between two others: an account was made, a mailbox was closed."""

    at: float
    """Not before."""
    ended_at: float = math.inf
    """Not after."""


class Said(Struct):
    """An envelope as it passes the broker: taken in, or sent out."""

    at: float
    connection: int
    """Numbered by the broker's process; never used twice."""
    key: str
    """Whose key that connection proved to have: a process's name."""
    header: ToBroker | ToClient
    size: int
    """Bytes of its body."""
    heard: bool
    """By the broker, from a client; else it was said, to one."""


class Mailbox(Struct):
    """What a mailbox holds at the end, read through the protocol by somebody who had no part in it."""

    entries: list[Entry] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)
    overview: Account | None = None
    """What the server said of it meanwhile."""
    followed: list[int] = field(default_factory=list)
    """What a subscription to it handed over then."""


class History(Struct):
    """All of it."""

    names: list[str] = field(default_factory=list)
    """Who has an account."""
    sendings: list[Sending] = field(default_factory=list)
    acknowledgings: list[Acknowledging] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    followings: list[Following] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    askings: list[Asking] = field(default_factory=list)
    joinings: dict[str, Span] = field(default_factory=dict)
    """When an account was made, where it wasn't there from the beginning."""
    closings: dict[str, Span] = field(default_factory=dict)
    """When a mailbox was closed."""
    oustings: dict[str, float] = field(default_factory=dict)
    """By account: when somebody first wanted some of its tokens to end."""
    wire: list[Said] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)
    """The limits that the broker has, by their names in `restante.wire.limits`, and `unread` for a mailbox's."""
    mailboxes: dict[str, Mailbox] = field(default_factory=dict)
    """By name. Empty if the world never came to rest."""
    unfinished: list[str] = field(default_factory=list)
    """What had not come to its end though it had all the time it may take."""
