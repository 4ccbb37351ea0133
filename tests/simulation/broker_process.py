"""The broker's process: what `broker.service` is with sockets, on simulated lines. Durable: its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from broker import core as broker_core
from broker import events as broker_events
from restante.wire import auth_link, codec, envelopes, store_link
from tests.simulation.history import Delivery, History, Subscription
from tests.simulation.network import ClientConnection, Connection, Envelope, Line, Network, WorkerConnection
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
        self._tap = Tap(history)

    def boot(self) -> broker_core.Broker:
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

    def accept_client(self, name: str, deliver: Callable[[Envelope[envelopes.ToClient]], None]) -> ClientConnection:
        """A client connects. Ids are numbered, as libzmq does."""
        self._peers += 1
        routing_id = b"\0" + self._peers.to_bytes(4, "big")
        peer = broker_events.Peer(routing_id, f"key-of-{name}", "10.0.0.1")
        life = self.life

        def arrived(envelope: Envelope[envelopes.ToBroker]) -> None:
            if self.life == life:
                self.receive(broker_events.Arrived(peer, *envelope))

        connection: ClientConnection = Connection(
            self._network.line(f"{name}>broker", arrived, codec.from_client, mended=False),
            self._network.line(f"broker>{name}", deliver, codec.from_broker, mended=False),
            routing_id,
        )
        self._clients[routing_id] = connection
        return connection

    def forget_client(self, connection: ClientConnection) -> None:
        """Its socket has noticed that the peer is gone: what is said to it from now on fails."""
        self._clients.pop(connection.routing_id, None)

    def accept_worker(self, name: str, deliver: Callable[[Envelope[auth_link.ToWorker]], None]) -> WorkerConnection:
        """An authentication worker connects."""
        self._peers += 1
        routing_id = b"\0" + self._peers.to_bytes(4, "big")
        life = self.life

        def arrived(envelope: Envelope[auth_link.FromWorker]) -> None:
            if self.life == life:
                self.receive(broker_events.WorkerArrived(routing_id, envelope[0]))

        connection: WorkerConnection = Connection(
            self._network.line(f"{name}>broker", arrived, codec.from_auth_worker),
            self._network.line(f"broker>{name}", deliver, codec.to_auth_worker),
            routing_id,
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
            self._tap.heard(event.peer, event.envelope)
        return list(super()._decide(event))

    def perform(self, action: broker_events.Action) -> Iterable[broker_events.Event]:
        match action:
            case broker_events.Reply(routing_id, header, body):
                client = self._clients.get(routing_id)
                if client is None:
                    return (broker_events.Unreachable(routing_id),)
                self._tap.said(routing_id, header, self.world.now)
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

    def _open_link(self) -> None:
        if self._store is not None:
            self._store.cut()
        store = self._network.store
        self._store = self._network.line("broker>store", store.broker_says, codec.to_store)
        store.add_inlet(self._store)

    def stand_still(self, seconds: float) -> None:
        """The connection that there is to the store stands still; one made from now on doesn't."""
        if self._store is not None:
            self._store.stand_still(seconds)

    def tear_store_line(self) -> None:
        """The connection to the store breaks and is mended by libzmq."""
        if self._store is not None:
            self._store.tear()


class Tap:
    """What a broker says on its subscriptions, and the credit that it was told before."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._asked: dict[tuple[bytes, int], Subscription] = {}
        self._begun: dict[tuple[bytes, int], Subscription] = {}

    def heard(self, peer: broker_events.Peer, header: envelopes.ToBroker) -> None:
        """A client's envelope, when the broker takes it."""
        if isinstance(header, envelopes.Subscribe):
            reader = peer.key.removeprefix("key-of-")
            asked = Subscription(reader, header.after, header.sender, header.messages, header.bytes)
            self._asked[peer.routing_id, header.sub] = asked
        elif isinstance(header, envelopes.Credit):
            for kept in (self._asked, self._begun):
                known = kept.get((peer.routing_id, header.sub))
                if known is not None:
                    known.messages = max(known.messages, header.messages)
                    known.bytes = max(known.bytes, header.bytes)

    def said(self, routing_id: bytes, header: envelopes.ToClient, now: float) -> None:
        """The broker's envelope to a client."""
        if isinstance(header, envelopes.Subscribed):
            asked = self._asked[routing_id, header.sub]
            self._begun[routing_id, header.sub] = asked
            self._history.subscriptions.append(asked)
        elif isinstance(header, envelopes.Deliver):
            begun = self._begun[routing_id, header.sub]
            begun.deliveries.append(Delivery(now, header.first, header.messages, begun.messages, begun.bytes))
