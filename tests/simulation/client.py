"""A client's process: the real session, a shell around it, and the programs that a user runs in it.

A program is a generator. It yields what it waits for: a number of seconds, or a condition, which is looked at after
every turn. What it knows it must not forget is its user's (`workload.User`): a process that is killed takes session and
programs with it, and the next one begins the programs anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Final

from msgspec import Struct, field

from restante import events
from restante.session import Session
from restante.wire import envelopes
from restante.wire.columns import results_of
from restante.wire.envelopes import TEXT, Entry, Result, ToClient
from restante.wire.errors import ChatError, RefusedError
from tests.simulation.history import Acknowledging, Call, Following, History, Reading, Sending
from tests.simulation.network import ClientConnection, Envelope, Network
from tests.simulation.people import person_of
from tests.simulation.process import Process
from tests.simulation.world import World

Wait = float | Callable[[], bool]
Program = Generator[Wait, None, None]

NOTICE_S: Final = 1.0
"""How soon a client hears that its connection broke, if it hears of it at all."""

TOGETHER_MAX: Final = 4
"""Messages of one submission. What is given at once is one to so many at a time, by the number of its first."""

FORGET_S: Final = 35.0
"""How soon the broker's libzmq notices that a client is gone: ZMTP's heartbeat and its timeout."""


class Outcome(Struct):
    """A call of a program, and what came of it."""

    call: Call
    done: bool = False
    answer: ToClient | None = None
    body: bytes = b""
    result: Result | None = None
    error: ChatError | None = None
    sending: Sending | None = None


class Feed(Struct):
    """What a subscription has handed over and its program has not taken yet."""

    number: int
    following: Following
    waiting: list[tuple[Entry, bytes]] = field(default_factory=list)
    ended: ChatError | None = None


def code_of(error: ChatError) -> str:
    """The stable code of an error, or its kind where it has none."""
    return error.refused_code if isinstance(error, RefusedError) else type(error).__name__


def ended(outcomes: Sequence[Outcome]) -> Wait:
    """What a program yields to wait for calls to end."""
    return lambda: all(outcome.done for outcome in outcomes)


class Task:
    """One program, and what it waits for."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.wait: Wait = 0.0
        self.resume_at = 0.0

    def ready(self, now: float) -> bool:
        """Whether what it waits for is there."""
        return self.wait() if callable(self.wait) else now >= self.resume_at


