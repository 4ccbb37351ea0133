"""The link: what it must get right about libzmq itself."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import Final

import pytest
import zmq
from zmq.utils import z85

from restante.events import Received
from restante.transport import DRAIN_MAX, Link
from restante.wire.address import Address
from restante.wire.codec import client_frames
from restante.wire.envelopes import Ping, Pong

DEADLINE_S: Final = 30.0
CONNECTIONS: Final = 500
"""Without the care that `Link.close` takes, some tens of them were enough."""


def test_a_connection_that_breaks_off_while_it_is_closed_takes_no_later_one_with_it() -> None:
    """The I/O thread of libzmq tells a monitor what happens to a connection, and waits until it can: for ever, if the
    monitor is closed. Nothing of that context moves then, so no later connection is made and `end` never returns.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE_S / 2)
        link = Link(Address("127.0.0.1", server.getsockname()[1], bytes(32)))
        made = 0

        def connect_again_and_again() -> None:
            nonlocal made
            for number in range(CONNECTIONS):
                link.open(number)
                server.accept()[0].close()
                link.close()
                made += 1
            link.end()

        thread = threading.Thread(target=connect_again_and_again, daemon=True)
        thread.start()
        thread.join(DEADLINE_S)
        assert made == CONNECTIONS
        assert not thread.is_alive(), "the context never ended"


def test_where_there_is_no_room_for_a_socket_it_is_told_like_any_connection_that_is_not_made() -> None:
    """EMFILE, of descriptors or of what libzmq allows: it may pass."""
    link = Link(Address("127.0.0.1", 1, bytes(32)))
    link._context = zmq.Context()
    link._context.max_sockets = 1  # the DEALER, and no monitor
    lost = link.open(1)
    assert lost is not None
    assert "Too many open files" in lost.reason
    assert link.descriptors == ()
    assert link.send(Ping(id=1), b"") is not None
    link.end()


def test_a_socket_that_was_never_ours_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is interrupted as a socket is made leaves it to whoever looks at the exception."""
    link = Link(Address("127.0.0.1", 1, bytes(32)))
    astray: list[zmq.Socket[bytes]] = []

    def interrupted(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
        astray.append(zmq.Socket(context, kind))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zmq.Context, "socket", interrupted)
        with pytest.raises(KeyboardInterrupt):
            link.open(1)
    context = link._context
    assert context is not None
    thread = threading.Thread(target=link.end, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    assert not thread.is_alive(), "it waits for a socket that nobody closes"
    astray.pop().close(linger=0)
    context.term()


class Partner:
    """A ROUTER, and a link that is connected to it."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        public, secret = zmq.curve_keypair()
        self._router = context.socket(zmq.ROUTER)
        self._router.linger = 0
        self._router.sndhwm = 0  # a ROUTER drops what a full queue has no room for
        self._router.curve_server = True
        self._router.curve_publickey, self._router.curve_secretkey = public, secret
        port = self._router.bind_to_random_port("tcp://127.0.0.1")
        self.link = Link(Address("127.0.0.1", port, z85.decode(public)))
        self.link.open(1)
        self.link.send(Ping(id=1), b"")
        self._peer = self._router.recv_multipart()[0]

    def say(self, count: int) -> None:
        """Say something so often."""
        for n in range(count):
            self._router.send_multipart([self._peer, *client_frames(Pong(id=n + 1), b"")])

    def wait(self) -> bool:
        """Wait for a descriptor's edge, as an event loop does; False if none comes."""
        return bool(select.select(self.link.descriptors, (), (), DEADLINE_S / 6)[0])

    def close(self) -> None:
        self.link.end()
        self._router.close()


@pytest.fixture
def partner() -> Iterator[Partner]:
    with zmq.Context[zmq.Socket[bytes]]() as context:
        made = Partner(context)
        try:
            yield made
        finally:
            made.close()


def ids(found: Iterable[object]) -> list[int]:
    return [each.header.id for each in found if isinstance(each, Received) and isinstance(each.header, Pong)]


def test_who_waits_for_edges_and_looks_again_while_it_stirs_misses_nothing(partner: Partner) -> None:
    count = 10 * DRAIN_MAX
    partner.say(count)
    found: list[int] = []
    while len(found) < count and (partner.link.stirred or partner.wait()):
        part = ids(partner.link.drain())
        assert len(part) <= DRAIN_MAX
        found += part
    assert found == list(range(1, count + 1))
    assert not partner.link.stirred


def test_what_came_before_a_send_stirs_after_it(partner: Partner) -> None:
    """The send takes the edge with it."""
    partner.say(1)
    partner.link.wait(DEADLINE_S)  # an edge alone may stand for something else
    partner.link.send(Ping(id=2), b"")
    assert partner.link.stirred
    assert ids(partner.link.drain()) == [1]
    assert not partner.link.stirred
