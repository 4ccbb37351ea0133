"""Sessions with a Restante broker by the hundred, as bare sockets: logged in, and then idle but for their pings.

    python -m benchmarks.crowd ADDRESS COUNT < TOKEN

Prints a line when all are logged in, and leaves when stdin ends. One process holds a thousand or two: each socket
takes two descriptors here and one at the broker.
"""

from __future__ import annotations

import itertools
import select
import sys
import threading
import time
from base64 import urlsafe_b64decode
from typing import Final

import zmq
from zmq.utils import z85

from benchmarks.processes import raise_file_limit
from restante.wire import codec, limits
from restante.wire import envelopes as e
from restante.wire.address import Address, parse_address

PACE_PER_S: Final = 400
"""Connections a second of all crowds at a time: below what the broker admits from one address."""

LOT: Final = 50
LOGIN_MS: Final = 30_000

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]


def connect(
    context: Context, address: Address, keys: tuple[bytes, bytes], token: bytes, heartbeat_ms: int = 30_000
) -> Socket:
    """A socket that has said hello, and who it is."""
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.reconnect_ivl = -1
    socket.curve_publickey, socket.curve_secretkey = keys
    socket.curve_serverkey = z85.encode(address.key)
    socket.connect(address.endpoint)
    socket.send_multipart(codec.client_frames(e.Hello(id=1, heartbeat_ms=heartbeat_ms)))
    socket.send_multipart(codec.client_frames(e.Resume(id=2, token=token)))
    return socket


def is_logged_in(socket: Socket) -> bool:
    """Wait for the login. Raises SystemExit if none comes."""
    while socket.poll(LOGIN_MS):
        if isinstance(codec.from_broker.read(socket.recv_multipart())[0], e.LoggedIn):
            return True
    raise SystemExit("a session was not taken: is something else connecting to this server?")


def gather(address: Address, token: bytes, count: int) -> tuple[Context, list[Socket]]:
    """So many, logged in."""
    context: Context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, count + 16)
    keys = zmq.curve_keypair()
    crowd: list[Socket] = []
    while len(crowd) < count:
        began = time.monotonic()
        lot = [connect(context, address, keys, token) for _ in range(min(LOT, count - len(crowd)))]
        for socket in lot:
            is_logged_in(socket)
        crowd += lot
        threading.Event().wait(max(0.0, len(lot) / PACE_PER_S - (time.monotonic() - began)))
    return context, crowd


def idle(crowd: list[Socket]) -> None:
    """Ping at the beat that was agreed, spread evenly, until stdin ends."""
    pause = limits.HEARTBEAT_S / len(crowd)
    ids = itertools.count(3)
    for socket in itertools.cycle(crowd):
        if select.select([sys.stdin], [], [], pause)[0]:
            return
        socket.send_multipart(codec.client_frames(e.Ping(id=next(ids))), zmq.DONTWAIT)
        while socket.poll(0):
            socket.recv_multipart()


def main() -> int:
    address, count = parse_address(sys.argv[1]), int(sys.argv[2])
    token = urlsafe_b64decode(sys.stdin.readline().strip() + "=")
    raise_file_limit()
    context, crowd = gather(address, token, count)
    print(f"{count} logged in", flush=True)
    idle(crowd)
    context.destroy(linger=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
