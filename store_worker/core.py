"""The store's end of the link to brokers (RULES 6–9): what is executed, when, and what is answered.

What arrives is only queued; when the sockets are drained it is worked off, in rounds:

    ┌──────────────────────────────────────────────────────────────────────────────┐
    │ batches, in the order of arrival, as far as the bounds reach  ─▶ Commit, one │
    │ queries that arrived among them, as far as a turn reaches     ─▶ Read, each  │
    └─ again, until nothing is left ───────────────────────────────────────────────┘

A query so sees every batch that arrived before it, and maybe some that arrived after; whatever it sees was
confirmed before it is answered. Queries that a turn does not reach wait for the next round, so who reads much holds up
nobody's commit for longer than a turn. An `open` waits until all batches before it are done.

A link, one a broker's name:

              Open, a new nonce            batch last + 1                Commit failed
    closed ───────────────────────▶ open ─────────────────▶ open ────────────────────────▶ aborted
              a new generation             last += 1                every batch: `aborted` again

What is of another epoch or an older generation is answered `closed`, and nothing else is done about it.

Invariants: a batch is executed at most once in a generation, in the order of n; it is confirmed only after `Committed`;
`executed ≤ taken ≤ executed + what is in the commit under way`; after an abort nothing is executed before a new open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence, Sized
from itertools import chain
from typing import Final

from msgspec import Struct, field

from restante.wire import codec, limits
from restante.wire.errors import RemoteProtocolError
from restante.wire.store_link import (
    Aborted,
    Answered,
    Ask,
    Batch,
    Beat,
    Closed,
    Confirmed,
    Expecting,
    Failed,
    Open,
    Opened,
    PageRead,
    Reading,
    ReadPage,
    StoreMessages,
)
from store_worker.events import (
    Action,
    Arrived,
    CatchUp,
    CaughtUp,
    Commit,
    CommitFailed,
    Committed,
    Complain,
    Connect,
    CopyOver,
    CopyWanted,
    CountOpen,
    Disconnect,
    Drained,
    Due,
    End,
    Event,
    Found,
    Malformed,
    OpenCounted,
    OpenFailed,
    Read,
    Send,
    StepCopy,
    StopRequested,
    Unsendable,
)
from store_worker.journal import Started, Write, Written

COMMIT_MESSAGES_MAX: Final = 20_000
"""Messages in one transaction, about 100 ms: larger commits gain nothing more, and delay all that reads."""

IDLE_S: Final = 1.0
"""Nothing was committed for so long: now the journal may do what commits left for later. Shorter, and messages that
come one by one would each cause two commits."""

COMMIT_BYTES_MAX: Final = 32 << 20
"""Contents in one transaction, likewise: it bounds the log that one commit writes."""

TURN_BYTES_MAX: Final = 1 << 20
"""What is read between two commits, some milliseconds' worth: answers' contents, and what else takes time as if it were
some. At least one query."""

MESSAGE_BYTES: Final = 1 << 10
"""What finding a message takes is as much as to read so many bytes of content."""

QUERY_BYTES: Final = 8 << 10
"""Likewise a query."""

BROKERS_MAX: Final = 16
"""Brokers with a way back; past it the one that opened longest ago loses its own, and opens again if it lives."""


class Link(Struct):
    """One open link."""

    name: str
    generation: int
    nonce: bytes
    taken: int = 0
    """The last batch put into a commit."""
    executed: int = 0
    """The last batch committed."""
    recent: dict[int, Confirmed] = field(default_factory=dict)
    """The last confirmations, to give again: a broker has no more than that many open."""
    aborted: Aborted | None = None


class Task(Struct, frozen=True):
    """A batch in the commit under way."""

    link: Link
    n: int


class Store:
    """The store's state machine. It keeps nothing that a restart would lose but confirmations, which replay renews."""

    def __init__(self, started: Started) -> None:
        self._epoch = started.epoch
        self._history = started.history
        self._high = started.high
        self._generations = dict(started.generations)
        self._links: dict[str, Link] = {}
        self._ways: dict[str, None] = {}
        self._inbox: deque[Arrived] = deque()
        self._tasks: list[Task] = []
        self._asks: deque[Ask] = deque()
        self._finding = False
        """The answer to one is being looked up."""
        self._turn_bytes = 0
        """What was read in this turn."""
        self._seen_at = 0.0
        """When something last happened."""
        self._waiting = False
        self._stopping = False
        self._copy_at: float | None = None
        """When the backup that is being made goes on: at once, after whatever has arrived."""
        self._catch_up_at: float | None = None
        """When the journal catches up, unless something is committed before."""

    def handle(self, event: Event, now: float) -> list[Action]:
        """Return what to do about an event. `now` is monotonic; it decides nothing that anybody is told."""
        actions: list[Action] = []
        self._seen_at = now
        if isinstance(event, Arrived):
            self._inbox.append(event)
        elif isinstance(event, Found):
            self._finding = False
            actions.append(self._answer(event.ask, event.reading, event.body))
            self._turn_bytes += _weight(event)
            self._read_on(actions)
            self._end_if_done(actions)
        elif isinstance(event, Malformed):
            actions.append(Complain(f"something came in that is no envelope: {event.text}"))
        elif isinstance(event, Unsendable):
            self._lose(event.name, actions)
        elif isinstance(event, CopyWanted):
            self._copy_at = now
        elif isinstance(event, CopyOver):
            self._copy_at = None
        elif isinstance(event, CaughtUp):
            self._catch_up_at = now if event.more else None
        else:
            self._settle(event, actions)
            self._advance(actions)
            if isinstance(event, Committed):
                self._catch_up_at = now + IDLE_S
            elif isinstance(event, Drained):
                self._go_on_copying(now, actions)
            elif isinstance(event, Due):
                self._catch_up(now, actions)
        return actions

    def next_deadline(self) -> float | None:
        """Return when reading or a backup goes on, or the journal catches up.

        Else None: the store waits for nobody; it is brokers who notice silence.
        """
        read_at = self._seen_at if self._asks and not self._waiting else None
        return min((at for at in (self._copy_at, self._catch_up_at, read_at) if at is not None), default=None)

    def _go_on_copying(self, now: float, actions: list[Action]) -> None:
        """One step, but not before what was just committed is confirmed: then `Due` comes in the same turn."""
        if self._copy_at is not None and not self._waiting:
            self._copy_at = now
            actions.append(StepCopy())

    def _catch_up(self, now: float, actions: list[Action]) -> None:
        """One step: in the turn that follows, what has arrived meanwhile comes first."""
        if self._catch_up_at is not None and self._catch_up_at <= now and not self._waiting:
            self._catch_up_at = None
            actions.append(CatchUp())

    def _settle(self, event: Event, actions: list[Action]) -> None:
        """Take note of what was waited for."""
        match event:
            case OpenCounted():
                self._opened(event, actions)
            case OpenFailed(name, text):
                self._waiting = False  # it is asked again at the broker's next beat
                actions.append(Complain(f"{name} can't be given a generation: {text}"))
            case Committed(written):
                self._committed(written, actions)
            case CommitFailed(code, text):
                self._failed(code, text, actions)
            case StopRequested():
                self._stopping = True
            case _:
                assert isinstance(event, (Drained, Due)), event

    # --- rounds -------------------------------------------------------------------------------------------

    def _advance(self, actions: list[Action]) -> None:
        """Work off what has arrived until something must be waited for."""
        while self._inbox and not self._waiting:
            header = self._inbox[0].header
            if isinstance(header, Open):
                self._inbox.popleft()
                self._forget_asks(header.name)
                self._waiting = True
                actions.append(CountOpen(header.name, header.nonce))
            else:
                self._round(actions)
        if self._asks and not self._waiting:
            self._read(actions)
        self._end_if_done(actions)

    def _end_if_done(self, actions: list[Action]) -> None:
        """An orderly end is one with nothing in hand."""
        if self._stopping and not (self._waiting or self._asks or self._finding):
            self._stopping = False
            actions.append(End())

    def _round(self, actions: list[Action]) -> None:
        """Take batches up to the bounds, and the queries among them; commit, or read at once."""
        writes: list[Write] = []
        messages = size = 0
        while self._inbox and messages < COMMIT_MESSAGES_MAX and size < COMMIT_BYTES_MAX:
            header, body = self._inbox[0].header, self._inbox[0].body
            if isinstance(header, Open):
                break
            if isinstance(header, Batch):
                write = self._take(header, body, actions)
                if write is not None:
                    writes.append(write)
                    messages += max(len(write.contents), len(write.commands))
                    size += len(body)
            elif isinstance(header, Ask):
                self._asks.append(header)
            elif self._link_of(header, actions) is not None:
                actions.append(Send(header.name, header))
            self._inbox.popleft()
        if writes:
            self._waiting = True
            actions.append(Commit(writes))
        else:
            self._read(actions)

    def _take(self, batch: Batch, body: bytes, actions: list[Action]) -> Write | None:
        """Return what is to be executed of a batch; None if it was answered."""
        link = self._link_of(batch, actions)
        if link is None or not self._is_next(link, batch, actions):
            return None
        try:
            write = write_of(batch, body)
        except RemoteProtocolError as error:
            self._abort(link, batch.n, "internal", error.text, actions)
            return None
        link.taken = batch.n
        self._tasks.append(Task(link, batch.n))
        return write

    def _is_next(self, link: Link, batch: Batch, actions: list[Action]) -> bool:
        """Say whether a batch is to be executed; if not, answer it (RULES 7)."""
        if link.aborted is not None:
            actions.append(Send(link.name, link.aborted))
        elif batch.n in link.recent:
            actions.append(Send(link.name, link.recent[batch.n]))
        elif batch.n == link.taken + 1:
            return True
        elif not link.executed < batch.n <= link.taken:  # else it is in the commit that is being put together
            expecting = Expecting(epoch=self._epoch, generation=link.generation, n=link.taken + 1)
            actions.append(Send(link.name, expecting))
        return False

    def _committed(self, written: Sequence[Written], actions: list[Action]) -> None:
        tasks, self._tasks = self._tasks, []
        assert len(written) == len(tasks), "a commit settles every batch that is in it"
        self._waiting = False
        for task, what in zip(tasks, written, strict=True):
            link = task.link
            assert task.n == link.executed + 1, "batches of a generation are executed in order"
            assert what.high >= what.base >= self._high, "the high-water never falls"
            self._high = what.high
            link.executed = task.n
            confirmed = Confirmed(
                epoch=self._epoch,
                generation=link.generation,
                n=task.n,
                base=what.base,
                high=what.high,
                outcomes=what.outcomes,
            )
            link.recent[task.n] = confirmed
            link.recent.pop(task.n - limits.BATCHES_UNCONFIRMED_MAX, None)
            self._say(link, confirmed, actions)
        self._read(actions)

    def _failed(self, code: str, text: str, actions: list[Action]) -> None:
        """A rolled-back commit ends every link that had a batch in it (RULES 9)."""
        tasks, self._tasks = self._tasks, []
        self._waiting = False
        for task in tasks:
            if task.link.aborted is None:
                self._abort(task.link, task.n, code, text, actions)
        self._read(actions)

    def _abort(self, link: Link, n: int, code: str, text: str, actions: list[Action]) -> None:
        link.aborted = Aborted(epoch=self._epoch, generation=link.generation, n=n, code=code, text=text)
        actions.append(Complain(f"batch {n} of {link.name} was rolled back: {code}: {text}"))
        self._say(link, link.aborted, actions)

    def _say(self, link: Link, header: Confirmed | Aborted, actions: list[Action]) -> None:
        """Say something about a batch, unless its link was opened anew or lost since."""
        if self._links.get(link.name) is link:
            actions.append(Send(link.name, header))

    # --- queries ------------------------------------------------------------------------------------------

    def _read(self, actions: list[Action]) -> None:
        """Begin a turn of reading."""
        self._turn_bytes = 0
        self._read_on(actions)

    def _read_on(self, actions: list[Action]) -> None:
        """Look up the next answer, if the turn is not over."""
        while self._asks and not self._finding and self._turn_bytes < TURN_BYTES_MAX:
            ask = self._asks.popleft()
            if self._link_of(ask, actions) is None:
                continue
            query = ask.query
            if isinstance(query, ReadPage) and query.history not in (None, self._history):
                text = "The cursor belongs to another history: the server was restored. Begin at 0."
                actions.append(self._answer(ask, Failed(code="history_changed", text=text), b""))
            else:
                self._finding = True
                actions.append(Read(ask))

    def _forget_asks(self, name: str) -> None:
        """A broker opens anew: it asks again what was not answered."""
        self._asks = deque(ask for ask in self._asks if ask.name != name)

    def _answer(self, ask: Ask, reading: Reading, body: bytes) -> Send:
        answered = Answered(
            epoch=self._epoch, generation=ask.generation, n=ask.n, history=self._history, reading=reading
        )
        return Send(ask.name, answered, body)

    # --- links --------------------------------------------------------------------------------------------

    def _link_of(self, header: Batch | Ask | Beat, actions: list[Action]) -> Link | None:
        """Return the open link that something was said on. If there is none, say so (RULES 6, 7)."""
        link = self._links.get(header.name)
        if link is not None and (header.epoch, header.generation) == (self._epoch, link.generation):
            return link
        newest = self._generations.get(header.name, 0)
        if header.name not in self._ways:
            self._connect(header.name, actions)
        closed = Closed(epoch=self._epoch, generation=newest, fenced=header.generation < newest)
        actions.append(Send(header.name, closed))
        return None

    def _opened(self, counted: OpenCounted, actions: list[Action]) -> None:
        """Begin a generation. If it is open already the answer was lost or is under way: only say it again."""
        self._waiting = False
        name, generation = counted.name, counted.generation
        link = self._links.get(name)
        if link is None or link.generation != generation:
            assert generation >= self._generations.get(name, 0), "generations never fall"
            self._generations[name] = generation
            self._links[name] = Link(name, generation, counted.nonce)
            self._connect(name, actions)
        opened = Opened(
            nonce=counted.nonce,
            epoch=self._epoch,
            generation=generation,
            history=self._history,
            high=self._high,
        )
        actions.append(Send(name, opened))

    def _connect(self, name: str, actions: list[Action]) -> None:
        self._ways.pop(name, None)
        while len(self._ways) >= BROKERS_MAX:
            oldest = next(iter(self._ways))
            self._lose(oldest, actions)
        self._ways[name] = None
        actions.append(Connect(name))

    def _lose(self, name: str, actions: list[Action]) -> None:
        """What was to be said to this broker is lost, so its link is over: it is told so when it next speaks."""
        self._links.pop(name, None)
        if name in self._ways:
            del self._ways[name]
            actions.append(Disconnect(name))


