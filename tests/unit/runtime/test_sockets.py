"""Sockets: CURVE by the endpoint's scheme, sends that never wait, receives that are bounded."""

import os
import resource
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import zmq

from runtime import keys, sockets
from runtime.errors import SetupError
from runtime.sockets import Client, Routed, Server, Socket
from runtime.zap import Zap, anyone
from tests.unit.runtime.support import DEADLINE_S, context, handshake

SERVER = Server(keys.make_pair(), "clients")
CLIENT = Client(keys.make_pair(), SERVER.keys.public)


@pytest.fixture
def zmq_context() -> Iterator[zmq.Context[Socket]]:
    with context() as made, Zap(made, {"clients": anyone}):
        yield made


def _connect(dealer: Socket, endpoint: str) -> None:
    dealer.connect(endpoint)


def routed(router: Socket, **options: int) -> Routed:
    assert router.poll(int(DEADLINE_S * 1000)), "nothing came"
    received = sockets.receive_routed(router, **options)  # type: ignore[arg-type]
    assert received is not None
    return received


def connected(made: zmq.Context[Socket], **options: int) -> tuple[Socket, Socket]:
    router = sockets.client_router(made, **options)
    endpoint = sockets.bind(router, "tcp://127.0.0.1:0", SERVER)
    dealer = sockets.worker_dealer(made)
    sockets.connect(dealer, endpoint, CLIENT)
    return router, dealer


def test_port_0_becomes_the_port_it_got(zmq_context: zmq.Context[Socket]) -> None:
    router = sockets.client_router(zmq_context)
    endpoint = sockets.bind(router, "tcp://127.0.0.1:0", SERVER)
    assert endpoint.startswith("tcp://127.0.0.1:")
    assert int(endpoint.rpartition(":")[2]) > 0


def test_an_envelope_comes_with_its_peers_key_and_address(zmq_context: zmq.Context[Socket]) -> None:
    router, dealer = connected(zmq_context)
    assert sockets.send_now(dealer, [b"CHAT/1", b"header", b""])
    received = routed(router)
    assert received.user_id == CLIENT.keys.public.decode()
    assert received.address == "127.0.0.1"
    assert received.frames == [b"CHAT/1", b"header", b""]
    assert received.dropped == 0
    assert sockets.send_now(router, [received.routing_id, b"answer"])
    assert dealer.poll(int(DEADLINE_S * 1000))
    assert sockets.receive_now(dealer) == [b"answer"]


def test_the_kernel_looks_after_a_clients_connection(zmq_context: zmq.Context[Socket]) -> None:
    """And libzmq doesn't, which takes time with the square of the connections."""
    router, dealer = connected(zmq_context)
    assert sockets.send_now(dealer, [b"hello"])
    assert router.getsockopt(zmq.HEARTBEAT_IVL) == 0
    with socket.socket(fileno=os.dup(routed(router).descriptor)) as connection:
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == sockets.KEEPALIVE_IDLE_S


def test_nothing_there_is_none_at_once(zmq_context: zmq.Context[Socket]) -> None:
    router, dealer = connected(zmq_context)
    assert sockets.receive_routed(router) is None
    assert sockets.receive_now(dealer) is None


def test_frames_past_the_bound_are_dropped_and_counted(zmq_context: zmq.Context[Socket]) -> None:
    router, dealer = connected(zmq_context)
    sockets.send_now(dealer, [b"%d" % n for n in range(20)])
    sockets.send_now(dealer, [b"next"])
    received = routed(router, frames_max=8)
    assert (received.frames, received.dropped) == ([b"%d" % n for n in range(8)], 12)
    assert routed(router).frames == [b"next"], "the rest was taken too: the next envelope starts clean"


def test_a_list_one_longer_than_the_bound_says_too_many(zmq_context: zmq.Context[Socket]) -> None:
    router, dealer = connected(zmq_context)
    sockets.send_now(dealer, [b"hello"])
    sockets.send_now(router, [routed(router).routing_id, *([b"x"] * 30)])
    assert dealer.poll(int(DEADLINE_S * 1000))
    assert sockets.receive_now(dealer, frames_max=8) == [b"x"] * 9
    assert sockets.receive_now(dealer) is None


def test_an_unknown_peer_is_false_not_silence(zmq_context: zmq.Context[Socket]) -> None:
    router, _ = connected(zmq_context)
    assert sockets.send_now(router, [b"nobody", b"x"]) is False


def test_a_full_peer_is_false_and_the_loop_goes_on(zmq_context: zmq.Context[Socket]) -> None:
    router, dealer = connected(zmq_context, send_hwm=2)
    sockets.send_now(dealer, [b"hello"])
    peer = routed(router).routing_id
    lot = bytes(1_000_000)
    assert not all(sockets.send_now(router, [peer, lot]) for _ in range(5_000)), "it never got full"


