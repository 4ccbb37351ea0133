"""The broker as a service: real sockets, CURVE on loopback, the store and the authentication workers played by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgpack
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from broker.core import Broker
from broker.service import Service, durable_name, running
from broker.settings import Settings
from restante.wire import auth_link, codec, envelopes, limits, links, store_link
from restante.wire.envelopes import Error, Hello, Item, LoggedIn, Pong, Resume, Send, Sent, Tokens, Welcome
from runtime import keys, sockets
from runtime.errors import SetupError
from runtime.sockets import Socket
from runtime.zap import Enrolled, Zap

T = TypeVar("T")

DEADLINE_MS = 5_000
LOOPBACK = "tcp://127.0.0.1:0"
FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH


def receive(socket: Socket, deadline_ms: int = DEADLINE_MS) -> list[bytes]:
    assert socket.poll(deadline_ms), "nothing came"
    return socket.recv_multipart()


class Client:
    """A client's connection."""

    def __init__(self, house: House, *, curve: bool = True, server_key: bytes = b"") -> None:
        self.socket = house.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.monitor = self.socket.get_monitor_socket()
        self.pair = keys.make_pair()
        if curve:
            self.socket.curve_publickey, self.socket.curve_secretkey = self.pair.public, self.pair.secret
            self.socket.curve_serverkey = server_key or house.pairs["broker"].public
        self.socket.connect(house.service.endpoint)
        house.closing += [self.socket, self.monitor]

    def close(self) -> None:
        """Go without a word."""
        self.socket.disable_monitor()
        self.socket.close(0)

    def say(self, envelope: envelopes.ToBroker, body: bytes = b"") -> None:
        self.socket.send_multipart(codec.client_frames(envelope, body))

    def hear(self, kind: type[T]) -> T:
        header, _ = codec.from_broker.read(receive(self.socket))
        assert isinstance(header, kind), header
        return header

    def happens(self, events: int) -> bool:
        """True if libzmq reports one of these events in time."""
        while self.monitor.poll(DEADLINE_MS):
            if recv_monitor_message(self.monitor)["event"] & events:
                return True
        return False

    def log_in(self, house: House) -> None:
        self.say(Hello(id=1))
        self.hear(Welcome)
        self.say(Resume(id=2, token=bytes(32)))
        ask = house.asked()
        house.tell(ask.n, auth_link.TokenValid(account=7, name="ann", token_id=3, expires_at_us=9))
        self.hear(LoggedIn)


class House:
    """A running broker and the two ends it works with."""

    def __init__(self, tmp_path: Path, advertise: str = "") -> None:
        self.pairs = keys.make_all(tmp_path / "keys")
        self.context: zmq.Context[Socket] = zmq.Context()
        self.zap = Zap(self.context, {"brokers": Enrolled(tmp_path / "keys" / "store", "broker")})
        self.zap.start()
        self.pull = sockets.pull(self.context)
        self.settings = Settings(
            data=tmp_path / "data",
            keys=tmp_path / "keys" / "broker",
            store=sockets.bind(self.pull, LOOPBACK, sockets.Server(self.pairs["store"], "brokers")),
            workers=LOOPBACK,
            confirms=LOOPBACK,
            listen=LOOPBACK,
            advertise=advertise,
        )
        self.closing = [self.pull]

    @contextmanager
    def serve(self) -> Iterator[None]:
        ended: list[str] = []
        with running(self.settings) as self.service:
            self.departures = self.service._clients.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            self.closing.append(self.departures)
            thread = threading.Thread(target=lambda: ended.append(self.service.run()))
            thread.start()
            try:
                yield
            finally:
                self.service._loop.stop()
                thread.join(10)
                for socket in self.closing:
                    if not socket.closed:
                        socket.disable_monitor()
                        socket.close(0)
                self.zap.stop()
                self.context.destroy(0)
        assert ended == [""]

    @property
    def core(self) -> Broker:
        core = self.service._loop._core
        assert isinstance(core, Broker)
        return core

    def loses_a_client(self) -> bool:
        """True if the broker's libzmq sees a connection go, in time."""
        return bool(self.departures.poll(DEADLINE_MS))

    def dial(self, kind: int, at: Socket, pair: keys.KeyPair) -> Socket:
        """Connect to one of the broker's own sockets with that key pair."""
        socket = self.context.socket(kind)
        socket.linger = 0
        client = sockets.Client(pair, self.pairs["broker"].public)
        self.monitor = socket.get_monitor_socket(zmq.EVENT_ALL)
        self.closing += [socket, self.monitor]
        sockets.connect(socket, sockets.last_endpoint(at), client)
        return socket

    def open_store(self) -> None:
        """The store answers `open`."""
        opening = self.pushed(store_link.Open)
        self.push = self.dial(zmq.PUSH, self.service._confirms, self.pairs["store"])
        self.confirm(store_link.Opened(nonce=opening.nonce, epoch=1, generation=1, history=bytes(16), high=0))

    def pushed(self, kind: type[T]) -> T:
        """The next of that kind that the broker pushes; what else it pushes is passed over."""
        while True:
            header, self.pushed_body = links.to_store.read(receive(self.pull))
            if isinstance(header, kind):
                return header

    def confirm(self, envelope: store_link.FromStore) -> None:
        self.push.send_multipart(links.store_frames(envelope))

    def join_auth(self) -> None:
        """An authentication worker says `ready`."""
        self.auth = self.dial(zmq.DEALER, self.service._workers, self.pairs["auth"])
        self.auth.send_multipart(links.auth_frames(auth_link.Ready(worker=bytes(16), capacity=64)))

    def asked(self) -> auth_link.Ask:
        """The next question; beats are answered on the way."""
        while True:
            header, _ = links.to_auth_worker.read(receive(self.auth))
            if isinstance(header, auth_link.Ask):
                return header
            self.auth.send_multipart(links.auth_frames(auth_link.Beat()))

    def tell(self, n: int, outcome: auth_link.Outcome) -> None:
        self.auth.send_multipart(links.auth_frames(auth_link.Told(n=n, outcome=outcome)))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    with house.serve():
        yield house


