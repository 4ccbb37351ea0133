"""What the specification says of libzmq, and the client it shows: with real sockets."""

from __future__ import annotations

import base64
import contextlib
import re
import socket as tcp
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from tests.e2e.server import Server, wait_for
from tests.protocol.spec import section, text_of

WAIT_MS = 5_000
SERVER_KEY, SERVER_SECRET = zmq.curve_keypair()


class Net:
    """Sockets of one context."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []

    def close(self) -> None:
        for socket in self._sockets:
            socket.close(0)
        self._context.term()

    def serve(self) -> tuple[zmq.Socket[bytes], str]:
        """A server's socket, and where it is."""
        router = self._context.socket(zmq.ROUTER)
        self._sockets.append(router)
        router.curve_server = True
        router.curve_publickey, router.curve_secretkey = SERVER_KEY, SERVER_SECRET
        return router, f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}"

    def connect(self, endpoint: str, key: bytes = SERVER_KEY) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
        """A client's socket, as the specification wants it, and its monitor."""
        dealer = self._context.socket(zmq.DEALER)
        dealer.curve_publickey, dealer.curve_secretkey = zmq.curve_keypair()
        dealer.curve_serverkey = key
        dealer.reconnect_ivl, dealer.linger = -1, 0
        monitor = dealer.get_monitor_socket()
        self._sockets += [dealer, monitor]
        dealer.connect(endpoint)
        with contextlib.suppress(zmq.Again):  # where it is over already
            dealer.send(b"x", zmq.DONTWAIT)
        return dealer, monitor


@pytest.fixture
def net() -> Iterator[Net]:
    made = Net()
    yield made
    made.close()


def told(monitor: zmq.Socket[bytes], last: zmq.Event) -> list[tuple[str, int]]:
    """What a monitor tells after the attempt to connect, up to an event."""
    found = []
    while monitor.poll(WAIT_MS):
        message = recv_monitor_message(monitor)
        event = zmq.Event(message["event"])
        if event not in (zmq.Event.CONNECT_DELAYED, zmq.Event.CONNECTED, zmq.Event.HANDSHAKE_SUCCEEDED):
            found.append((str(event.name), int(message["value"])))
        if event == last:
            return found
    raise AssertionError(f"{last.name} did not come, but {found}")


class TestMonitor:
    def test_another_key_is_told(self, net: Net) -> None:
        """[T5]"""
        _, monitor = net.connect(net.serve()[1], zmq.curve_keypair()[0])
        events = told(monitor, zmq.Event.DISCONNECTED)
        assert events[0] == ("HANDSHAKE_FAILED_NO_DETAIL", 32)
        assert [name for name, _ in events[1:]] == ["DISCONNECTED"]

    def test_nobody_there_is_told(self, net: Net) -> None:
        """[T5]"""
        with tcp.socket() as taken:  # bound and not listening: whoever connects is refused
            taken.bind(("127.0.0.1", 0))
            _, monitor = net.connect(f"tcp://127.0.0.1:{taken.getsockname()[1]}")
            assert [name for name, _ in told(monitor, zmq.Event.CLOSED)] == ["CLOSED"]

    def test_a_lost_connection_is_told_and_sends_then_say_eagain(self, net: Net) -> None:
        """[T3] [T5]"""
        router, endpoint = net.serve()
        dealer, monitor = net.connect(endpoint)
        assert router.poll(WAIT_MS)
        router.close(0)
        assert [name for name, _ in told(monitor, zmq.Event.DISCONNECTED)] == ["DISCONNECTED"]
        wait_for(lambda: not dealer.poll(0, zmq.POLLOUT), "the socket has noticed it too")
        with pytest.raises(zmq.Again):
            dealer.send(b"x", zmq.DONTWAIT)
        dealer.sndtimeo = 1
        with pytest.raises(zmq.Again):
            dealer.send(b"x")


# --- the client that section 12 shows ---------------------------------------------------------------------


def client() -> str:
    found = re.search(r"```python\n(.*?)```", section(text_of("protocol.md"), "12. A client"), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(Path(tmp_path_factory.mktemp("server")))
    made.start()
    made.person("bob")
    yield made
    made.stop()


def run(server: Server, source: str = "", **others: Any) -> None:
    """Run the client as it stands, with what it must know."""
    _, _, host, key = server.address.split("/")
    known = {
        "endpoint": f"tcp://{host}",
        "key": base64.urlsafe_b64decode(key + "="),
        "name": "Bob",
        "password": "correct horse",
        "recipient": "BOB",
        "content": b"hi",
    }
    exec(source or client(), known | others)


class TestTheClientThatIsShown:
    def test_it_leaves_a_message_and_ends(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        """[T7]: a socket left open would keep its context from ending."""
        run(server)
        assert re.fullmatch(r"bob: on disk as \d+\n", capsys.readouterr().out)

    def test_it_tells_what_is_wrong_with_its_message(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        run(server, recipient="nobody")
        assert capsys.readouterr().out == "bob: unknown_recipient\n"

    def test_a_server_tells_its_name_and_version_as_the_specification_shows(
        self, server: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(server, client().replace('insist(1, "hello")', 'print(insist(1, "hello")["server"])'))
        assert capsys.readouterr().out.startswith(f"restante/{version('restante')}\n")

    def test_it_tells_what_is_final(self, server: Server) -> None:
        with pytest.raises(SystemExit, match=r"^login: wrong_credentials: ."):
            run(server, password="not the password")

    def test_it_does_not_wait_for_ever(self, server: Server) -> None:
        """[T5]"""
        with pytest.raises(SystemExit, match=r"^hello: no answer\."):
            run(server, client().replace("10_000", "50"), key=SERVER_KEY)

    def test_it_has_at_most_forty_lines(self) -> None:
        assert len([line for line in client().splitlines() if line.strip()]) <= 40