def test_a_plaintext_client_is_refused(zmq_context: zmq.Context[Socket]) -> None:
    router = sockets.client_router(zmq_context)
    endpoint = sockets.bind(router, "tcp://127.0.0.1:0", SERVER)
    with zmq_context.socket(zmq.DEALER) as plain:
        assert handshake(plain, partial(_connect, plain, endpoint)) == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    assert sockets.receive_routed(router) is None


def test_a_wrong_server_key_lets_nothing_through(zmq_context: zmq.Context[Socket]) -> None:
    router = sockets.client_router(zmq_context, handshake_ms=200)
    endpoint = sockets.bind(router, "tcp://127.0.0.1:0", SERVER)
    dealer = sockets.worker_dealer(zmq_context)
    wrong = Client(keys.make_pair(), keys.make_pair().public)
    assert handshake(dealer, lambda: sockets.connect(dealer, endpoint, wrong)) == zmq.EVENT_DISCONNECTED
    assert sockets.receive_routed(router) is None


@pytest.mark.parametrize("kind", ["bind", "connect"])
def test_tcp_without_keys_is_an_error(zmq_context: zmq.Context[Socket], kind: str) -> None:
    made = sockets.client_router(zmq_context) if kind == "bind" else sockets.worker_dealer(zmq_context)
    with pytest.raises(SetupError, match="never used unencrypted"):
        getattr(sockets, kind)(made, "tcp://127.0.0.1:1")


def test_other_schemes_and_taken_ports_are_errors_that_say_what_to_do(
    zmq_context: zmq.Context[Socket],
) -> None:
    router = sockets.client_router(zmq_context)
    with pytest.raises(SetupError, match="tcp://HOST:PORT"):
        sockets.bind(router, "udp://127.0.0.1:1", SERVER)
    endpoint = sockets.bind(router, "tcp://127.0.0.1:0", SERVER)
    with pytest.raises(SetupError, match="another address or port"):
        sockets.bind(sockets.client_router(zmq_context), endpoint, SERVER)


def test_one_router_may_serve_ipc_plain_and_tcp_with_curve(zmq_context: zmq.Context[Socket], tmp_path: Path) -> None:
    router = sockets.worker_router(zmq_context)
    sockets.bind(router, f"ipc://{tmp_path}/s")
    tcp = sockets.bind(router, "tcp://127.0.0.1:0", SERVER)
    with pytest.raises(SetupError, match="before"):
        sockets.bind(router, f"ipc://{tmp_path}/late")
    inside, outside = sockets.worker_dealer(zmq_context), sockets.worker_dealer(zmq_context)
    sockets.connect(inside, f"ipc://{tmp_path}/s")
    sockets.connect(outside, tcp, CLIENT)
    inside.send(b"inside")
    first = routed(router)
    outside.send(b"outside")
    second = routed(router)
    assert (first.user_id, first.address, first.frames) == ("", "", [b"inside"])
    assert (second.user_id, second.frames) == (CLIENT.keys.public.decode(), [b"outside"])


def test_asking_no_properties_where_there_is_no_curve(zmq_context: zmq.Context[Socket], tmp_path: Path) -> None:
    router, dealer = sockets.worker_router(zmq_context), sockets.worker_dealer(zmq_context)
    sockets.connect(dealer, sockets.bind(router, f"ipc://{tmp_path}/s"))
    dealer.send(b"x")
    assert router.poll(int(DEADLINE_S * 1000))
    received = sockets.receive_routed(router, curve=False)
    assert received is not None
    assert (received.user_id, received.frames) == ("", [b"x"])


def test_an_oversize_frame_cuts_the_peer_and_nobody_else(zmq_context: zmq.Context[Socket]) -> None:
    router, loud = connected(zmq_context, frame_bytes_max=1_000)
    quiet = sockets.worker_dealer(zmq_context)
    sockets.connect(quiet, sockets.last_endpoint(router), CLIENT)
    loud.send(bytes(2_000))
    quiet.send(b"still here")
    assert routed(router).frames == [b"still here"]


def test_push_reaches_pull_over_curve(zmq_context: zmq.Context[Socket]) -> None:
    puller, pusher = sockets.pull(zmq_context), sockets.push(zmq_context)
    sockets.connect(pusher, sockets.bind(puller, "tcp://127.0.0.1:0", SERVER), CLIENT)
    assert sockets.send_now(pusher, [b"batch"])
    assert puller.poll(int(DEADLINE_S * 1000))
    assert sockets.receive_now(puller) == [b"batch"]


def test_making_a_context_raises_the_limit_of_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1_024), hard))
    with context():
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
