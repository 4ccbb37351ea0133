"""Peers that speak frames, not the client library: they say whatever an attacker would, over real sockets."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Sequence
from typing import TypeVar

import zmq
from zmq.utils import z85

from restante.wire import codec
from restante.wire import envelopes as e
from restante.wire.address import Address, parse_address
from restante.wire.errors import RemoteProtocolError

H = TypeVar("H")
Socket = zmq.Socket[bytes]

ANSWER_S = 10.0
PASSWORD = "correct horse"


class Peer:
    """One connection with a key of its own. A context manager."""

    def __init__(
        self,
        address: Address | str,
        context: zmq.Context[Socket] | None = None,
        *,
        routing_id: bytes | None = None,
        unread_max: int = 0,
    ) -> None:
        self.address = parse_address(address) if isinstance(address, str) else address
        self._own = context is None
        self.context: zmq.Context[Socket] = context or zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.reconnect_ivl = -1
        self.socket.sndhwm, self.socket.rcvhwm = 0, unread_max
        if unread_max:
            self.socket.rcvbuf = 65_536
        self.socket.curve_publickey, self.socket.curve_secretkey = zmq.curve_keypair()
        self.socket.curve_serverkey = z85.encode(self.address.key)
        if routing_id is not None:
            self.socket.setsockopt(zmq.ROUTING_ID, routing_id)
        self.socket.connect(self.address.endpoint)
        self._ids = itertools.count(1)
        self.token = b""

    def close(self) -> None:
        """Leave without a word."""
        self.socket.close(0)
        if self._own:
            self.context.term()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- speaking -----------------------------------------------------------------------------------------

    def next_id(self) -> int:
        return next(self._ids)

    def throw(self, frames: Sequence[bytes]) -> bool:
        """Send frames as they are; False if there is nobody any more."""
        try:
            self.socket.send_multipart(frames, zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def say(self, header: e.ToBroker, body: bytes = b"") -> None:
        self.throw(codec.client_frames(header, body))

    def hear(self, wait_s: float = ANSWER_S) -> tuple[e.ToClient, bytes] | None:
        """The next envelope, None if none comes."""
        if not self.socket.poll(int(wait_s * 1000)):
            return None
        return codec.from_broker.read(self.socket.recv_multipart())

    def ask(self, request: e.ToBroker, body: bytes = b"", wait_s: float = ANSWER_S) -> e.ToClient:
        """A request's answer. Raises AssertionError if there is none."""
        self.say(request, body)
        deadline = time.monotonic() + wait_s
        while (left := deadline - time.monotonic()) > 0:
            heard = self.hear(left)
            if heard is not None and getattr(heard[0], "id", None) in (getattr(request, "id", 0), None):
                return heard[0]
        raise AssertionError(f"no answer to {type(request).__name__}")

    def expect(self, request: e.ToBroker, kind: type[H], body: bytes = b"") -> H:
        got = self.ask(request, body)
        assert isinstance(got, kind), got
        return got

    def refused(self, request: e.ToBroker, body: bytes = b"") -> e.Error:
        return self.expect(request, e.Error, body)

    # --- usual things -------------------------------------------------------------------------------------

    def hello(self) -> Peer:
        self.expect(e.Hello(id=self.next_id()), e.Welcome)
        return self

    def log_in(self, name: str, password: str = PASSWORD) -> Peer:
        """Say hello, and log in with an account that is made if there is none."""
        self.hello()
        self.ask(e.Register(id=self.next_id(), op=secrets.token_bytes(16), name=name, password=password))
        self.token = self.expect(self.login(name, password), e.LoggedIn).token or b""
        return self

    def login(self, name: str, password: str = PASSWORD) -> e.Login:
        return e.Login(id=self.next_id(), op=secrets.token_bytes(16), name=name, password=password)

    def send(self, *to: str, n: int, content: bytes = b"hello", stream: bytes = bytes(16)) -> e.Sent | e.Error:
        """A message, as the n-th of a stream."""
        item = e.Item(id=secrets.token_bytes(16), to=list(to), size=len(content))
        got = self.ask(e.Send.of(self.next_id(), stream, n, [item]), content)
        assert isinstance(got, e.Sent | e.Error), got
        return got

    def drain(self) -> int:
        """Throw away all that has come; how many errors were in it."""
        errors = 0
        while self.socket.poll(0):
            try:
                errors += isinstance(codec.from_broker.read(self.socket.recv_multipart())[0], e.Error)
            except RemoteProtocolError as error:  # the broker itself said it: a find
                raise AssertionError(f"the broker said what is no envelope: {error}") from error
        return errors
