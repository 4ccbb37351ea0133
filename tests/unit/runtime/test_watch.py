"""A refused handshake is reported, once, with what to do; what libzmq tries again is not."""

import zmq

from runtime import keys, sockets
from runtime.errors import SetupError
from runtime.sockets import Client, Server, Socket
from runtime.watch import RefusalWatch
from runtime.zap import Zap
from tests.unit.runtime.support import DEADLINE_S, context, wait_for

SERVER = Server(keys.make_pair(), "workers")
CLIENT = Client(keys.make_pair(), SERVER.keys.public)


def nobody(_key: bytes) -> bool:
    return False


def watched(made: zmq.Context[Socket]) -> tuple[Socket, RefusalWatch[str]]:
    dealer = sockets.worker_dealer(made)
    return dealer, RefusalWatch(dealer, lambda reason: reason)


def test_a_refused_key_is_told_and_its_socket_never_comes_back() -> None:
    admitted = False
    with context() as made, Zap(made, {"workers": lambda _key: admitted}):
        router = sockets.worker_router(made)
        endpoint = sockets.bind(router, "tcp://127.0.0.1:0", SERVER)
        dealer, watch = watched(made)
        sockets.connect(dealer, endpoint, CLIENT)
        assert watch.socket.poll(int(DEADLINE_S * 1000))
        assert watch.receive() == f"{endpoint} refused this key (400). Enrol it in the peer's key directory."
        assert watch.receive() is None
        watch.close()
        admitted = True
        sockets.send_now(dealer, [b"nobody hears this"])
        assert not router.poll(int(3 * sockets.RECONNECT_MAX_MS)), "it reconnects after all: simplify the services"


def test_another_mechanism_is_told() -> None:
    with context() as made, Zap(made, {"workers": nobody}):
        endpoint = sockets.bind(sockets.worker_router(made), "tcp://127.0.0.1:0", SERVER)
        dealer, watch = watched(made)
        dealer.connect(endpoint)
        assert watch.socket.poll(int(DEADLINE_S * 1000))
        assert "not the same security on both sides" in str(watch.receive())
        watch.close()


def test_nobody_there_is_no_refusal() -> None:
    with context() as made, Zap(made, {"workers": lambda _key: True}):
        before = sockets.worker_router(made)
        endpoint = sockets.bind(before, "tcp://127.0.0.1:0", SERVER)
        before.close()
        dealer, watch = watched(made)
        sockets.connect(dealer, endpoint, CLIENT)
        assert not watch.socket.poll(3 * sockets.RECONNECT_MS)
        router = sockets.worker_router(made)
        wait_for(lambda: bound(router, endpoint), "the port, free again")
        dealer.send(b"here you are")
        assert router.poll(int(DEADLINE_S * 1000))
        assert watch.receive() is None
        watch.close()


def bound(router: Socket, endpoint: str) -> bool:
    try:
        sockets.bind(router, endpoint, SERVER)
    except SetupError:
        return False
    return True
