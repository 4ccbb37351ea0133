"""Contexts and sockets with every option that the guarantees need, and sends and receives that never block.

Two kinds of endpoint: ``tcp://`` is always CURVE, both ways; ``ipc://`` and ``inproc://`` never are: ipc
sockets live in a directory that only this user can enter. Security is set by :func:`bind` and
:func:`connect`, from the endpoint's scheme, so that no caller can forget it.

RULES 1 (identities), 3 (one socket is one connection), 4 (bounds), 6 (PUSH/PULL), 23 (places of ipc sockets).
"""

from __future__ import annotations

import ctypes
import resource
import secrets
from collections.abc import Sequence

import msgspec
import zmq

from runtime.errors import SetupError
from runtime.ipc import claim_ipc_path
from runtime.keys import KeyPair

#: Frames of one envelope that are kept: an envelope has 3, a worker's fewer than 8. What is beyond is
#: thrown away.
FRAMES_MAX = 8
#: Bytes of one frame. It bounds what libzmq allocates before anything of ours has looked at it; libzmq cuts
#: the peer.
FRAME_BYTES_MAX = 16 * 1024 * 1024
#: Envelopes a client may have waiting inside libzmq. Small: what waits here is counted in no budget of ours
#: (RULES 4).
CLIENT_RECEIVE_HWM = 64
#: Envelopes to one client inside libzmq. A session's requests in flight plus its credit stay below it
#: (RULES 4).
CLIENT_SEND_HWM = 1_000
#: Envelopes between services, each way. The windows above them (unconfirmed batches, pending look-ups) are
#: smaller.
WORKER_HWM = 4_096
#: A peer that has not finished ZMTP's and CURVE's handshake by then is cut: half-open connections cost
#: descriptors.
HANDSHAKE_MS = 5_000
#: ZMTP pings, between services. They find dead hosts and stopped processes; a stuck application thread shows in the
#: protocol's own.
HEARTBEAT_MS = 10_000
HEARTBEAT_TIMEOUT_MS = 30_000
#: TCP's own probes, between the broker and a client: after so long without a byte, so often, until the host
#: counts as dead. A minute in all.
KEEPALIVE_IDLE_S = 30
KEEPALIVE_PROBE_S = 10
KEEPALIVE_PROBES = 3
#: Connections that the kernel holds while the I/O thread is busy: a restart brings every client back at once.
BACKLOG = 1_024
#: Workers come and go: try again soon, and not more often than once a second for long.
RECONNECT_MS = 100
RECONNECT_MAX_MS = 1_000
#: Sockets of one context. Connections don't count; a PUSH per broker and epoch does.
SOCKETS_MAX = 4_096

#: The plain socket class; what this package calls a socket.
Socket = zmq.Socket[bytes]
#: The context of such sockets.
Context = zmq.Context[Socket]


class Server(msgspec.Struct, frozen=True):
    """The bound side's identity: its key pair, and the ZAP domain in which its peers' keys are looked up."""

    keys: KeyPair
    domain: str


class Client(msgspec.Struct, frozen=True):
    """The connecting side's identity: its own key pair, and the public key (z85) that the server must
    prove.
    """

    keys: KeyPair
    server_key: bytes


class Routed(msgspec.Struct, gc=False):
    """One envelope that a ROUTER received.

    ``user_id`` is the peer's public key (z85) as ZAP admitted it, ``""`` where there is no CURVE;
    ``address`` its IP address, ``""`` for ipc. ``dropped`` counts frames beyond the bound: they are gone,
    the envelope must be refused. ``routing_id`` is a secret of this process: never log or send it (RULES
    1).
    """

    routing_id: bytes
    user_id: str
    address: str
    frames: list[bytes]
    dropped: int = 0
    descriptor: int = -1
    """The connection's, when the envelope came; -1 without CURVE."""


