"""The broker's end of the link to the store: nothing that is on it gets lost or comes twice (RULES 6–9).

                 start, silence, closed, aborted                    opened, my nonce
    ∙ ─────────────────────────────────────▶ OPENING ─────────────────────────────────▶ OPEN
                  (a new socket, a new nonce)    │ every beat: open again

Commands wait in `pending`; at each drain they become one batch, numbered, which stays in `unconfirmed` until the store
has answered for it. When the link is opened again every unconfirmed batch goes again first, in its order; the store's
unique key absorbs what it had stored already. Queries are not numbered and change nothing: they are simply asked again.

Invariants: what is in `unconfirmed` has the numbers last confirmed + 1 … in order; nothing is pushed while OPENING but
`open`; every command and query is settled exactly once, with its outcome or with `Failed`.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from msgspec import Struct

from broker.events import Action, End, OpenLink, Push
from restante.wire import limits, store_link
from restante.wire.store_link import Command, Failed, Outcome, Query, Reading

COMMAND_COST = 64
"""Bytes of a command itself, in memory, beside what it holds."""

Settled = Callable[[Outcome | Failed, float, list[Action]], None]
"""Called once with what became of a command."""

Answered = Callable[[Reading, bytes, bytes, float, list[Action]], None]
"""Called once with the reading, its body, the store's history id."""


QUERIES_ASKED_MAX = 1_024
"""Queries on the wire; more wait here. After an opening every subscription asks at once, and ten thousand questions
would fill the socket, which would open the link again, after which every subscription asks at once."""


QUERIES_BYTES_MAX = 64 << 20
"""Bytes that the queries on the wire may be answered with. The store and both sockets hold them: one client that asked
for 256 pages at once had it hold a gigabyte."""


class Submitted(Struct):
    """A command on its way, with the contents it stores."""

    command: Command
    body: bytes
    then: Settled
    weight: int
    """About its bytes in a batch, header and contents."""


class Asked(Struct):
    """A query on its way."""

    query: Query
    then: Answered
    on_wire: bool = False

    @property
    def weight(self) -> int:
        """The most bytes that its answer may have."""
        return self.query.bytes_max if isinstance(self.query, store_link.ReadPage) else 0


class Watch:
    """How long the same thing has been waited for, as seen at each look."""

    def __init__(self) -> None:
        self._what = (0, 0)
        self._since = 0.0

    def waited_s(self, what: tuple[int, int], now: float) -> float:
        """Seconds since a look first found that this is what is waited for."""
        if what != self._what:
            self._what, self._since = what, now
        return now - self._since


class SentBatch(Struct):
    """A batch that the store has not confirmed."""

    n: int
    entries: list[Submitted]


class Listener(Protocol):
    """Whoever must know what the store has committed."""

    def opened(self, history: bytes, high: int, now: float, actions: list[Action]) -> None:
        """The link is open again: what was known of the store may be out of date."""

    def committed(
        self, entries: list[Submitted], confirmed: store_link.Confirmed, now: float, actions: list[Action]
    ) -> None:
        """A batch is on disk; called before its commands are settled."""


class State(Enum):
    """The link's state."""

    OPENING = "opening"
    OPEN = "open"


