"""The broker's process: what `broker.service` is with sockets, on simulated lines. Durable: its name.

What passes it is written down for the checker, by a tap on the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from broker import core as broker_core
from broker import events as broker_events
from restante.wire import auth_link, codec, envelopes, links, store_link
from tests.simulation.history import Delivery, History, Said, Span, Subscription
from tests.simulation.network import ClientConnection, Connection, Envelope, Line, Network, WorkerConnection
from tests.simulation.people import person_of
from tests.simulation.plan import MESSAGES_PER_SEND
from tests.simulation.process import Process
from tests.simulation.world import World


class BrokerProcess(Process[broker_events.Event, broker_events.Action]):
    """The broker. Durable: its name."""

    drained = broker_events.Drained()
    due = broker_events.Due()

    def __init__(self, world: World, network: Network, history: History) -> None:
        super().__init__(world, "broker")
        self._network = network
        self._history = history
        self._dice = world.dice("broker")
        self._clients: dict[bytes, ClientConnection] = {}
        self._workers: dict[bytes, WorkerConnection] = {}
        self._store: Line[Envelope[store_link.ToStore]] | None = None
        self._peers = 0
        self._numbers: dict[tuple[bytes, str], int] = {}
        self._claims: dict[tuple[bytes, str], ClientConnection] = {}
        """Connections that took the routing id of another, and have said nothing yet."""
        self._tap = Tap(history)
        self.narrow = False
        """Whether clients are told narrower limits than usual."""

    def boot(self) -> broker_core.Broker:
        self._claims.clear()
        config = broker_core.Config(name="broker-1", seed=self._dice.randbytes(16))
        return broker_core.Broker(config)

    def died(self) -> None:
        for client in self._clients.values():
            client.cut()
        for worker in self._workers.values():
            worker.cut()
        if self._store is not None:
            self._store.cut()
        self._clients.clear()
        self._workers.clear()
        self._tap = Tap(self._history)

    # --- who connects -------------------------------------------------------------------------------------

    def accept_client(
        self, name: str, deliver: Callable[[Envelope[envelopes.ToClient]], None], claim: bytes | None = None
    ) -> ClientConnection:
        """A client connects. Ids are numbered, as libzmq does; unless it claims one, of somebody who left just now."""
        self._peers += 1
        routing_id = claim or b"\0" + self._peers.to_bytes(4, "big")
        peer = broker_events.Peer(routing_id, f"key-of-{name}", "10.0.0.1")
        life = self.life

        def arrived(envelope: Envelope[envelopes.ToBroker]) -> None:
            if self.life == life:
                self.receive(broker_events.Arrived(peer, *envelope))

        connection: ClientConnection = Connection(
            self._network.line(f"{name}>broker", arrived, codec.from_client, mended=False),
            self._network.line(f"broker>{name}", deliver, codec.from_broker, mended=False),
            routing_id,
            self._peers,
            name,
        )
        self._numbers[routing_id, peer.key] = connection.number
        if claim is None:
            self._clients[routing_id] = connection
        else:
            self._claims[routing_id, peer.key] = connection
        return connection

    def forget_client(self, connection: ClientConnection) -> None:
        """Its socket has noticed that the peer is gone: what is said to it from now on fails."""
        if self._clients.get(connection.routing_id) is connection:
            del self._clients[connection.routing_id]

    def accept_worker(self, name: str, deliver: Callable[[Envelope[auth_link.ToWorker]], None]) -> WorkerConnection:
        """An authentication worker connects."""
        self._peers += 1
        routing_id = b"\0" + self._peers.to_bytes(4, "big")
        life = self.life

        def arrived(envelope: Envelope[auth_link.FromWorker]) -> None:
            if self.life == life:
                self.receive(broker_events.WorkerArrived(routing_id, envelope[0]))

        connection: WorkerConnection = Connection(
            self._network.line(f"{name}>broker", arrived, links.from_auth_worker),
            self._network.line(f"broker>{name}", deliver, links.to_auth_worker),
            routing_id,
            self._peers,
            name,
        )
        self._workers[routing_id] = connection
        return connection

    def forget_worker(self, connection: WorkerConnection) -> None:
        """Its socket has noticed that the worker is gone."""
        self._workers.pop(connection.routing_id, None)

    def store_says(self, envelope: Envelope[store_link.FromStore]) -> None:
        """The store's PUSH reached our PULL."""
        self.receive(broker_events.StoreArrived(*envelope))

    # --- performing ---------------------------------------------------------------------------------------

    def _decide(self, event: broker_events.Event) -> list[broker_events.Action]:
        if isinstance(event, broker_events.Arrived):
            who = event.peer.routing_id, event.peer.key
            if who in self._claims:
                self._clients[who[0]] = self._claims.pop(who)
            self._tap.heard(self._said(self._numbers[who], who[1], event.envelope, event.body, heard=True))
        return list(super()._decide(event))

    def perform(self, action: broker_events.Action) -> Iterable[broker_events.Event]:
        match action:
            case broker_events.Reply(routing_id, header, body):
                client = self._clients.get(routing_id)
                if client is None:
                    return (broker_events.Unreachable(routing_id),)
                if isinstance(header, envelopes.Welcome) and self.narrow:
                    header = replace(header, limits=envelopes.Limits(messages_per_send=MESSAGES_PER_SEND))
                self._tap.said(self._said(client.number, client.name, header, body, heard=False))
                client.down.send((header, body), self.lag_s)
            case broker_events.Push(header, parts):
                if self._store is None:
                    return (broker_events.PushFailed(),)
                self._store.send((header, b"".join(parts)), self.lag_s)
            case broker_events.AskWorker(routing_id, header):
                worker = self._workers.get(routing_id)
                if worker is None:
                    return (broker_events.WorkerUnreachable(routing_id),)
                worker.down.send((header, b""), self.lag_s)
            case broker_events.OpenLink():
                self._open_link()
            case broker_events.End():
                self.kill()
        return ()

    def _said(
        self, number: int, key: str, header: envelopes.ToBroker | envelopes.ToClient, body: bytes, *, heard: bool
    ) -> Said:
        return Said(self.world.now, number, key.removeprefix("key-of-"), header, len(body), heard)

    def close_mailbox(self, account: int, span: Span) -> None:
        """What the end of an account will do: the store is told, and `span` is when it has happened."""

        def closed(outcome: store_link.Outcome | store_link.Failed, now: float, actions: object) -> None:
            if isinstance(outcome, store_link.Noted):
                span.ended_at = now

        self.core._link.submit(store_link.CloseMailbox(mailbox=account), b"", closed, 0)  # type: ignore[attr-defined]

    def _open_link(self) -> None:
        """A new socket; what the one before it holds is lost."""
        if self._store is not None:
            self._store.cut()
        store = self._network.store
        self._store = self._network.line("broker>store", store.broker_says, links.to_store)
        store.add_inlet(self._store)

    def worker_named(self, name: str) -> WorkerConnection | None:
        """The connection of an authentication worker, if there is one."""
        return next((worker for worker in self._workers.values() if worker.name == name), None)

    def stand_still(self, seconds: float) -> None:
        """The connection that there is to the store stands still; one made from now on doesn't."""
        if self._store is not None:
            self._store.stand_still(seconds)

    def tear_store_line(self) -> None:
        """The connection to the store breaks and is mended by libzmq."""
        if self._store is not None:
            self._store.tear()


