"""A limit: raw forwarding by a ROUTER in Python, DEALER → ROUTER → DEALER, an envelope a message, nothing on disk.

    python -P -m benchmarks.peers.zeromq PORT     the server

It keeps what nobody has fetched in memory, confirms every message, checks nothing and encrypts nothing: what a broker
of Restante's kind (one Python process over libzmq) could do if messages cost only their way. Restante may be faster
where it puts many messages into an envelope.

Frames: [what, mailbox, body] to the server; it answers `k` to `p`ut, `m` with a body to `f`ollow and `t`ake.
"""

from __future__ import annotations

import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import zmq

from benchmarks.peers.child import HOST, ChildServer, listens
from benchmarks.peers.flight import ANSWER_S, NOTHING_S, STOP_LOOK_S, in_flight
from benchmarks.peers.peer import Message, NotOffered, Peer, Server
from benchmarks.processes import free_port
from benchmarks.schedule import wait_until

DRAIN_MAX: Final = 256
"""Envelopes taken between two polls, as Restante's loop does."""

Socket = zmq.Socket[bytes]


# --- the server -------------------------------------------------------------------------------------------


class Forwarder:
    """What waits, and who follows what."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._waiting: dict[bytes, deque[bytes]] = defaultdict(deque)
        self._followers: dict[bytes, bytes] = {}

    def turn(self) -> None:
        """Take what has come, and answer it."""
        self._socket.poll()
        try:
            for _ in range(DRAIN_MAX):
                self._take(*self._socket.recv_multipart(zmq.DONTWAIT))
        except zmq.Again:
            pass

    def _take(self, who: bytes, what: bytes, mailbox: bytes, body: bytes) -> None:
        if what == b"p":
            follower = self._followers.get(mailbox)
            if follower is None:
                self._waiting[mailbox].append(body)
            else:
                self._socket.send_multipart((follower, b"m", mailbox, body))
            self._socket.send_multipart((who, b"k", mailbox, b""))
            return
        waiting = self._waiting.pop(mailbox, deque())
        for each in waiting:
            self._socket.send_multipart((who, b"m", mailbox, each))
        if what == b"f":
            self._followers[mailbox] = who
            self._socket.send_multipart((who, b"k", mailbox, b""))


def serve(port: int) -> None:
    """Forward, for ever."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        _unbounded(socket)
        socket.bind(f"tcp://{HOST}:{port}")
        forwarder = Forwarder(socket)
        while True:
            forwarder.turn()


def _unbounded(socket: Socket) -> None:
    """Nothing is lost for a full queue; what is on its way is bounded by the clients."""
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = 0


# --- the client -------------------------------------------------------------------------------------------


class ZeromqClient:
    """A DEALER."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._context: zmq.Context[Socket] = zmq.Context()
        self._socket: Socket = self._context.socket(zmq.DEALER)
        self._names: list[bytes] = []
        self._flying = 0

    def prepare(self, mailboxes: int) -> None:
        _unbounded(self._socket)
        self._socket.connect(self._endpoint)
        self._names = [b"%d" % number for number in range(mailboxes)]

    def send(self, messages: Sequence[Message]) -> None:
        most = in_flight(messages)
        for message in messages:
            self._put(message)
            while self._flying >= most:
                self._wait()
        while self._flying:
            self._wait()

    def send_each(self, messages: Sequence[Message]) -> None:
        self.send(messages)  # there is no other way

    def send_at(self, schedule: Iterable[tuple[float, Message]]) -> None:
        for at, message in schedule:
            wait_until(at)
            self._put(message)
            self._look()
        while self._flying:
            self._wait()

    def send_to_all(self, body: bytes, mailboxes: int) -> None:
        self.send([Message(number, body) for number in range(mailboxes)])

    def open_mailboxes(self, mailboxes: int) -> None:
        pass

    def drain(self, mailboxes: int, expected: int) -> int:
        for name in self._names[:mailboxes]:
            self._socket.send_multipart((b"t", name, b""))
        count = 0
        while count < expected and self._socket.poll(int(NOTHING_S * 1_000)):
            self._socket.recv_multipart()
            count += 1
        return count

    def follow(
        self, mailbox: int, got: Callable[[bytes], None], ready: Callable[[], None], stop: threading.Event
    ) -> None:
        self._socket.send_multipart((b"f", self._names[mailbox], b""))
        while not stop.is_set():
            if self._socket.poll(int(STOP_LOOK_S * 1_000)):
                what, _, body = self._socket.recv_multipart()
                if what == b"k":
                    ready()
                else:
                    got(body)

    def newest(self, mailbox: int, count: int) -> int:
        raise NotOffered("nothing can be looked at without taking it")

    def close(self) -> None:
        self._context.destroy(linger=0)

    def _put(self, message: Message) -> None:
        self._socket.send_multipart((b"p", self._names[message.mailbox], message.body))
        self._flying += 1

    def _look(self) -> None:
        """Take the answers that are there."""
        try:
            while self._flying:
                self._socket.recv_multipart(zmq.DONTWAIT)
                self._flying -= 1
        except zmq.Again:
            pass

    def _wait(self) -> None:
        """Take the answers that are there, and wait for one if there is none."""
        if not self._socket.poll(int(ANSWER_S * 1_000)):
            raise TimeoutError(f"no answer in {ANSWER_S:.0f} s")
        self._look()


# --- the peer ---------------------------------------------------------------------------------------------


class Zeromq:
    """libzmq by itself."""

    key = "zeromq"
    name = "limit: raw ZeroMQ forwarding"
    promise = "Nothing: it is in the memory of one process."
    durable = False

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return f"libzmq {zmq.zmq_version()}, pyzmq {zmq.__version__}"

    def start(self, folder: Path) -> Server:
        server = ChildServer(folder)
        port = free_port()
        server.run("zeromq", [sys.executable, "-m", "benchmarks.peers.zeromq", port], env={"PYTHONPATH": str(ROOT)})
        server.wait_until(lambda: listens(port))
        server.endpoint = f"tcp://{HOST}:{port}"
        return server

    def client(self, endpoint: str, number: int) -> ZeromqClient:
        return ZeromqClient(endpoint)


ROOT: Final = Path(__file__).parents[2]
PEERS: Final[tuple[Peer, ...]] = (Zeromq(),)

if __name__ == "__main__":
    serve(int(sys.argv[1]))