def test_a_message_goes_all_the_way(house: House) -> None:
    house.open_store()
    house.join_auth()
    client = Client(house)
    client.log_in(house)
    client.say(
        Send.of(3, bytes(16), 1, [Item(id=bytes(16), to=["bob"], size=5)]),
        b"hello",
    )
    house.tell(house.asked().n, auth_link.NamesResolved(accounts={"bob": 8}))
    batch = house.pushed(store_link.Batch)
    (command,) = batch.commands
    assert isinstance(command, store_link.StoreMessages)
    assert (command.sender, command.messages[0].mailboxes, house.pushed_body) == (7, [8], b"hello")
    stored = store_link.Stored(seqs=[1], stored_at_us=5)
    house.confirm(store_link.Confirmed(epoch=1, generation=1, n=1, base=0, high=1, outcomes=[stored]))
    assert client.hear(Sent).results[0].seq == 1


def test_malformed_frames_are_answered_and_the_service_goes_on(house: House) -> None:
    client = Client(house)
    for frames, code in (
        ([b"no protocol"], "bad_frame"),
        ([b"CHAT/1", b"\xc1"], "bad_frame"),
        ([b"CHAT/1", b"\x80", b"", b""], "bad_frame"),
        ([b"x"] * 40, "bad_frame"),
        ([b"CHAT/1", codec.pack_header(Hello(id=1)), b"", b"one too many"], "bad_frame"),
    ):
        client.socket.send_multipart(frames)
        assert client.hear(Error).code == code
    client.say(Hello(id=2))
    client.hear(Welcome)


def test_a_plaintext_client_is_refused(house: House) -> None:
    client = Client(house, curve=False)
    client.say(Hello(id=1))
    assert client.happens(FAILED | zmq.EVENT_DISCONNECTED)
    assert not client.socket.poll(0)


def test_a_client_with_another_server_key_is_refused(house: House) -> None:
    client = Client(house, server_key=zmq.curve_keypair()[0])
    client.say(Hello(id=1))
    assert client.happens(FAILED | zmq.EVENT_DISCONNECTED)
    assert not client.socket.poll(0)


@pytest.mark.parametrize(
    ("kind", "at"),
    [(zmq.DEALER, lambda service: service._workers), (zmq.PUSH, lambda service: service._confirms)],
    ids=["auth worker", "store"],
)
@pytest.mark.parametrize("who", ["stranger", "client", "the other worker"])
def test_a_worker_that_is_not_enrolled_is_refused(
    house: House, kind: int, at: Callable[[Service], Socket], who: str
) -> None:
    """A key is enrolled for one role: an authentication worker's doesn't open the store's door, nor the reverse."""
    other = house.pairs["store" if kind == zmq.DEALER else "auth"]
    pair = other if who == "the other worker" else keys.make_pair()
    if who == "client":
        client = Client(house)
        client.say(Hello(id=1))
        client.hear(Welcome)
        pair = client.pair
    house.dial(kind, at(house.service), pair)
    assert house.monitor.poll(DEADLINE_MS)
    while (event := recv_monitor_message(house.monitor)["event"]) & FAILED == 0:
        assert event != zmq.EVENT_HANDSHAKE_SUCCEEDED
        assert house.monitor.poll(DEADLINE_MS), "it is neither refused nor let in"


