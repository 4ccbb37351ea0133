"""Planted faults: small patches to a core, in memory, that each break a promise. The simulation must see every one.

A fault is a function that, given nothing, says which attributes to put in whose place. `FAULTS` holds them by name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from msgspec.structs import replace

from auth_service.memory import MemoryAccounts
from broker.events import Action, Push
from broker.reading import Reading
from broker.sending import Sending
from broker.store_link import StoreLink
from broker.subscriptions import Subscription, Subscriptions
from restante.sending import Stream
from restante.wire import store_link
from restante.wire.envelopes import Result
from restante.wire.store_link import MarkMessages, Stored, StoreMessages
from store_worker.core import Store
from store_worker.memory import MemoryJournal

Patch = tuple[type, str, Any]
"""Whose attribute, its name, what is put in its place."""

FAULTS: Final[dict[str, Callable[[], list[Patch]]]] = {}


def fault(make: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
    """Register a fault under the name of its function."""
    FAULTS[make.__name__] = make
    return make


@contextmanager
def planted(name: str) -> Iterator[None]:
    """As long as this lasts the fault is there; none if the name is empty."""
    patches = FAULTS[name]() if name else []
    saved = [(owner, attribute, owner.__dict__[attribute]) for owner, attribute, _ in patches]
    for owner, attribute, new in patches:
        setattr(owner, attribute, new)
    try:
        yield
    finally:
        for owner, attribute, old in saved:
            setattr(owner, attribute, old)


# --- G1: accepted means on disk -----------------------------------------------------------------------------


@fault
def accept_before_persisted() -> list[Patch]:
    """The broker answers `sent` as soon as a batch is pushed, with the seqs that it will most likely get."""
    flush = StoreLink.flush

    def hasty(self: StoreLink, actions: list[Action]) -> None:
        pushed = len(self._unconfirmed)
        flush(self, actions)
        high = self._listener._high  # type: ignore[attr-defined]  # a fault reaches where it likes
        for batch in list(self._unconfirmed)[pushed:]:
            for entry in batch.entries:
                if isinstance(entry.command, StoreMessages):
                    results = []
                    for message in entry.command.messages:
                        high += not message.refusal
                        results.append(
                            Result(code=message.refusal) if message.refusal else Result(seq=high, stored_at_us=1)
                        )
                    entry.then(Stored(results=results), 0.0, actions)
                    entry.then = lambda outcome, now, actions: None

    return [(StoreLink, "flush", hasty)]


@fault
def confirm_before_synced() -> list[Patch]:
    """The journal says that a commit is durable while it lies in a cache: who is killed right then loses it."""
    commit, start = MemoryJournal.commit, MemoryJournal.start

    def cached(self: Any, writes: Any, now_us: int) -> Any:
        self.synced = self.clone()
        return commit(self, writes, now_us)

    def from_disk(self: Any) -> Any:
        synced = self.__dict__.pop("synced", None)
        if synced is not None:
            self.__dict__.update(synced.__dict__)
            self.__dict__.pop("synced", None)
        return start(self)

    return [(MemoryJournal, "commit", cached), (MemoryJournal, "start", from_disk)]


# --- G2: once -----------------------------------------------------------------------------------------------


@fault
def skip_dedupe() -> list[Patch]:
    """The journal forgets which ids it has seen."""
    store = MemoryJournal._store

    def forgetful(self: MemoryJournal, command: StoreMessages, message: store_link.Message, content: bytes) -> Result:
        self._by_id.get(message.id, {}).pop(command.sender, None)
        return store(self, command, message, content)

    return [(MemoryJournal, "_store", forgetful)]


@fault
def retry_under_a_new_id() -> list[Patch]:
    """The session makes a new id for a message that it sends again."""
    lost = Stream.lost

    def renaming(self: Stream) -> None:
        lost(self)
        for envelope in self._flight:
            for message in envelope.messages:
                message.item = replace(message.item, id=message.item.id[::-1])

    return [(Stream, "lost", renaming)]


@fault
def forget_operations() -> list[Patch]:
    """An authentication worker does not know that it has made this account already."""
    return [(MemoryAccounts, "_done", lambda self, op: None)]


# --- G3: in order -------------------------------------------------------------------------------------------


@fault
def replay_out_of_order() -> list[Patch]:
    """When the link is opened again the newest unconfirmed batch goes first."""
    opened = StoreLink._opened

    def reversing(self: StoreLink, envelope: store_link.Opened, now: float, actions: list[Action]) -> None:
        if not self.open and envelope.nonce == self._nonce:
            self._unconfirmed.reverse()
        opened(self, envelope, now, actions)

    return [(StoreLink, "_opened", reversing)]


@fault
def take_any_number() -> list[Patch]:
    """The broker admits whatever number of a stream comes, also behind one that it refused."""
    send = Sending.send

    def lenient(self: Sending, session: Any, request: Any, body: bytes, now: float, actions: list[Action]) -> None:
        stream = session.streams.get(request.stream)
        if stream is not None:
            stream.expected = request.n
        send(self, session, request, body, now, actions)

    return [(Sending, "send", lenient)]


@fault
def resend_out_of_order() -> list[Patch]:
    """After a reconnect the session sends its newest unanswered envelope first."""
    lost = Stream.lost

    def reversing(self: Stream) -> None:
        lost(self)
        self._flight.reverse()

    return [(Stream, "lost", reversing)]


@fault
def store_after_abort() -> list[Patch]:
    """The store goes on with the next batch after one that it had to roll back."""
    abort = Store._abort

    def careless(self: Store, link: Any, n: int, code: str, text: str, actions: Any) -> None:
        abort(self, link, n, code, text, actions)
        link.aborted, link.taken, link.executed = None, n, n

    return [(Store, "_abort", careless)]


@fault
def execute_behind_a_gap() -> list[Patch]:
    """The store executes whatever batch comes, also if the one before it was lost."""
    is_next = Store._is_next

    def lenient(self: Store, link: Any, batch: store_link.Batch, actions: Any) -> bool:
        if link.aborted is None and batch.n > link.taken + 1 and link.taken == link.executed:
            link.taken = link.executed = batch.n - 1
        return is_next(self, link, batch, actions)

    return [(Store, "_is_next", lenient)]


# --- G4: everything ends ------------------------------------------------------------------------------------


@fault
def forget_replay() -> list[Patch]:
    """When the link is opened again, unconfirmed batches are numbered anew, and not sent."""
    opened = StoreLink._opened

    def silent(self: StoreLink, envelope: store_link.Opened, now: float, actions: list[Action]) -> None:
        mine: list[Action] = []
        opened(self, envelope, now, mine)
        actions += [a for a in mine if not (isinstance(a, Push) and isinstance(a.envelope, store_link.Batch))]

    return [(StoreLink, "_opened", silent)]


@fault
def open_once() -> list[Patch]:
    """The broker opens its link when it starts, and never again."""
    reopen = StoreLink._reopen

    def content(self: StoreLink, now: float, actions: list[Action]) -> None:
        if not self._generation:
            reopen(self, now, actions)

    return [(StoreLink, "_reopen", content)]


@fault
def trust_that_answers_arrive() -> list[Patch]:
    """The broker waits for ever for what the store owes it, as long as the store beats."""
    confirmed = StoreLink._confirmed

    def patient(self: StoreLink, envelope: store_link.Confirmed, now: float, actions: list[Action]) -> None:
        if self._unconfirmed and envelope.n == self._unconfirmed[0].n:
            confirmed(self, envelope, now, actions)

    return [(StoreLink, "_owed", lambda self, now: False), (StoreLink, "_confirmed", patient)]


@fault
def drop_what_is_refused() -> list[Patch]:
    """After an abort the broker forgets what waited, without a word to whoever sent it."""

    def mute(self: StoreLink, aborted: store_link.Aborted, now: float, actions: list[Action]) -> None:
        self._unconfirmed, self._pending = deque(), deque()
        self._reopen(now, actions)

    return [(StoreLink, "_aborted", mute)]


# --- G5: kept until read ------------------------------------------------------------------------------------


@fault
def ack_on_delivery() -> list[Patch]:
    """What was handed to a subscriber counts as read."""
    deliver = Subscriptions._deliver

    def eager(
        self: Subscriptions, subscription: Subscription, entries: Any, body: bytes, now: float, actions: Any
    ) -> None:
        deliver(self, subscription, entries, body, now, actions)
        if entries:
            mark = MarkMessages(mailbox=subscription.session.account, seqs=[entry.seq for entry in entries])
            self._link.submit(mark, b"", lambda outcome, now, actions: None, 0)

    return [(Subscriptions, "_deliver", eager)]


@fault
def forget_marks() -> list[Patch]:
    """The journal says that messages are marked, and marks none."""
    return [(MemoryJournal, "_mark_one", lambda self, box, seq, read: True)]


@fault
def skip_at_a_pages_edge() -> list[Patch]:
    """A subscription goes on one place too far behind a page."""
    paged = Subscriptions._paged

    def skipping(self: Subscriptions, subscription: Subscription, reading: Any, *rest: Any) -> None:
        if isinstance(reading, store_link.PageRead) and reading.more:
            reading = replace(reading, through=reading.through + 1)
        paged(self, subscription, reading, *rest)

    return [(Subscriptions, "_paged", skipping)]


@fault
def stay_live_without_credit() -> list[Patch]:
    """A subscription whose credit ran out is not marked behind: what it could not be sent is forgotten."""
    return [(Subscription, "fall_behind", lambda self, cursor: None)]


# --- G6 and G7 ----------------------------------------------------------------------------------------------


@fault
def read_the_neighbours_mail() -> list[Patch]:
    """A page is read from the wrong mailbox."""
    fetch = Reading.fetch

    def nosy(self: Reading, session: Any, request: Any, now: float, actions: list[Action]) -> None:
        own = session.account
        session.account = 1
        fetch(self, session, request, now, actions)
        session.account = own

    return [(Reading, "fetch", nosy)]


@fault
def ignore_credit() -> list[Patch]:
    """A subscriber is sent whatever there is."""
    return [
        (Subscription, "may_deliver", property(lambda self: True)),
        (Subscription, "messages_left", property(lambda self: 1_000)),
        (Subscription, "bytes_left", property(lambda self: 1 << 20)),
    ]