class ClientProcess(Process[events.Event, events.Action]):
    """One user's process. `programs` makes what it runs, at every start."""

    due = events.Ticked()

    def __init__(
        self,
        world: World,
        name: str,
        network: Network,
        history: History,
        programs: Callable[[ClientProcess], list[Program]],
    ) -> None:
        super().__init__(world, name)
        self.history = history
        self.person = person_of(name)
        """Whose it is: the account."""
        self.session: Session
        self.token: bytes | None = None
        """Durable: the credentials file, as it was when the process last died."""
        self._network = network
        self._programs = programs
        self._dice = world.dice(name)
        self._tasks: list[Task] = []
        self._tickets = 0
        self._outcomes: dict[int, Outcome] = {}
        self._feeds: dict[int, Feed] = {}
        self._connection: ClientConnection | None = None

    def boot(self) -> Session:
        self._tasks = [Task(program) for program in self._programs(self)]
        self.session = Session(where="the server", client="simulated", token=self.token, entropy=self._dice.randbytes)
        return self.session

    def died(self) -> None:
        self.token = self.session.token
        self._tasks.clear()
        self._feeds.clear()
        for outcome in self._outcomes.values():
            outcome.call.orphaned = True
        self._outcomes.clear()
        self._drop()

    @property
    def idle(self) -> bool:
        """Whether every program has come to its end."""
        return self.up and not self._tasks

    @property
    def doing(self) -> str:
        """What it is at, for who wonders why it does not end."""
        waits = [outcome.call.what for outcome in self._outcomes.values()]
        return f"{self.name} has {len(self._tasks)} programs and waits for {waits[:5]}"

    # --- programs -----------------------------------------------------------------------------------------

    def turned(self) -> None:
        progress = True
        while progress:
            progress = False
            for task in [task for task in self._tasks if task.ready(self.world.now)]:
                progress = True
                self._resume(task)

    def _resume(self, task: Task) -> None:
        try:
            task.wait = next(task.program)
        except StopIteration:
            self._tasks.remove(task)
            return
        if not callable(task.wait):
            task.resume_at = self.world.now + task.wait
            life = self.life
            self.world.at(task.resume_at, lambda: self._look(life))

    def _look(self, life: int) -> None:
        """A program's sleep is over."""
        if self.up and self.life == life:
            self._wake(max(self.world.now, self._busy_until))

    # --- what programs call -------------------------------------------------------------------------------

    def begin(self, program: Program) -> None:
        """Run another program beside those that run."""
        self._tasks.append(Task(program))

    def send(self, messages: list[Sending], timeout_s: float = math.inf) -> list[Outcome]:
        """Give messages to be sent, in this order."""
        outcomes = list[Outcome]()
        deadline = self.world.now + timeout_s
        for sending in messages:
            sending.order, sending.at, sending.run = len(self.history.sendings), self.world.now, self.life
            sending.device = self.name
            self.history.sendings.append(sending)
            outcome = self._expect(f"send {sending.content[:40]!r}")
            outcome.sending = sending
            outcomes.append(outcome)
        first = self._tickets - len(messages) + 1
        together = 1 + first % TOGETHER_MAX
        lots = [range(at, min(at + together, len(messages))) for at in range(0, len(messages), together)]
        self.receive(events.Submitted([_submission(messages, lot, first, deadline) for lot in lots]))
        return outcomes

    def request(self, header: envelopes.Request, timeout_s: float = math.inf) -> Outcome:
        """Ask anything else."""
        outcome = self._expect(type(header).__name__)
        self.receive(events.Requested(self._tickets, header, self.world.now + timeout_s))
        return outcome

    def fetch(self, query: envelopes.Fetch, timeout_s: float = math.inf) -> Generator[Wait, None, Reading | None]:
        """Ask for a page and wait for it; None if there was none."""
        asked_at = self.world.now
        outcome = self.request(query, timeout_s)
        yield ended([outcome])
        if not isinstance(outcome.answer, envelopes.Page):
            return None
        page = outcome.answer
        contents, at = [], 0
        for entry in page.messages:
            contents.append(outcome.body[at : at + entry.size])
            at += entry.size
        reading = Reading(
            at=asked_at, ended_at=self.world.now, reader=self.person, after=query.after, unread=query.unread,
            sender=query.sender, limit=query.limit, through=page.through, more=page.more, entries=page.messages,
            contents=contents,
        )  # fmt: skip
        self.history.readings.append(reading)
        return reading

    def ack(
        self, seqs: list[int], ids: list[bytes], timeout_s: float = math.inf
    ) -> Generator[Wait, None, Acknowledging]:
        """Acknowledge and wait for it."""
        asked = Acknowledging(self.world.now, self.person, self.life, tuple(seqs), tuple(ids))
        self.history.acknowledgings.append(asked)
        outcome = self._expect(f"ack {seqs or ids}")
        deadline = self.world.now + timeout_s
        self.receive(events.AckRequested(self._tickets, seqs, ids, read=True, deadline=deadline))
        yield ended([outcome])
        asked.ended_at = self.world.now
        if isinstance(outcome.answer, envelopes.Acked):
            asked.confirmed = True
            asked.unknown = len(outcome.answer.unknown_seqs) + len(outcome.answer.unknown_ids)
        elif outcome.error is not None:
            asked.failure = code_of(outcome.error)
        return asked

    def follow(self, after: int, sender: str, messages: int, size: int) -> Feed:
        """Subscribe."""
        self._tickets += 1
        following = Following(self.person, self.life, after, sender)
        self.history.followings.append(following)
        feed = self._feeds[self._tickets] = Feed(self._tickets, following)
        self.receive(events.Followed(feed.number, sender, after, messages, size))
        return feed

    def take(self, feed: Feed) -> tuple[Entry, bytes]:
        """Take one message of a subscription, and so make room for another."""
        entry, content = feed.waiting.pop(0)
        self.receive(events.Consumed(feed.number, 1, len(content)))
        return entry, content

    def unfollow(self, feed: Feed) -> None:
        """End a subscription."""
        if self._feeds.pop(feed.number, None) is not None:
            self.receive(events.Unfollowed(feed.number))

    def _expect(self, what: str) -> Outcome:
        self._tickets += 1
        call = Call(self.world.now, self.name, what)
        self.history.calls.append(call)
        outcome = self._outcomes[self._tickets] = Outcome(call)
        return outcome

    # --- performing ---------------------------------------------------------------------------------------

    def perform(self, action: events.Action) -> Iterable[events.Event]:
        match action:
            case events.Open(connection):
                self._open(connection)
            case events.Transmit(header, body):
                if self._connection is not None:
                    self._connection.up.send((header, body), self.lag_s)  # type: ignore[arg-type]  # requests are what it sends
            case events.Drop():
                self._drop()
            case events.Resolve(ticket, answer, body):
                outcome = self._end(ticket)
                outcome.answer, outcome.body = answer, body
            case events.Fail(ticket, error):
                self._fail(self._end(ticket), error)
            case events.Settle() | events.Return():
                self._tell(action)
            case events.Hand():
                self._hand(action)
            case events.EndFollow(follow, error):
                feed = self._feeds.pop(follow, None)
                if feed is not None:
                    feed.ended = error
        return ()

    def _tell(self, action: events.Settle | events.Return) -> None:
        outcomes = self._end_all(action.submission)
        match action:
            case events.Settle(_, seqs, stored_at_us, apart):
                for outcome, result in zip(outcomes, results_of(seqs, stored_at_us, apart), strict=True):
                    self._settle(outcome, result)
            case events.Return(_, errors):
                for outcome, error in zip(outcomes, errors, strict=True):
                    self._fail(outcome, error)

    def _end_all(self, submission: events.Submission) -> list[Outcome]:
        owner = submission.owner
        assert isinstance(owner, int), "the session gives back what it was given"
        return [self._end(owner + submission.first + place) for place in range(len(submission))]

    def _end(self, ticket: int) -> Outcome:
        outcome = self._outcomes.pop(ticket)
        outcome.done = True
        outcome.call.ended_at = self.world.now
        outcome.call.ends += 1
        return outcome

    def _settle(self, outcome: Outcome, result: Result) -> None:
        outcome.result = result
        if outcome.sending is not None:
            outcome.sending.ended_at, outcome.sending.result = self.world.now, result

    def _fail(self, outcome: Outcome, error: ChatError) -> None:
        outcome.error = error
        outcome.call.failure = code_of(error)
        if outcome.sending is not None:
            outcome.sending.ended_at, outcome.sending.failure = self.world.now, code_of(error)

    def _hand(self, hand: events.Hand) -> None:
        feed = self._feeds.get(hand.follow)
        if feed is None:
            return
        feed.waiting += zip(hand.entries, hand.contents, strict=True)
        feed.following.entries += hand.entries
        feed.following.contents += hand.contents
        feed.following.handed_at += [self.world.now] * len(hand.entries)

    # --- the connection -----------------------------------------------------------------------------------

    def _open(self, number: int) -> None:
        """A new socket. If nobody is there that is heard of soon, or not at all."""
        self._drop()
        lost = partial(self._lost, self.life, number)
        if not self._network.broker.up:
            if self._dice.random() < 0.8:
                self.world.after(self._dice.uniform(0.001, 0.1), lost)
            return
        self._connection = self._network.broker.accept_client(self.name, partial(self._arrived, self.life, number))
        self._connection.on_cut = lost

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.on_cut = lambda: None
            self.cut()
            self._connection = None

    def make_way(self) -> bytes | None:
        """The connection breaks, and the ROUTER has read all that it ever will: its routing id may be claimed."""
        connection = self._connection
        if connection is None:
            return None
        self.cut()
        connection.up.drop()
        return connection.routing_id

    def cut(self) -> None:
        """The connection breaks. Either end hears of it later, the client's maybe never."""
        connection = self._connection
        if connection is None:
            return
        notice = connection.on_cut
        connection.cut()
        if self._dice.random() < 0.7:
            self.world.after(self._dice.uniform(0.0, NOTICE_S), notice)
        forget = partial(self._network.broker.forget_client, connection)
        self.world.after(self._dice.uniform(0.0, FORGET_S), forget)

    def broker_died(self) -> None:
        """Its kernel closes the connection, which is soon heard of; its host's end is not."""
        connection = self._connection
        if connection is not None and self._dice.random() < 0.9:
            self.world.after(self._dice.uniform(0.0, NOTICE_S), connection.on_cut)

    def stand_still(self, seconds: float) -> None:
        """Nothing gets through for so long."""
        if self._connection is not None:
            self._connection.stand_still(seconds)

    def _arrived(self, life: int, number: int, envelope: Envelope[ToClient]) -> None:
        if self.life == life:
            self.receive(events.Received(number, *envelope))

    def _lost(self, life: int, number: int) -> None:
        if self.life == life:
            self.receive(events.Lost(number, "the connection broke"))


def _submission(messages: Sequence[Sending], lot: range, first: int, deadline: float) -> events.Submission:
    """Some of the messages that are given at once; `first` is the ticket of the first of all."""
    some = [messages[place] for place in lot]
    return events.Submission(
        deadline=deadline,
        owner=first + lot.start,
        ids=[sending.id for sending in some],
        to=[sending.to[0] if len(sending.to) == 1 else list(sending.to) for sending in some],
        sizes=[len(sending.content) for sending in some],
        content_types=[TEXT] * len(some),
        reply_to=[sending.reply_to for sending in some],
        bodies=[sending.content for sending in some],
    )