def _weight(found: Found) -> int:
    """What looking up an answer took, in bytes."""
    reading = found.reading
    messages = len(reading.entries) if isinstance(reading, PageRead) else 0
    return len(found.body) + messages * MESSAGE_BYTES + QUERY_BYTES


def write_of(batch: Batch, body: bytes) -> Write:
    """Return a batch as the journal takes it.

    Raises RemoteProtocolError if its sizes lie about its body, or a message names other mailboxes than recipients:
    the broker that said so has a bug, and nothing of the batch is executed.
    """
    stores = [command for command in batch.commands if isinstance(command, StoreMessages)]
    contents = codec.cut(body, chain.from_iterable(command.sizes for command in stores))
    for command in stores:
        fault = _fault_of(command)
        if fault:
            raise RemoteProtocolError("bad_request", fault)
    return Write(batch.commands, contents)


def _fault_of(command: StoreMessages) -> str:
    """Return what is wrong with an envelope's columns, or ""."""
    messages = len(command.ids)
    types = command.content_types or command.ids
    columns: tuple[Sized, ...] = (command.to, command.mailboxes, command.sizes, command.sent_at_us, types)
    if {messages} != set(map(len, columns)):
        return f"{messages} ids have columns of {sorted(set(map(len, columns)))}"
    places = [each.place for each in command.apart]
    if places != sorted(set(places)) or places[-1:] > [messages - 1]:
        return f"places of {messages} messages are not in order: {places}"
    if command.mailboxes.count(0) != len(places) or any(command.mailboxes[place] for place in places):
        return "a message has no mailbox and is not apart, or has one and is"
    for each in command.apart:
        if not each.refusal and not 0 < len(each.to) == len(each.mailboxes) == len(set(each.mailboxes)):
            return f"{len(each.to)} recipients have {len(set(each.mailboxes))} mailboxes"
    return ""
