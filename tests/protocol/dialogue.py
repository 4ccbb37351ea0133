"""A broker's real core, talked to in memory: behind it the store's real core and the accounts' real rules.

    world = World()
    bob = world.login("bob")
    assert bob.ask(Ping(id=7)) == Pong(id=7)

Whatever a client says is settled before the next line: actions are carried out until none is left. Parts can be told to
fall silent (`world.auth_silent`, `world.store_silent`), and `world.wait(seconds)` moves the clock.
"""

from __future__ import annotations

from collections import deque
from itertools import count

from auth_service.answers import Answers, Policy
from auth_service.memory import MemoryAccounts
from auth_service.passwords import Checked
from broker import events as b
from broker.core import Broker, Config
from restante.wire import auth_link, codec, envelopes, limits, store_link
from restante.wire.errors import RemoteProtocolError
from store_worker import events as s
from store_worker.core import Store
from store_worker.journal import JournalError
from store_worker.memory import MemoryJournal

WORKER = b"worker"
NOW_US = 1_763_966_400_000_000
PASSWORD = "correct horse"
HISTORY = bytes(range(16))


class PlainPasswords:
    """Passwords at no cost."""

    def hash(self, password: str) -> str:
        return f"plain {password}"

    def check(self, password: str, stored: str | None) -> Checked:
        return Checked(right=stored == f"plain {password}")


class Client:
    """One connection. `heard` is all that the broker ever sent it, in order."""

    def __init__(self, world: World, routing_id: bytes, key: str, address: str) -> None:
        self._world = world
        self.peer = b.Peer(routing_id=routing_id, key=key, address=address)
        self.heard: list[tuple[envelopes.ToClient, bytes]] = []
        self._ids = count(1_000)

    def frames(self, frames: list[bytes]) -> list[envelopes.ToClient]:
        """Send frames as they are; what comes back until all is settled."""
        before = len(self.heard)
        try:
            envelope, body = codec.from_client.read(frames)
        except RemoteProtocolError as error:
            self._world.happen(b.Malformed(self.peer, error))
        else:
            self._world.happen(b.Arrived(self.peer, envelope, body))
        return [header for header, _ in self.heard[before:]]

    def say(self, header: envelopes.ToBroker, body: bytes = b"") -> list[envelopes.ToClient]:
        """Send an envelope; what comes back until all is settled."""
        return self.frames(codec.client_frames(header, body))

    def ask(self, request: envelopes.ToBroker, body: bytes = b"") -> envelopes.ToClient:
        """Send a request; its one answer."""
        got = [header for header in self.say(request, body) if getattr(header, "id", None) == getattr(request, "id", 0)]
        assert len(got) == 1, f"{request} got {got}"
        return got[0]

    def next_id(self) -> int:
        """A request's id, not used before."""
        return next(self._ids)

    def greeted(self) -> bool:
        """True if the session is at least greeted, told by what it answers to a request for which it must be."""
        got = self.say(envelopes.Ping(id=self.next_id()))
        return bool(got) and not (isinstance(got[0], envelopes.Error) and got[0].code == "no_session")


