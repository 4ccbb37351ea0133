"""What happened, as far as anybody could see it: calls, answers, and at the end the content of every mailbox.

The checker knows this and nothing else. Times are virtual seconds. `run` is one life of a client's process: a session
ends with it, and calls that it had not ended are nobody's any more.
"""

from __future__ import annotations

import math

from msgspec import Struct, field

from restante.wire.envelopes import Entry, Result


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


class Mailbox(Struct):
    """What a mailbox holds at the end, read through the protocol by somebody who had no part in it."""

    entries: list[Entry] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)


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
    mailboxes: dict[str, Mailbox] = field(default_factory=dict)
    """By name. Empty if the world never came to rest."""
    unfinished: list[str] = field(default_factory=list)
    """What had not come to its end though it had all the time it may take."""
