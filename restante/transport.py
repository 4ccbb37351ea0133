"""The socket under both clients: one connection at a time, drained without waiting.

A DEALER under CURVE with a key pair made for this process (the server lets any key in; who one is, a login says), and
a monitor that tells at once what the DEALER itself hides: that nobody is there, that the handshake failed, that the
connection is gone. It does not reconnect by itself (RULES 3).
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from functools import cache
from typing import Final

import zmq
from zmq.utils import z85

from restante.events import Lost, Received
from restante.wire import limits
from restante.wire.address import Address
from restante.wire.codec import client_frames, from_broker
from restante.wire.envelopes import Credit, Request
from restante.wire.errors import RemoteProtocolError

HEARTBEAT_MS: Final = 10_000
"""Between ZMTP pings: a cable that was pulled shows itself after three."""

CONNECT_MS: Final = 5_000
"""For TCP's own handshake: where packets are swallowed, the next attempt may find another way."""

DRAIN_MAX: Final = 256
"""Envelopes taken at a time, before the user has a turn."""

_HANDSHAKE_FAILED: Final = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_WATCHED: Final = _HANDSHAKE_FAILED | zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED


class Link:
    """One server's socket. `closing` is called before descriptors go, for whoever watches them."""

    def __init__(self, address: Address, closing: Callable[[], None] | None = None) -> None:
        self._address = address
        self._closing = closing
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._poller = zmq.Poller()
        self._pause = threading.Event()  # never set: what one waits on while there is no socket
        self._connection = 0
        self._astray = False
        """A socket may have been made that we never had: who waited for the context to end might wait for ever."""
        self._look_again = False
        """Something may be there of which no descriptor tells any more."""

    def open(self, connection: int) -> Lost | None:
        """Make a new socket, instead of the one there was; why that can't be, if it can't."""
        self.close()
        self._connection = connection
        try:
            self._connect(connection)
        except zmq.ZMQError as error:  # it may be as little as that there are no descriptors left
            self.close()
            return Lost(connection, f"{self._address.endpoint}: {error.strerror}")
        except BaseException:
            self._astray = True
            raise
        return None

    def _connect(self, connection: int) -> None:
        if self._context is None:
            self._context = zmq.Context()
        socket = self._socket = self._context.socket(zmq.DEALER)
        self._configure(socket)
        # the place is gone with the last socket a little later than that: so each has its own
        place = f"inproc://monitor-{connection}"
        socket.monitor(place, _WATCHED)
        monitor = self._monitor = self._context.socket(zmq.PAIR)
        monitor.linger = 0
        monitor.connect(place)
        for each in (socket, monitor):
            self._poller.register(each, zmq.POLLIN)
        socket.connect(self._address.endpoint)

    def send(self, header: Request | Credit, body: bytes) -> Lost | None:
        """Send without waiting; what became of the connection, if it takes nothing any more."""
        if self._socket is None:
            return Lost(self._connection, "the connection is closed")
        self._look_again = True
        try:
            self._socket.send_multipart(client_frames(header, body), zmq.DONTWAIT)
        except zmq.Again:
            return Lost(self._connection, "the connection is gone")
        return None

    def drain(self) -> list[Received | Lost]:
        """What has come, at most DRAIN_MAX envelopes; then what became of the connection."""
        found: list[Received | Lost] = []
        self._look_again = False
        # To be told by an exception that nothing is there costs more than twice as much as to ask.
        stirred = dict(self._poller.poll(0))
        socket, monitor = self._socket, self._monitor
        if socket is not None and socket in stirred:
            self._receive(socket, found)
        if monitor is not None and monitor in stirred and not self._look_again:  # else what is older still waits
            self._watch(monitor, found)
        return found

    @property
    def stirred(self) -> bool:
        """Whether there is something to drain. Whoever asks after draining and sending may wait for the descriptors
        again.
        """
        return self._look_again and bool(self._poller.poll(0))

    def wait(self, timeout_s: float | None) -> None:
        """Until something has come, or time is up; None: for ever."""
        if self._socket is None:
            # Between two connections. A poll of nothing returns at once, and would burn a processor meanwhile.
            assert timeout_s is not None, "nothing can come, so somebody must know when to go on"
            self._pause.wait(max(0.0, timeout_s))
            return
        timeout_ms = None if timeout_s is None else max(0, int(timeout_s * 1000) + 1)
        self._poller.poll(timeout_ms)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What becomes readable when something has come. ZeroMQ's are edge-triggered: drain to the end."""
        return tuple(int(each.FD) for each in (self._socket, self._monitor) if each is not None)

    def close(self) -> None:
        """Close the socket, at once and without waiting for anything."""
        if self._socket is not None and not self._socket.closed:
            if self._closing is not None:
                self._closing()
            # Nothing may be told to a monitor that is closed: libzmq's I/O thread would wait to, for ever, and all
            # sockets of the context with it.
            self._socket.disable_monitor()
        for each in (self._socket, self._monitor):
            if each is not None:  # who was interrupted in here has done some of it
                if each in self._poller:
                    self._poller.unregister(each)
                each.close(linger=0)
        self._socket = self._monitor = None

    def end(self) -> None:
        """Close the socket and all that belongs to it, for good."""
        self.close()
        context, self._context = self._context, None
        if context is not None and not self._astray:
            context.term()

    def _configure(self, socket: zmq.Socket[bytes]) -> None:
        public, secret = _own_keys()
        socket.curve_serverkey = z85.encode(self._address.key)
        socket.curve_publickey, socket.curve_secretkey = public, secret
        socket.linger = 0
        socket.reconnect_ivl = -1
        socket.maxmsgsize = limits.FRAME_BYTES_MAX
        socket.connect_timeout = CONNECT_MS
        socket.heartbeat_ivl = HEARTBEAT_MS
        socket.heartbeat_timeout = HEARTBEAT_MS * limits.SILENCES_MAX
        if self._address.host.startswith("["):
            socket.ipv6 = True  # for names too it would find an address that the server doesn't listen on

    def _receive(self, socket: zmq.Socket[bytes], found: list[Received | Lost]) -> None:
        """What has come, until there is no more, or much."""
        try:
            while True:
                self._read(socket.recv_multipart(zmq.DONTWAIT), found)
                if not int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                    return
                if len(found) >= DRAIN_MAX:
                    self._look_again = True
                    return
        except zmq.Again:
            return

    def _read(self, frames: list[bytes], found: list[Received | Lost]) -> None:
        try:
            header, body = from_broker.read(frames)
        except RemoteProtocolError as error:
            if error.code != "unknown_type":  # a newer server may have more to tell
                found.append(Lost(self._connection, f"what came is not of the protocol: {error.text}"))
            return
        found.append(Received(self._connection, header, body))

    def _watch(self, monitor: zmq.Socket[bytes], found: list[Received | Lost]) -> None:
        try:
            while True:
                event, _ = struct.unpack("=HI", monitor.recv_multipart(zmq.DONTWAIT)[0])
                if event & _HANDSHAKE_FAILED:
                    found.append(Lost(self._connection, "the secure handshake failed", handshake=True))
                elif event == zmq.EVENT_CLOSED:
                    found.append(Lost(self._connection, "connection refused"))
                elif event == zmq.EVENT_DISCONNECTED:
                    found.append(Lost(self._connection, "the connection broke off"))
        except zmq.Again:
            return


@cache
def _own_keys() -> tuple[bytes, bytes]:
    """This process's key pair, as Z85."""
    return zmq.curve_keypair()
