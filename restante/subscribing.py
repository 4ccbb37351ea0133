"""One subscription, over any number of connections.

The broker delivers no more than the credit it was given: a total, in messages and bytes, counted from the beginning of
the subscription (RULES 18). The credit is what the user has consumed, and a window more. Deliveries are numbered; when
one is missing, or on a new connection, the subscription is made anew behind the last message handed on, so that the
user sees each message once and in order, though the broker may send some twice.

All counts here run for ever; `_base_…` are those at which the present subscription began.
"""

from __future__ import annotations

from restante.events import Action, Followed, Hand, Transmit
from restante.wire.codec import cut
from restante.wire.envelopes import Credit, Deliver, Entry, Subscribe


class Follow:
    """A subscription, as long as its reader wants it."""

    def __init__(self, wanted: Followed) -> None:
        self.wanted = wanted
        self.sub = 0
        """Its number on this connection; 0: to be made anew."""
        self.history: bytes | None = None
        self.after = wanted.after
        """The last message that was handed on."""
        self._handed_messages = self._handed_bytes = 0
        self._consumed_messages = self._consumed_bytes = 0
        self._base_messages = self._base_bytes = 0
        self._granted_messages = self._granted_bytes = 0

    def subscribe(self, sub: int) -> Subscribe:
        """The request that begins it, behind what was handed on."""
        self.sub = sub
        self._base_messages, self._base_bytes = self._handed_messages, self._handed_bytes
        self._granted_messages, self._granted_bytes = self._total()
        return Subscribe(
            id=1,
            sub=sub,
            after=self.after,
            sender=self.wanted.sender,
            history=self.history,
            messages=self._granted_messages,
            bytes=self._granted_bytes,
        )

    def begin_again(self) -> None:
        """The server's history is another: no place in the old one means anything."""
        self.sub, self.history, self.after = 0, None, 0

    def delivered(self, deliver: Deliver, body: bytes, actions: list[Action]) -> bool:
        """Hand messages on. False if one before them is missing; then nothing was handed on.

        Raises RemoteProtocolError if the body is not what the header says.
        """
        contents = cut(body, (entry.size for entry in deliver.messages))
        if deliver.first != self._handed_messages - self._base_messages + 1:
            return False
        fresh: list[Entry] = []
        fresh_contents: list[bytes] = []
        for entry, content in zip(deliver.messages, contents, strict=True):
            if entry.seq > self.after:
                self.after = entry.seq
                fresh.append(entry)
                fresh_contents.append(content)
            else:
                self._consumed_messages += 1
                self._consumed_bytes += entry.size
        self._handed_messages += len(contents)
        self._handed_bytes += len(body)
        if fresh:
            actions.append(Hand(self.wanted.follow, fresh, fresh_contents))
        return True

    def consumed(self, messages: int, size: int) -> None:
        """The user has taken so much."""
        self._consumed_messages += messages
        self._consumed_bytes += size
        assert self._consumed_messages <= self._handed_messages, "more was consumed than handed on"

    def top_up(self, actions: list[Action]) -> None:
        """Give new credit once half a window has been consumed: not for every message, and not too late."""
        messages, size = self._total()
        more_messages = messages - self._granted_messages
        more_bytes = size - self._granted_bytes
        if more_messages * 2 >= self.wanted.messages or more_bytes * 2 >= self.wanted.bytes:
            self._granted_messages, self._granted_bytes = messages, size
            actions.append(Transmit(Credit(sub=self.sub, messages=messages, bytes=size)))

    def _total(self) -> tuple[int, int]:
        """The credit that stands the present subscription, from its beginning."""
        return (
            max(0, self._consumed_messages + self.wanted.messages - self._base_messages),
            max(0, self._consumed_bytes + self.wanted.bytes - self._base_bytes),
        )
