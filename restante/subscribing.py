"""Subscriptions, over any number of connections.

The broker delivers no more than the credit it was given: a total, in messages and bytes, counted from the beginning of
the subscription (RULES 18). The credit is what the user has consumed, and a window more. Deliveries are numbered; when
one is missing, or on a new connection, the subscription is made anew behind the last message handed on, so that the
user sees each message once and in order, though the broker may send some twice.

All counts here run for ever; `_base_…` are those at which the present subscription began.
"""

from __future__ import annotations

from restante.asking import Ask, Asks
from restante.events import Action, Consumed, EndFollow, Followed, Hand, Mark, Transmit
from restante.wire.codec import cut
from restante.wire.envelopes import Credit, Deliver, Entry, Marked, Subscribe, Subscribed, ToClient, Unsubscribe
from restante.wire.errors import ChatError, HistoryChanged


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


class Follows:
    """All subscriptions of a session, by the shell's numbers."""

    def __init__(self, asks: Asks) -> None:
        self._asks = asks
        self._follows: dict[int, Follow] = {}
        self._last_sub = 0

    def __bool__(self) -> bool:
        return bool(self._follows)

    def add(self, wanted: Followed) -> None:
        """A subscription is wanted."""
        self._follows[wanted.follow] = Follow(wanted)

    def remove(self, number: int) -> None:
        """A subscription is no longer wanted."""
        follow = self._follows.pop(number, None)
        if follow is not None:
            self._unsubscribe(follow)

    def consumed(self, event: Consumed, actions: list[Action]) -> None:
        """The user has taken something."""
        follow = self._follows.get(event.follow)
        if follow is not None:
            follow.consumed(event.messages, event.bytes)
            if follow.sub:
                follow.top_up(actions)

    def subscribe(self) -> None:
        """Make those that this connection does not have."""
        for follow in self._follows.values():
            if not follow.sub:
                self._last_sub += 1
                header = follow.subscribe(self._last_sub)
                self._asks.add(Ask(header=header, settled=self._subscribed, per_connection=True))

    def delivered(self, deliver: Deliver, body: bytes, actions: list[Action]) -> None:
        """Messages came. Raises RemoteProtocolError if the body is not what the header says."""
        for follow in self._follows.values():
            if follow.sub == deliver.sub:
                if follow.delivered(deliver, body, actions):
                    follow.top_up(actions)  # repeats are consumed already
                else:
                    self._unsubscribe(follow)

    def marked(self, notice: Marked, actions: list[Action]) -> None:
        """Another session has read something, or wants it unread."""
        for number, follow in self._follows.items():
            if follow.sub == notice.sub:
                actions.append(Mark(number, notice.seqs, notice.read))

    def lost(self) -> None:
        """The connection is gone, and with it what it had."""
        for follow in self._follows.values():
            follow.sub = 0

    def end_all(self, error: ChatError, actions: list[Action]) -> None:
        """None can go on."""
        actions.extend(EndFollow(number, error) for number in self._follows)
        self._follows.clear()

    def _subscribed(
        self, ask: Ask, outcome: ToClient | ChatError, body: bytes, now: float, actions: list[Action]
    ) -> None:
        assert isinstance(ask.header, Subscribe), "this is what subscriptions are asked with"
        sub = ask.header.sub
        number = next((number for number, follow in self._follows.items() if follow.sub == sub), None)
        if number is None:
            return  # no longer wanted
        if isinstance(outcome, Subscribed):
            self._follows[number].history = outcome.history
        elif isinstance(outcome, HistoryChanged):
            self._follows[number].begin_again()
        elif isinstance(outcome, ChatError):
            del self._follows[number]
            actions.append(EndFollow(number, outcome))

    def _unsubscribe(self, follow: Follow) -> None:
        """End it on this connection, if that has it."""
        if follow.sub:
            header = Unsubscribe(id=1, sub=follow.sub)
            self._asks.add(Ask(header=header, settled=_ignore, per_connection=True))
        follow.sub = 0


def _ignore(ask: Ask, outcome: ToClient | ChatError, body: bytes, now: float, actions: list[Action]) -> None:
    """Nobody waits for it."""
