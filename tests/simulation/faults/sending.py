"""Faults of sending: accepted and lost, stored twice, out of order, never answered, beyond limits (G1 to G4, G7)."""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec.structs import replace

import store_worker.memory as memory
from broker.events import Action, Push, Reply
from broker.sending import Sending
from broker.store_link import StoreLink
from restante.sending import Stream
from restante.wire import envelopes, store_link
from restante.wire.envelopes import Result
from restante.wire.store_link import Stored, StoreMessages
from store_worker.core import Store
from store_worker.journal import full_result
from store_worker.memory import MemoryJournal
from tests.simulation.faults.planting import Patch, fault

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
                    entry.then(Stored.of(results), 0.0, actions)
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
            for submission in envelope.submissions:
                submission.ids = [message_id[::-1] for message_id in submission.ids]

    return [(Stream, "lost", renaming)]


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


@fault
def answer_twice() -> list[Patch]:
    """Every hundredth `sent` goes out two times."""
    settled = Sending._settled
    count = iter(range(1_000_000))

    def stammering(self: Sending, job: Any, outcome: Any, now: float, actions: list[Action]) -> None:
        before = len(actions)
        settled(self, job, outcome, now, actions)
        if next(count) % 100 == 7:
            actions += [a for a in actions[before:] if isinstance(a, Reply) and isinstance(a.envelope, envelopes.Sent)]

    return [(Sending, "_settled", stammering)]


# --- what is refused ----------------------------------------------------------------------------------------


@fault
def take_any_content() -> list[Patch]:
    """Whatever comes under a known id is taken for a repetition."""

    def trusting(kept: Any, message: store_link.Message, content: bytes) -> Result:
        return Result(seq=kept.seq, stored_at_us=kept.stored_at_us, again=True)

    return [(memory, "answer_known", trusting)]


@fault
def refuse_before_dedupe() -> list[Patch]:
    """A message is refused for its recipients before anybody looks whether it was accepted already (RULES 12)."""
    store = MemoryJournal._store

    def hasty(self: MemoryJournal, command: StoreMessages, message: store_link.Message, content: bytes) -> Result:
        for name, mailbox in zip(message.to, message.mailboxes, strict=False):
            box = self._mailboxes.get(mailbox, memory.Mailbox())
            if len(box.unread) >= self._unread_max:
                return full_result(name)
        return store(self, command, message, content)

    return [(MemoryJournal, "_store", hasty)]


@fault
def one_more_than_fits() -> list[Patch]:
    """A mailbox takes one message more than it may."""
    start = MemoryJournal.start

    def roomy(self: Any) -> Any:
        if not self.__dict__.get("roomy"):
            self.roomy, self._unread_max = True, self._unread_max + 1
        return start(self)

    return [(MemoryJournal, "start", roomy)]


@fault
def accept_for_some() -> list[Patch]:
    """Recipients whose mailbox is full are left out, and the message is accepted for the others."""
    store = MemoryJournal._store

    def partial(self: MemoryJournal, command: StoreMessages, message: store_link.Message, content: bytes) -> Result:
        room = [
            (name, mailbox)
            for name, mailbox in zip(message.to, message.mailboxes, strict=False)
            if len(self._mailboxes.get(mailbox, memory.Mailbox()).unread) < self._unread_max
        ]
        if room and len(room) < len(message.mailboxes):
            message = replace(message, to=[name for name, _ in room], mailboxes=[mailbox for _, mailbox in room])
        return store(self, command, message, content)

    return [(MemoryJournal, "_store", partial)]


@fault
def remember_the_unknown() -> list[Patch]:
    """A name that nobody had is taken to be nobody's for good (RULES 13)."""
    resolved = Sending._resolved

    def stubborn(
        self: Any, job: Any, missing: set[str], known: dict[str, int], outcome: Any, now: float, actions: list[Action]
    ) -> None:
        nobody = self.__dict__.setdefault("nobody", set())
        if hasattr(outcome, "accounts"):
            nobody |= missing - outcome.accounts.keys()
            outcome = replace(outcome, accounts={n: a for n, a in outcome.accounts.items() if n not in nobody})
        resolved(self, job, missing, known, outcome, now, actions)

    return [(Sending, "_resolved", stubborn)]


@fault
def a_clock_that_goes_back() -> list[Patch]:
    """What is stored is stamped with whatever the clock says (RULES 22)."""
    commit = MemoryJournal.commit

    def naive(self: MemoryJournal, writes: Any, now_us: int) -> Any:
        self._stored_at_us = now_us
        return commit(self, writes, now_us)

    return [(MemoryJournal, "commit", naive)]


# --- G7: limits ---------------------------------------------------------------------------------------------


@fault
def hold_without_bound() -> list[Patch]:
    """The broker holds whatever a session sends."""
    return [(Sending, "_no_room", lambda self, job, now: None)]