class StoreLink:
    """One broker's link to one store. `name` is durable, `seed` is 16 random bytes made at the broker's start."""

    def __init__(self, name: str, seed: bytes, listener: Listener) -> None:
        self._name = name
        self._seed = seed
        self._listener = listener
        self._opens = 0
        self._socket_stale = True
        self._nonce = b""
        self._state = State.OPENING
        self._epoch = 0
        self._generation = 0
        self._n = 0
        self._heard_at = 0.0
        self._tried_at = 0.0
        self._beat_at = 0.0
        self._batch_watch = Watch()
        self._query_watch = Watch()
        self.weight = 0
        """Of all commands not settled yet, in bytes: what bounds the memory they take."""
        self._pending: deque[Submitted] = deque()
        self._unconfirmed: deque[SentBatch] = deque()
        self._queries: dict[int, Asked] = {}
        self._query_n = 0
        self._unasked: deque[int] = deque()
        self._asked_bytes = 0
        """The weight of the queries on the wire."""

    # --- what others ask of it ----------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """True while the store answers."""
        return self._state is State.OPEN

    def down(self, now: float) -> bool:
        """True once the store has been silent for so long that a new request would only wait."""
        return not self.open and now - self._heard_at > limits.LINK_SILENCE_S_MAX

    @property
    def idle(self) -> bool:
        """True if nothing waits for the store."""
        return not self._pending and not self._unconfirmed and not self._queries

    @property
    def has_pending(self) -> bool:
        """True if a flush would send something, were there room."""
        return bool(self._pending)

    @property
    def queries(self) -> int:
        """Queries not answered yet."""
        return len(self._queries)

    def start(self, now: float, actions: list[Action]) -> None:
        """Open the link for the first time."""
        self._reopen(now, actions)

    def submit(self, command: Command, body: bytes, then: Settled, weight: int) -> None:
        """Give the store a command that takes about `weight` bytes; it goes with the next batch."""
        self.weight += weight
        self._pending.append(Submitted(command, body, then, weight))

    def ask(self, query: Query, then: Answered) -> None:
        """Ask the store; it goes with the next flush."""
        self._query_n += 1
        self._queries[self._query_n] = Asked(query, then)
        self._unasked.append(self._query_n)

    def flush(self, actions: list[Action]) -> None:
        """Send what waits: as few batches as the limits allow, and behind them the queries, which so see them."""
        while self.open and self._pending and len(self._unconfirmed) < limits.BATCHES_UNCONFIRMED_MAX:
            self._n += 1
            batch = SentBatch(self._n, self._take_batch())
            self._unconfirmed.append(batch)
            actions.append(self._push(batch))
        while self.open and self._unasked and len(self._queries) - len(self._unasked) < QUERIES_ASKED_MAX:
            asked = self._queries[self._unasked[0]]
            if self._asked_bytes and self._asked_bytes + asked.weight > QUERIES_BYTES_MAX:
                break
            asked.on_wire = True
            self._asked_bytes += asked.weight
            actions.append(self._question(self._unasked.popleft(), asked))

    # --- what happens to it -------------------------------------------------------------------------------

    def arrived(self, envelope: store_link.FromStore, body: bytes, now: float, actions: list[Action]) -> None:
        """The store said something. What is of another epoch or generation is ignored, unless it says so itself."""
        if isinstance(envelope, store_link.Opened):
            self._opened(envelope, now, actions)
        elif isinstance(envelope, store_link.Closed):
            self._closed(envelope, now, actions)
        elif self.open and (envelope.epoch, envelope.generation) == (self._epoch, self._generation):
            self._heard_at = now
            self._said(envelope, body, now, actions)

    def due(self, now: float, actions: list[Action]) -> None:
        """Beat; open again if the store was silent, or owes an answer; refuse reads that nobody will answer soon."""
        if self.open and (now - self._heard_at > limits.LINK_SILENCE_S_MAX or self._owed(now)):
            self._reopen(now, actions)
        elif not self.open and now - self._tried_at > limits.LINK_SILENCE_S_MAX:
            self._try_anew(now, actions)
        elif now >= self._beat_at:
            self._beat(now, actions)
        if self.down(now):
            self._fail_queries(now, actions)

    def _owed(self, now: float) -> bool:
        """True if the next answer has been due for so long that it won't come, though the store beats: libzmq mended a
        connection without a word, and the answer, or what it answers, was in it (RULES 6).
        """
        batch = self._unconfirmed[0].n if self._unconfirmed else 0
        query = next(iter(self._queries), 0)
        batch_s = self._batch_watch.waited_s((self._generation, batch), now)
        query_s = self._query_watch.waited_s((self._generation, query), now)
        return (batch > 0 and batch_s > limits.LINK_SILENCE_S_MAX) or (
            query > 0 and query_s > limits.LINK_SILENCE_S_MAX
        )

    def push_failed(self, now: float) -> None:
        """The socket took no more: whatever it was is gone, so open again at the next beat."""
        if self.open:
            self._state = State.OPENING
            self._beat_at = now + limits.LINK_BEAT_S
            self._socket_stale = True
            self._new_nonce()

    # --- opening ------------------------------------------------------------------------------------------

    def _new_nonce(self) -> None:
        self._opens += 1
        self._nonce = hashlib.sha256(self._seed + self._opens.to_bytes(8, "big")).digest()[: limits.ID_BYTES]

    def _reopen(self, now: float, actions: list[Action]) -> None:
        self._state = State.OPENING
        self._heard_at = now
        self._try_anew(now, actions)

    def _try_anew(self, now: float, actions: list[Action]) -> None:
        """Over a new socket: libzmq never mends one whose handshake was refused, and does not say so."""
        self._tried_at = now
        self._socket_stale = True
        self._new_nonce()
        self._say_open(now, actions)

    def _say_open(self, now: float, actions: list[Action]) -> None:
        """Said again every beat, on the same socket: a handshake may take longer than a beat."""
        self._beat_at = now + limits.LINK_BEAT_S
        if self._socket_stale:
            self._socket_stale = False
            actions.append(OpenLink())
        actions.append(Push(store_link.Open(name=self._name, nonce=self._nonce)))

    def _opened(self, opened: store_link.Opened, now: float, actions: list[Action]) -> None:
        if self.open or opened.nonce != self._nonce:
            return
        self._state = State.OPEN
        self._heard_at = now
        self._epoch, self._generation, self._n = opened.epoch, opened.generation, 0
        for batch in self._unconfirmed:
            self._n += 1
            batch.n = self._n
            actions.append(self._push(batch))
        self._unasked = deque(self._queries)
        self._asked_bytes = 0
        for asked in self._queries.values():
            asked.on_wire = False
        self._listener.opened(opened.history, opened.high, now, actions)

    def _closed(self, closed: store_link.Closed, now: float, actions: list[Action]) -> None:
        if not self.open:
            return
        lost = closed.generation == self._generation and not closed.fenced
        if closed.epoch != self._epoch or lost:
            self._reopen(now, actions)
        elif closed.fenced and closed.generation > self._generation:
            actions.append(End(f"another broker named {self._name!r} has opened the store; this one must not go on"))

    # --- talking ------------------------------------------------------------------------------------------

    def _said(
        self,
        envelope: store_link.Confirmed
        | store_link.Aborted
        | store_link.Expecting
        | store_link.Answered
        | store_link.Beat,
        body: bytes,
        now: float,
        actions: list[Action],
    ) -> None:
        match envelope:
            case store_link.Confirmed():
                self._confirmed(envelope, now, actions)
            case store_link.Answered():
                asked = self._queries.pop(envelope.n, None)
                if asked is not None:
                    self._asked_bytes -= asked.weight if asked.on_wire else 0
                    asked.then(envelope.reading, body, envelope.history, now, actions)
            case store_link.Aborted():
                self._aborted(envelope, now, actions)
            case store_link.Expecting():
                if envelope.n != self._n + 1:  # that one is still to be sent: nothing is missing
                    self._reopen(now, actions)

    def _confirmed(self, confirmed: store_link.Confirmed, now: float, actions: list[Action]) -> None:
        if not self._unconfirmed or confirmed.n < self._unconfirmed[0].n:
            return
        if confirmed.n > self._unconfirmed[0].n:  # one before it was lost on its way
            self._reopen(now, actions)
            return
        batch = self._unconfirmed[0]
        if len(confirmed.outcomes) != len(batch.entries):
            actions.append(End(f"the store confirmed {len(confirmed.outcomes)} of {len(batch.entries)} commands"))
            return
        self._unconfirmed.popleft()
        self._listener.committed(batch.entries, confirmed, now, actions)
        for entry, outcome in zip(batch.entries, confirmed.outcomes, strict=True):
            self._settle(entry, outcome, now, actions)

    def _aborted(self, aborted: store_link.Aborted, now: float, actions: list[Action]) -> None:
        """Nothing from n on was executed, nor will be: refuse all of it, and what would come behind (RULES 9).

        A batch before n may be in a commit that is still under way: it goes again, and its outcome is the store's.
        """
        entries = [entry for batch in self._unconfirmed if batch.n >= aborted.n for entry in batch.entries]
        entries += self._pending
        self._unconfirmed = deque(batch for batch in self._unconfirmed if batch.n < aborted.n)
        self._pending.clear()
        self._reopen(now, actions)
        failure = Failed(code=aborted.code, text=aborted.text)
        for entry in entries:
            self._settle(entry, failure, now, actions)

    def _settle(self, entry: Submitted, outcome: Outcome | Failed, now: float, actions: list[Action]) -> None:
        self.weight -= entry.weight
        entry.then(outcome, now, actions)

    def _fail_queries(self, now: float, actions: list[Action]) -> None:
        failure = Failed(code="unavailable", text="the store does not answer")
        queries, self._queries = self._queries, {}
        self._unasked.clear()
        self._asked_bytes = 0
        for asked in queries.values():
            asked.then(failure, b"", b"", now, actions)

    def _beat(self, now: float, actions: list[Action]) -> None:
        if not self.open:
            self._say_open(now, actions)
            return
        self._beat_at = now + limits.LINK_BEAT_S
        actions.append(Push(store_link.Beat(epoch=self._epoch, name=self._name, generation=self._generation)))

    def _take_batch(self) -> list[Submitted]:
        """The commands of the next batch: all that wait, up to the limits, at least one."""
        entries: list[Submitted] = []
        messages = size = 0
        while self._pending and messages < limits.BATCH_MESSAGES_MAX and size < limits.BATCH_BYTES_MAX:
            entry = self._pending.popleft()
            entries.append(entry)
            size += entry.weight
            messages += len(entry.command.ids) if isinstance(entry.command, store_link.StoreMessages) else 1
        return entries

    def _push(self, batch: SentBatch) -> Push:
        header = store_link.Batch(
            epoch=self._epoch,
            name=self._name,
            generation=self._generation,
            n=batch.n,
            commands=[entry.command for entry in batch.entries],
        )
        return Push(header, tuple(entry.body for entry in batch.entries))

    def _question(self, n: int, asked: Asked) -> Push:
        return Push(
            store_link.Ask(epoch=self._epoch, name=self._name, generation=self._generation, n=n, query=asked.query)
        )