def test_an_answer_to_a_client_that_is_gone_ends_its_session(house: House) -> None:
    house.join_auth()
    client = Client(house)
    client.log_in(house)
    for number in range(limits.AUTH_CAPACITY):
        client.say(Tokens(id=10 + number))
    asks = [house.asked() for _ in range(limits.AUTH_CAPACITY)]
    bystander = Client(house)
    client.close()
    assert house.loses_a_client()
    for number, ask in enumerate(asks, start=1):
        house.tell(ask.n, auth_link.TokensListed(tokens=[]))
        bystander.say(Hello(id=number))
        bystander.hear(Welcome)
    assert len(house.core._sessions) == 1


def test_a_frame_that_no_well_meant_client_sends_is_cut_with_its_peer(house: House) -> None:
    flood, other = Client(house), Client(house)
    flood.socket.send_multipart([b"CHAT/1", b"x" * (limits.FRAME_BYTES_MAX + 1)])
    assert flood.happens(zmq.EVENT_DISCONNECTED)
    other.say(Hello(id=1))
    other.hear(Welcome)


def test_a_header_over_its_limit_is_answered(house: House) -> None:
    client = Client(house)
    client.socket.send_multipart([b"CHAT/1", b"x" * (limits.HEADER_BYTES_MAX + 1)])
    assert client.hear(Error).code == "too_large"


def test_a_stranger_s_large_header_is_refused_undecoded_and_an_account_s_is_read(house: House) -> None:
    """[F3] what takes the broker long to read is read for accounts alone"""
    house.open_store()
    house.join_auth()
    long = msgpack.packb({"type": "ping", "id": 3, "more": "x" * limits.GREETING_BYTES_MAX})
    client = Client(house)
    client.say(Hello(id=1))
    client.hear(Welcome)
    client.socket.send_multipart([b"CHAT/1", long])
    assert client.hear(Error).code == "too_large"
    client.log_in(house)
    client.socket.send_multipart([b"CHAT/1", long])
    client.hear(Pong)


def test_what_workers_send_and_nobody_can_read_is_dropped(house: House) -> None:
    house.open_store()
    house.join_auth()
    house.auth.send_multipart([b"AUTH/1", b"\xc1"])
    house.push.send_multipart([b"STORE/1", b"\xc1", b""])
    client = Client(house)
    client.log_in(house)
    client.say(envelopes.Ping(id=3))
    client.hear(Pong)


def test_who_stops_tells_its_clients(tmp_path: Path) -> None:
    house = House(tmp_path)
    with house.serve():
        client = Client(house)
        client.say(Hello(id=1))
        client.hear(Welcome)
        house.service._loop.stop()
        assert client.hear(Error).fatal


@pytest.mark.parametrize(
    ("advertise", "host", "port"),
    [
        ("", "127.0.0.1", 0),
        ("chat.example.org", "chat.example.org", 0),
        ("chat.example.org:99", "chat.example.org", 99),
    ],
)
def test_its_address_holds_its_key_and_is_where_clients_reach_it(
    tmp_path: Path, advertise: str, host: str, port: int
) -> None:
    house = House(tmp_path, advertise=advertise)
    with house.serve():
        address = house.service.address
        listens = int(house.service.endpoint.rpartition(":")[2])
        assert (address.host, address.port) == (host, port or listens)
        assert keys.load(tmp_path / "keys" / "broker").public == zmq.utils.z85.encode(address.key)


class TestDurableName:
    def test_it_is_made_once(self, tmp_path: Path) -> None:
        name = durable_name(tmp_path / "data")
        assert name.startswith("broker-")
        assert durable_name(tmp_path / "data") == name
        assert durable_name(tmp_path / "other") != name

    def test_an_empty_file_is_explained(self, tmp_path: Path) -> None:
        (tmp_path / "broker-name").write_text("\n")
        with pytest.raises(SetupError, match="is empty"):
            durable_name(tmp_path)

    def test_a_directory_that_cannot_be_used_is_explained(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(SetupError, match="Make it writable"):
            durable_name(tmp_path / "file" / "data")