def make_context(*, io_threads: int = 1) -> zmq.Context[Socket]:
    """Return a new context, after seeding libc and raising the limit of open files.

    libzmq numbers a ROUTER's peers from libc's ``rand()``, and never seeds it: unseeded, every id is known
    in advance, and a client that claims the next one aborts the process (RULES 1,
    ``tests/e2e/test_identity.py``).
    """
    seed_libc()
    raise_file_limit()
    context: zmq.Context[Socket] = zmq.Context(io_threads)
    context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
    return context


def seed_libc() -> None:
    """Seed libc's ``rand()`` with 32 bits from the kernel."""
    ctypes.CDLL(None).srand(ctypes.c_uint(secrets.randbits(32)))


def raise_file_limit() -> int:
    """Raise the soft limit of open descriptors to the hard one and return it. One connection is one
    descriptor.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS reports "unlimited" and refuses it: the soft limit then stays
        return soft
    return hard


def client_router(
    context: zmq.Context[Socket],
    *,
    frame_bytes_max: int = FRAME_BYTES_MAX,
    receive_hwm: int = CLIENT_RECEIVE_HWM,
    send_hwm: int = CLIENT_SEND_HWM,
    handshake_ms: int = HANDSHAKE_MS,
) -> Socket:
    """Return the ROUTER that clients connect to; pass it to :func:`bind`. Sizes in bytes, HWMs in
    envelopes.

    It sends no ZMTP pings. For each connection's, libzmq would look through the timers of all connections: with
    ten thousand of them that took 0.7 of a core. The kernel's keepalive finds dead hosts instead, and the
    protocol's heartbeat whatever else is dead.
    """
    socket = _socket(context, zmq.ROUTER, frame_bytes_max, receive_hwm, send_hwm)
    _router(socket, handshake_ms)
    _keepalive(socket)
    return socket


def worker_router(
    context: zmq.Context[Socket],
    *,
    frame_bytes_max: int = FRAME_BYTES_MAX,
    hwm: int = WORKER_HWM,
    heartbeat_ms: int = HEARTBEAT_MS,
    heartbeat_timeout_ms: int = HEARTBEAT_TIMEOUT_MS,
    handshake_ms: int = HANDSHAKE_MS,
) -> Socket:
    """Return the ROUTER that workers connect to; pass it to :func:`bind`."""
    socket = _socket(context, zmq.ROUTER, frame_bytes_max, hwm, hwm)
    _router(socket, handshake_ms)
    _heartbeat(socket, heartbeat_ms, heartbeat_timeout_ms)
    return socket


def worker_dealer(
    context: zmq.Context[Socket],
    *,
    frame_bytes_max: int = FRAME_BYTES_MAX,
    hwm: int = WORKER_HWM,
    heartbeat_ms: int = HEARTBEAT_MS,
    heartbeat_timeout_ms: int = HEARTBEAT_TIMEOUT_MS,
) -> Socket:
    """Return a worker's DEALER; pass it to :func:`connect`. It reconnects by itself, and libzmq doesn't say
    so.

    Whoever uses it must notice from the protocol (RULES 3): a worker says *ready* again whenever it hears
    nothing.
    """
    socket = _socket(context, zmq.DEALER, frame_bytes_max, hwm, hwm)
    _reconnecting(socket)
    _heartbeat(socket, heartbeat_ms, heartbeat_timeout_ms)
    return socket


def pull(
    context: zmq.Context[Socket],
    *,
    frame_bytes_max: int = FRAME_BYTES_MAX,
    hwm: int = WORKER_HWM,
    handshake_ms: int = HANDSHAKE_MS,
) -> Socket:
    """Return a PULL; pass it to :func:`bind`: PULL binds, PUSH connects (RULES 6)."""
    socket = _socket(context, zmq.PULL, frame_bytes_max, hwm, hwm)
    _listening(socket, handshake_ms)
    _heartbeat(socket, HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS)
    return socket


def push(context: zmq.Context[Socket], *, hwm: int = WORKER_HWM) -> Socket:
    """Return a PUSH; pass it to :func:`connect`. One per peer and epoch; closing it drops what it holds
    (RULES 6).
    """
    socket = _socket(context, zmq.PUSH, FRAME_BYTES_MAX, hwm, hwm)
    _reconnecting(socket)
    _heartbeat(socket, HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS)
    return socket


def bind(socket: Socket, endpoint: str, server: Server | None = None) -> str:
    """Bind, with CURVE if the endpoint is TCP, and return the actual endpoint (port 0 becomes the port it
    got).

    Raises :class:`SetupError`: TCP without ``server``; an address that is taken or not ours; an ipc path
    that is too long or that another live process holds.
    """
    if _needs_curve(endpoint, server):
        _serve_curve(socket, server)
    else:
        _serve_plain(socket, endpoint)
    if endpoint.startswith("ipc://"):
        claim_ipc_path(endpoint.removeprefix("ipc://"), socket)
    _allow_ipv6(socket, endpoint)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        reason = zmq.strerror(error.errno or 0)  # the exception's own text says the address once more
        raise SetupError(f"Can't listen on {endpoint}: {reason}. Give another address or port.") from error
    return last_endpoint(socket)


def connect(socket: Socket, endpoint: str, client: Client | None = None) -> None:
    """Connect, with CURVE if the endpoint is TCP. Returns at once: nothing is said about whether anyone is
    there.

    Raises :class:`SetupError` for TCP without ``client`` and for an address that is none.
    """
    if _needs_curve(endpoint, client):
        assert client is not None
        socket.setsockopt(zmq.CURVE_PUBLICKEY, client.keys.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, client.keys.secret)
        socket.setsockopt(zmq.CURVE_SERVERKEY, client.server_key)
    _allow_ipv6(socket, endpoint)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        reason = zmq.strerror(error.errno or 0)
        raise SetupError(f"{endpoint!r} is not an address to connect to: {reason}.") from error


def last_endpoint(socket: Socket) -> str:
    """Return the endpoint last bound, as others connect to it."""
    return socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")


def send_now(socket: Socket, frames: Sequence[bytes]) -> bool:
    """Send one envelope, of one frame or more, without waiting.

    False if it can't be sent: the peer is full (EAGAIN) or gone (EHOSTUNREACH). True says only that libzmq took it.
    Nothing is sent in part. Frame by frame 1.9 µs for four frames; ``send_multipart``, which looks at each one's type
    first, 5.0 µs (pyzmq 27.3).
    """
    send = socket.send
    try:
        for frame in frames[:-1]:
            send(frame, _MORE)
        send(frames[-1], zmq.DONTWAIT)
    except zmq.ZMQError as error:
        if error.errno in _CANT_SEND:
            return False
        raise
    return True


def receive_now(socket: Socket, *, frames_max: int = FRAMES_MAX) -> list[bytes] | None:
    """Return one envelope's frames without waiting, None if there is none. Frames past ``frames_max + 1``
    are dropped.

    A list longer than ``frames_max`` thus means: too many.
    """
    try:
        frame = socket.recv(zmq.DONTWAIT, copy=False)
    except zmq.Again:
        return None
    frames = [frame.bytes]
    if frame.more:
        _receive_rest(socket, frames, frames_max + 1)
    return frames


def receive_routed(socket: Socket, *, curve: bool = True, frames_max: int = FRAMES_MAX) -> Routed | None:
    """Return one envelope that a ROUTER received, None if there is none. Never waits.

    ``curve=False`` for a socket without CURVE: asking for a property that isn't there costs an exception.
    Frames taken with ``copy=False`` tell by themselves whether more follow: 3.9 µs an envelope of three
    frames with both properties, against 5.0 µs for ``recv_multipart`` without (pyzmq 27.3).
    """
    try:
        head = socket.recv(zmq.DONTWAIT, copy=False)
    except zmq.Again:
        return None
    user_id, address, descriptor = _peer(head) if curve else ("", "", -1)
    frames: list[bytes] = []
    dropped = _receive_rest(socket, frames, frames_max) if head.more else 0
    return Routed(head.bytes, user_id, address, frames, dropped, descriptor)


_MORE = zmq.DONTWAIT | zmq.SNDMORE
_CANT_SEND = frozenset({zmq.EAGAIN, zmq.EHOSTUNREACH})


def _peer(frame: zmq.Frame) -> tuple[str, str, int]:
    try:
        return str(frame.get("User-Id")), str(frame.get("Peer-Address")), int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:  # no such property: the connection came in without ZAP
        return "", "", -1


def _receive_rest(socket: Socket, frames: list[bytes], frames_max: int) -> int:
    """Append the envelope's remaining frames up to ``frames_max`` in all; return how many were dropped."""
    dropped = 0
    more = True
    while more:
        frame = socket.recv(zmq.DONTWAIT, copy=False)
        more = frame.more
        if len(frames) < frames_max:
            frames.append(frame.bytes)
        else:
            dropped += 1
    return dropped