class Tap:
    """What is said to a broker and what it says; and what it says on its subscriptions, beside the credit it has."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._asked: dict[tuple[int, int], Subscription] = {}
        self._begun: dict[tuple[int, int], Subscription] = {}

    def heard(self, said: Said) -> None:
        """A client's envelope, when the broker takes it."""
        self._history.wire.append(said)
        header = said.header
        if isinstance(header, envelopes.Subscribe):
            asked = Subscription(person_of(said.key), header.after, header.sender, header.messages, header.bytes)
            self._asked[said.connection, header.sub] = asked
        elif isinstance(header, envelopes.Credit):
            for kept in (self._asked, self._begun):
                known = kept.get((said.connection, header.sub))
                if known is not None:
                    known.messages = max(known.messages, header.messages)
                    known.bytes = max(known.bytes, header.bytes)

    def said(self, said: Said) -> None:
        """The broker's envelope to a client."""
        self._history.wire.append(said)
        header = said.header
        if isinstance(header, envelopes.Subscribed):
            asked = self._asked.get((said.connection, header.sub))
            if asked is not None:
                self._begun[said.connection, header.sub] = asked
                self._history.subscriptions.append(asked)
        elif isinstance(header, envelopes.Deliver):
            begun = self._begun.get((said.connection, header.sub))
            if begun is not None:  # else the judge of the wire has something to say
                begun.deliveries.append(Delivery(said.at, header.first, header.messages, begun.messages, begun.bytes))
