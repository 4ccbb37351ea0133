"""A broker's core with its whole surroundings played by hand: clients, authentication workers, the store, time.

Nobody says anything here unless a test has him do so: `client.say(…)`, `world.auth.answer()`, `world.store.work()`,
`world.wait(…)`. What the broker sent to each is kept until the test asks for it.
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import count
from typing import Any, TypeVar

from broker.core import Broker, Config
from broker.events import (
    Action,
    Announce,
    Arrived,
    AskWorker,
    Drained,
    Due,
    End,
    Event,
    Malformed,
    OpenLink,
    Peer,
    Push,
    PushFailed,
    Reply,
    Report,
    Unreachable,
    WorkerArrived,
    WorkerUnreachable,
)
from broker.sessions import Session
from restante.wire import auth_link, envelopes, limits
from restante.wire.envelopes import Deliver, Entry, Error, Item, LoggedIn, Result, Send, Sent, ToBroker, ToClient
from restante.wire.errors import RemoteProtocolError
from tests.unit.broker.model_store import Store, cut

T = TypeVar("T")

STREAM = b"stream-000000001"


def an_id(number: int) -> bytes:
    """An id of 16 bytes."""
    return number.to_bytes(16, "big")


class World:
    """One broker and all that it talks to."""

    def __init__(self, *, registration_open: bool = True, sessions_max: int = limits.SESSIONS_MAX) -> None:
        config = Config(name="broker-1", seed=bytes(16), registration_open=registration_open, sessions_max=sessions_max)
        self.broker = Broker(config)
        self.now = 1_000.0
        self.clients: dict[bytes, Client] = {}
        self.auth = Auth(self)
        self.store = Store(self)
        self.announced: list[bool] = []
        self.ended: list[str] = []
        self.counts: Counter[str] = Counter()
        """All that the broker reported as refused or thrown away."""
        self._numbers = count(1)

    @classmethod
    def ready(cls, **settings: Any) -> World:
        """One whose store has opened, and that has an authentication worker."""
        world = cls(**settings)
        world.tick()
        world.store.open()
        world.auth.join()
        assert world.announced == [True]
        return world

    def do(self, event: Event) -> list[Action]:
        """Let one event happen, with what comes of it. Returns the actions, in order."""
        done: list[Action] = []
        events = deque([event])
        while events:
            actions = self.broker.handle(events.popleft(), self.now)
            for action in actions:
                events += self._perform(action)
            done += actions
        return done

    def drain(self) -> list[Action]:
        """Everything that had arrived is handled."""
        return self.do(Drained())

    def tick(self) -> list[Action]:
        """The deadline has come."""
        return self.do(Due())

    def wait(self, seconds: float) -> None:
        """Time goes by, with a tick whenever the broker wishes for one; workers that aren't silent beat."""
        until = self.now + seconds
        while (deadline := self.broker.next_deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.auth.beat()
            self.tick()
        self.now = until

    def settle(self) -> None:
        """Everybody does what he was asked to, until nobody has anything left to do."""
        while True:
            self.drain()
            if not (self.auth.answer() or self.store.work()):
                return

    def _perform(self, action: Action) -> list[Event]:
        match action:
            case Reply(routing_id, envelope, body):
                client = self.clients.get(routing_id)
                if client is None or client.gone:
                    return [Unreachable(routing_id)]
                client.heard.append((envelope, body))
            case AskWorker(routing_id, question):
                worker = self.auth.workers.get(routing_id)
                if worker is None or worker.gone:
                    return [WorkerUnreachable(routing_id)]
                worker.heard.append(question)
            case OpenLink():
                self.store.sockets += 1
                self.store.inbox.clear()
            case Push(header, parts):
                if self.store.full:
                    return [PushFailed()]
                self.store.inbox.append((header, b"".join(parts)))
            case Announce(ready):
                self.announced.append(ready)
            case End(reason):
                self.ended.append(reason)
            case Report(counts):
                self.counts.update(counts)
        return []

    # --- clients ------------------------------------------------------------------------------------------

    def connect(self, key: str = "", *, routing_id: bytes = b"", address: str = "10.0.0.1") -> Client:
        """A new connection that has said nothing."""
        number = next(self._numbers)
        client = Client(self, Peer(routing_id or an_id(number), key or f"key-{number}", address))
        self.clients[client.peer.routing_id] = client
        return client

    def greet(self, **peer: Any) -> Client:
        """A connection that has said hello."""
        client = self.connect(**peer)
        client.answer_to(client.say(envelopes.Hello(id=client.next_id())), envelopes.Welcome)
        return client

    def log_in(self, name: str, **peer: Any) -> Client:
        """A session of that account, made if there is none, on a token of its own."""
        client = self.greet(**peer)
        request = client.say(envelopes.Resume(id=client.next_id(), token=self.auth.new_token(name)))
        self.auth.answer()
        client.name = client.answer_to(request, LoggedIn).name
        return client

    # --- what must hold -----------------------------------------------------------------------------------

    def sessions(self) -> list[Session]:
        """The broker's own view of its sessions."""
        return self.broker._sessions.all()

    def assert_at_rest(self) -> None:
        """Nothing is under way, so nothing is counted: a leak of a counter is `busy` for ever."""
        broker = self.broker
        assert broker._link.idle
        assert broker._link.weight == 0
        assert broker._pool.idle
        assert broker._sending.held_bytes == 0
        for session in self.sessions():
            assert (session.in_flight, session.held_bytes) == (0, 0), session.name
            assert not any(stream.held for stream in session.streams.values())


class Client:
    """One connection, and what it has heard and not looked at."""

    def __init__(self, world: World, peer: Peer) -> None:
        self.world = world
        self.peer = peer
        self.name = ""
        self.gone = False
        self.heard: list[tuple[ToClient, bytes]] = []
        self._ids = count(1)
        self._message_ids = count(int.from_bytes(peer.routing_id[-4:], "big") << 32)

    def next_id(self) -> int:
        """A request id not used yet."""
        return next(self._ids)

    def say(self, envelope: ToBroker, body: bytes = b"") -> int:
        """Send an envelope. Returns its request id, 0 if it has none."""
        self.world.do(Arrived(self.peer, envelope, body))
        return 0 if isinstance(envelope, envelopes.Credit) else envelope.id

    def blunder(self, code: str = "bad_frame", request_id: int | None = None) -> None:
        """Send what is no envelope."""
        self.world.do(Malformed(self.peer, RemoteProtocolError(code, "no envelope", request_id=request_id)))

    def answer_to(self, request_id: int, kind: type[T]) -> T:
        """The one answer to a request, which must be of that kind."""
        answers = [envelope for envelope, _ in self.heard if getattr(envelope, "id", None) == request_id]
        assert len(answers) == 1, f"request {request_id} has {len(answers)} answers: {self.heard}"
        self.heard = [pair for pair in self.heard if pair[0] is not answers[0]]
        assert isinstance(answers[0], kind), answers[0]
        return answers[0]

    def waits_for(self, request_id: int) -> bool:
        """True if the request has no answer yet."""
        return all(getattr(envelope, "id", None) != request_id for envelope, _ in self.heard)

    def ask(self, envelope: ToBroker, kind: type[T], body: bytes = b"") -> T:
        """Send a request, have everybody work, and return its answer."""
        request_id = self.say(envelope, body)
        self.world.settle()
        return self.answer_to(request_id, kind)

    def refusal(self, request_id: int) -> str:
        """The code with which a request was refused."""
        return self.answer_to(request_id, Error).code

    def send(
        self,
        n: int,
        *to: str,
        contents: tuple[bytes, ...] = (b"hello",),
        ids: tuple[bytes, ...] = (),
        stream: bytes = STREAM,
    ) -> int:
        """Send an envelope of a stream: each content is a message to all of `to`. Returns the request id."""
        ids = ids or tuple(an_id(next(self._message_ids)) for _ in contents)
        items = [Item(id=one, to=list(to), size=len(content)) for one, content in zip(ids, contents, strict=True)]
        request = Send.of(self.next_id(), stream, n, items)
        return self.say(request, b"".join(contents))

    def sent(self, request_id: int) -> list[Result]:
        """The results of a send that was taken."""
        return self.answer_to(request_id, Sent).results

    def subscribe(self, sub: int = 1, *, messages: int = 100, size: int = 1 << 20, **more: Any) -> None:
        """Begin a subscription with so much credit."""
        request = envelopes.Subscribe(id=self.next_id(), sub=sub, messages=messages, bytes=size, **more)
        self.answer_to(self.say(request), envelopes.Subscribed)

    def delivered(self, sub: int = 1) -> list[tuple[Entry, bytes]]:
        """What a subscription was sent since the last look; its numbers must have no gap."""
        found: list[tuple[Entry, bytes]] = []
        rest = []
        for envelope, body in self.heard:
            if isinstance(envelope, Deliver) and envelope.sub == sub:
                if found:
                    assert envelope.first == self._next_delivery
                self._next_delivery = envelope.first + len(envelope.messages)
                found += zip(envelope.messages, cut(body, [entry.size for entry in envelope.messages]), strict=True)
            else:
                rest.append((envelope, body))
        self.heard = rest
        return found

    _next_delivery = 0

    @property
    def session(self) -> Session:
        """The broker's own view of this connection."""
        session = self.world.broker._sessions.get(self.peer.routing_id)
        assert session is not None
        return session

    @property
    def known(self) -> bool:
        """True while the broker has a session for this connection."""
        return self.world.broker._sessions.get(self.peer.routing_id) is not None


class AuthWorker:
    """One worker and what it was asked."""

    def __init__(self, routing_id: bytes) -> None:
        self.routing_id = routing_id
        self.gone = False
        self.silent = False
        self.heard: list[auth_link.ToWorker] = []

    def take(self, limit: int | None = None) -> list[auth_link.Ask]:
        """The questions it was asked since the last look, or the first of them."""
        asks = [envelope for envelope in self.heard if isinstance(envelope, auth_link.Ask)][:limit]
        self.heard = [envelope for envelope in self.heard if envelope not in asks]
        return asks


class Auth:
    """The authentication workers, and the accounts they know."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.workers: dict[bytes, AuthWorker] = {}
        self.accounts: dict[str, int] = {}
        self.tokens: dict[bytes, tuple[str, int]] = {}

    def account(self, name: str) -> int:
        """The number of an account, made if there is none."""
        return self.accounts.setdefault(name, 100 + len(self.accounts))

    def new_token(self, name: str) -> bytes:
        """A new token of an account."""
        self.account(name)
        token = (len(self.tokens) + 1).to_bytes(limits.TOKEN_BYTES, "big")
        self.tokens[token] = (name, len(self.tokens) + 1)
        return token

    def join(self, routing_id: bytes = b"worker-1", worker: bytes = b"", capacity: int = 64) -> AuthWorker:
        """A worker says `ready`."""
        new = self.workers[routing_id] = AuthWorker(routing_id)
        self.say(auth_link.Ready(worker=worker or routing_id.ljust(16), capacity=capacity), routing_id)
        return new

    def say(self, envelope: auth_link.FromWorker, routing_id: bytes = b"worker-1") -> list[Action]:
        """A worker says something."""
        return self._world.do(WorkerArrived(routing_id, envelope))

    def beat(self) -> None:
        """Every worker that lives says so."""
        for worker in self.workers.values():
            if not worker.gone and not worker.silent:
                self.say(auth_link.Beat(), worker.routing_id)

    def tell(
        self, ask: auth_link.Ask, outcome: auth_link.Outcome | None = None, routing_id: bytes = b"worker-1"
    ) -> list[Action]:
        """A worker answers a question: as told, or as a sound one would."""
        return self.say(auth_link.Told(n=ask.n, outcome=outcome or self.outcome(ask.question)), routing_id)

    def asked(self, kind: type[T], routing_id: bytes = b"worker-1") -> tuple[auth_link.Ask, T]:
        """The one question that a worker was asked since the last look, which must be of that kind."""
        asks = self.workers[routing_id].take()
        assert len(asks) == 1, asks
        question = asks[0].question
        assert isinstance(question, kind)
        return asks[0], question

    def answer(self) -> bool:
        """All workers answer all they were asked. False if there was nothing."""
        worked = False
        for worker in list(self.workers.values()):
            for ask in [] if worker.gone else worker.take():
                worked = True
                self.tell(ask, routing_id=worker.routing_id)
        return worked

    def outcome(self, question: auth_link.Question) -> auth_link.Outcome:
        """What a sound worker would answer."""
        match question:
            case auth_link.MakeAccount():
                return auth_link.AccountMade(account=self.account(question.name), name=question.name)
            case auth_link.LogIn(name=name):
                if name not in self.accounts or question.password != "right":
                    return auth_link.Refused(code="wrong_credentials")
                return self.token_made(name)
            case auth_link.UseToken(token=token):
                name, number = self.tokens[token]
                return auth_link.TokenValid(account=self.accounts[name], name=name, token_id=number, expires_at_us=9)
            case auth_link.EndToken(token_id=number):
                return auth_link.TokensEnded(ended=[number])
            case auth_link.ChangePassword(account=account):
                name = next(name for name, other in self.accounts.items() if other == account)
                ended = [number for owner, number in self.tokens.values() if owner == name]
                return self.token_made(name, ended)
            case auth_link.ListTokens():
                return auth_link.TokensListed(tokens=[])
            case auth_link.ResolveNames(names=names):
                found = {name: self.accounts[name] for name in names if name in self.accounts}
                return auth_link.NamesResolved(accounts=found)
            case auth_link.CheckTokens():
                return auth_link.TokensEnded()

    def token_made(self, name: str, ended: list[int] | None = None) -> auth_link.TokenMade:
        """A new token of an account, and those that are over with it."""
        token = self.new_token(name)
        return auth_link.TokenMade(
            account=self.account(name),
            name=name,
            token_id=self.tokens[token][1],
            token=token,
            expires_at_us=9,
            ended=ended or [],
        )