def _socket(context: zmq.Context[Socket], kind: int, frame_bytes_max: int, receive_hwm: int, send_hwm: int) -> Socket:
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)  # a protocol's answer is what says that something arrived, never lingering
    socket.setsockopt(zmq.MAXMSGSIZE, frame_bytes_max)
    socket.setsockopt(zmq.RCVHWM, receive_hwm)
    socket.setsockopt(zmq.SNDHWM, send_hwm)
    return socket


def _router(socket: Socket, handshake_ms: int) -> None:
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # else what can't be delivered vanishes
    socket.setsockopt(zmq.ROUTER_HANDOVER, 0)  # else whoever claims an id takes its mail
    _listening(socket, handshake_ms)


def _listening(socket: Socket, handshake_ms: int) -> None:
    socket.setsockopt(zmq.HANDSHAKE_IVL, handshake_ms)
    socket.setsockopt(zmq.BACKLOG, BACKLOG)


def _reconnecting(socket: Socket) -> None:
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)


def _heartbeat(socket: Socket, interval_ms: int, timeout_ms: int) -> None:
    socket.setsockopt(zmq.HEARTBEAT_IVL, interval_ms)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, timeout_ms)
    socket.setsockopt(zmq.HEARTBEAT_TTL, timeout_ms)


def _keepalive(socket: Socket) -> None:
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_PROBE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_PROBES)


