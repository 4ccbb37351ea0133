"""What a user of the library holds in hand: messages to send, what became of them, messages received.

Pure data. A received message knows the client it came from only to be acknowledged by it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Protocol

from msgspec import Struct, field

from restante.wire.envelopes import Acked
from restante.wire.errors import ChatError
from restante.wire.ids import show_id

__all__ = [
    "AsyncMessage", "Message", "Outcome", "Outgoing", "PageOf", "Receipt", "Received",
]  # fmt: skip


class Outgoing(Struct, frozen=True, gc=False):
    """One message to send.

    `to` is a name or several; `body` is text (sent as UTF-8, `text/plain`) or bytes (`text/plain` if they are UTF-8,
    else `application/octet-stream`); `once` is a key that makes a repetition harmless (see `ids.once_id`), `id` the
    16-byte message id itself, at most one of the two; `reply_to` the id of the message this one answers.
    """

    to: str | Iterable[str]
    body: str | bytes
    once: str | None = None
    content_type: str | None = None
    reply_to: bytes | None = None
    id: bytes | None = None


class Receipt(Struct, frozen=True, gc=False):
    """A message is accepted: it is on disk."""

    id: bytes
    """The message's id, 16 bytes."""
    seq: int
    stored_at_us: int
    """When it was stored, in microseconds since the epoch, by the server's clock."""
    again: bool = False
    """True if it had been accepted before, and nothing was stored now."""

    @property
    def id_text(self) -> str:
        """The id as people and JSON see it: a UUID's 36 characters."""
        return show_id(self.id)

    def __str__(self) -> str:
        return self.id_text


class Outcome(Struct, frozen=True):
    """What became of one message of `send_many`: a receipt, or an error; never both, never neither."""

    index: int
    """Its place in the input, from 0."""
    outgoing: Outgoing
    id: bytes
    """The id it was sent with; b"" if it was refused before it had one."""
    seq: int = 0
    """As a receipt has them: its place, when it was stored, and whether it had been before."""
    stored_at_us: int = 0
    again: bool = False
    error: ChatError | None = None

    @property
    def receipt(self) -> Receipt | None:
        """The receipt, made when it is asked for: of many messages most are only counted."""
        return Receipt(self.id, self.seq, self.stored_at_us, self.again) if self.error is None else None


class Received(Struct, kw_only=True):
    """A message of one's mailbox."""

    seq: int
    """Its place in the mailbox's order: opaque, increasing."""
    id: bytes
    sender: str
    to: list[str]
    body: bytes
    content_type: str
    sent_at_us: int
    """The sender's own clock, 0 if it told none; `stored_at_us` is the server's. Microseconds since the epoch."""
    stored_at_us: int
    state: str
    """`stored`, `delivered` or `read`, as it was when it was fetched."""
    reply_to: bytes | None = None

    @property
    def text(self) -> str:
        """The body as text. Raises UnicodeDecodeError where it isn't UTF-8: nothing is replaced in silence."""
        return self.body.decode()

    @property
    def id_text(self) -> str:
        """The id as people and JSON see it: a UUID's 36 characters."""
        return show_id(self.id)


class Acks(Protocol):
    """What acknowledges: a `Client`."""

    def ack(self, messages: int, /, *, read: bool = True) -> Acked: ...


class AcksLater(Protocol):
    """What acknowledges with `await`: an `AsyncClient`."""

    def ack(self, messages: int, /, *, read: bool = True) -> Awaitable[Acked]: ...


class Message(Received, kw_only=True):
    """A message received by a `Client`."""

    client: Acks | None = field(default=None)

    def ack(self) -> Acked:
        """Mark it read; on disk when this returns. Raises as `Client.ack`."""
        if self.client is None:
            raise RuntimeError("this message was not received by a client")
        return self.client.ack(self.seq)


class AsyncMessage(Received, kw_only=True):
    """A message received by an `AsyncClient`."""

    client: AcksLater | None = field(default=None)

    async def ack(self) -> Acked:
        """Mark it read; on disk when this returns. Raises as `AsyncClient.ack`."""
        if self.client is None:
            raise RuntimeError("this message was not received by a client")
        return await self.client.ack(self.seq)


class PageOf(Struct, frozen=True):
    """A page of a mailbox: all that was asked for in (after, through]. Go on behind `through` while `more`."""

    messages: list[Message]
    through: int
    more: bool
    history: bytes
    """The history `through` belongs to, 16 bytes: another after a backup was restored."""


class AsyncPageOf(Struct, frozen=True):
    """The same, as an `AsyncClient` gives it."""

    messages: list[AsyncMessage]
    through: int
    more: bool
    history: bytes