class World:
    """A broker, a store, one authentication worker, and a clock."""

    def __init__(self, *, registration_open: bool = True, sessions_max: int = limits.SESSIONS_MAX) -> None:
        config = Config(name="b1", seed=bytes(16), registration_open=registration_open, sessions_max=sessions_max)
        self.broker = Broker(config)
        self.now = 1_000.0
        self.journal = MemoryJournal(history=HISTORY)
        self.store = Store(self.journal.start())
        self._secrets = count(1)
        accounts = MemoryAccounts()
        self.answers = Answers(accounts, PlainPasswords(), self._entropy, Policy())
        self.store_silent = False
        self.auth_silent = False
        self.asked: list[auth_link.Question] = []
        self.ended: list[b.End] = []
        self._clients: dict[bytes, Client] = {}
        self._ops = count(1)
        self._events: deque[b.Event] = deque()
        self.happen(b.WorkerArrived(WORKER, auth_link.Ready(worker=bytes(16), capacity=64)))

    def _entropy(self, size: int) -> bytes:
        return next(self._secrets).to_bytes(size, "big")

    # --- people -------------------------------------------------------------------------------------------

    def connect(self, *, routing_id: bytes = b"", key: str = "", address: str = "192.0.2.1") -> Client:
        """A connection that has said nothing."""
        n = len(self._clients) + 1
        routing_id = routing_id or b"\0%04d" % n
        client = Client(self, routing_id, key or f"key {n}", address)
        self._clients[routing_id] = client
        return client

    def greet(self) -> Client:
        """A connection that has said hello."""
        client = self.connect()
        assert isinstance(client.ask(envelopes.Hello(id=1)), envelopes.Welcome)
        return client

    def register(self, *names: str) -> None:
        """Make accounts."""
        client = self.greet()
        for name in names:
            made = client.ask(envelopes.Register(id=client.next_id(), op=self.op(), name=name, password=PASSWORD))
            assert isinstance(made, envelopes.Registered), made

    def login(self, name: str) -> Client:
        """A session of an account, which is made if it is not there."""
        client = self.greet()
        client.ask(envelopes.Register(id=2, op=self.op(), name=name, password=PASSWORD))
        got = client.ask(envelopes.Login(id=3, op=self.op(), name=name, password=PASSWORD))
        assert isinstance(got, envelopes.LoggedIn), got
        return client

    def at(self, stage: str, name: str) -> Client:
        """A connection at a stage: new, greeted, or ready as this account."""
        if stage == "ready":
            return self.login(name)
        return self.connect() if stage == "new" else self.greet()

    def op(self) -> bytes:
        """An operation's id, not used before."""
        return next(self._ops).to_bytes(16, "big")

    # --- time and events ----------------------------------------------------------------------------------

    def happen(self, *events: b.Event) -> None:
        """Let it happen, and all that follows from it: wake-up after wake-up, each ending in `Drained`."""
        self._events.extend(events)
        while self._events:
            arrived, self._events = self._events, deque()
            for event in [*arrived, b.Drained()]:
                for action in self.broker.handle(event, self.now):
                    self._do(action)

    def wait(self, seconds: float, *talking: Client) -> None:
        """Let time pass; who is `talking` pings every second meanwhile."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 0.5)
            if not self.auth_silent:
                self._events.append(b.WorkerArrived(WORKER, auth_link.Beat()))
            self.happen(b.Due())
            if (self.now * 2) % 2 == 0:
                for client in talking:
                    client.say(envelopes.Ping(id=client.next_id()))

    def _do(self, action: b.Action) -> None:
        match action:
            case b.Reply(routing_id, envelope, body):
                # As on the wire: what cannot be written and read again was no envelope.
                read, body = codec.from_broker.read(codec.client_frames(envelope, body))
                assert read == envelope
                self._clients[routing_id].heard.append((envelope, body))
            case b.AskWorker(routing_id, envelope):
                self._ask_worker(routing_id, envelope)
            case b.Push(envelope, body):
                if not self.store_silent:
                    self._tell_store(envelope, b"".join(body))
            case b.End():
                self.ended.append(action)
            case b.OpenLink() | b.Announce():
                pass

    def _ask_worker(self, routing_id: bytes, envelope: auth_link.ToWorker) -> None:
        if isinstance(envelope, auth_link.Ask):
            self.asked.append(envelope.question)
            if not self.auth_silent:
                outcome = self.answers.answer(envelope.question, self.wall_us)
                self._events.append(b.WorkerArrived(routing_id, auth_link.Told(n=envelope.n, outcome=outcome)))

    def tell_auth(self, outcome: auth_link.Outcome | None = None) -> None:
        """Answer the last question, which was kept back, with this or as the rules say."""
        told = auth_link.Told(n=len(self.asked), outcome=outcome or self.answers.answer(self.asked[-1], self.wall_us))
        self.happen(b.WorkerArrived(WORKER, told))

    @property
    def wall_us(self) -> int:
        """Wall time."""
        return NOW_US + int(self.now * 1_000_000)

    def _tell_store(self, header: store_link.ToStore, body: bytes) -> None:
        events: deque[s.Event] = deque([s.Arrived(header, body), s.Drained()])
        while events:
            for action in self.store.handle(events.popleft(), self.now):
                if isinstance(action, s.Send):
                    self._events.append(b.StoreArrived(action.header, action.body))
                elif (event := self._journal(action)) is not None:
                    events.append(event)

    def _journal(self, action: s.Action) -> s.Event | None:
        """What the store's shell does with a journal."""
        match action:
            case s.CountOpen(name, nonce):
                return s.OpenCounted(name, nonce, self.journal.open(name, nonce))
            case s.Commit(writes):
                try:
                    return s.Committed(self.journal.commit(writes, self.wall_us))
                except JournalError as error:
                    return s.CommitFailed(error.code, error.text)
            case s.Read(ask):
                return self._read(ask)
        return None

    def _read(self, ask: store_link.Ask) -> s.Found:
        match ask.query:
            case store_link.ReadPage():
                page, body = self.journal.page(ask.query)
                return s.Found(ask, page, body)
            case store_link.ReadStatus():
                return s.Found(ask, self.journal.status(ask.query))
            case store_link.CountMailbox():
                return s.Found(ask, self.journal.count(ask.query))