def _allow_ipv6(socket: Socket, endpoint: str) -> None:
    # Only where an address says so: else 127.0.0.1 comes back as ::ffff:127.0.0.1, as endpoint and as peer.
    socket.setsockopt(zmq.IPV6, 1 if "[" in endpoint else 0)


def _needs_curve(endpoint: str, identity: Server | Client | None) -> bool:
    scheme = endpoint.partition("://")[0]
    if scheme in ("ipc", "inproc"):
        return False
    if scheme != "tcp":
        raise SetupError(f"{endpoint!r} is no endpoint: write tcp://HOST:PORT or ipc:///PATH.")
    if identity is None:
        raise SetupError(f"{endpoint} is TCP and has no keys: TCP is never used unencrypted. Give a key directory.")
    return True


def _serve_curve(socket: Socket, server: Server | None) -> None:
    assert server is not None
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, server.keys.secret)
    socket.setsockopt_string(zmq.ZAP_DOMAIN, server.domain)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without a ZAP handler libzmq else admits anybody


def _serve_plain(socket: Socket, endpoint: str) -> None:
    """Leave security off. A domain, once set, can't be unset (EINVAL), and it would refuse plain peers."""
    if socket.getsockopt_string(zmq.ZAP_DOMAIN).strip("\0"):
        raise SetupError(f"{endpoint} must be bound before the socket's TCP endpoint.")
