"""The servers that Restante is measured beside: their clients do what is said of them, and nothing stays behind.

A peer whose server or library isn't installed is skipped, as `make bench` skips it.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.local_server import ROOT
from benchmarks.peers import of_module
from benchmarks.peers.child import find
from benchmarks.peers.peer import Client, Message, NotOffered, Peer, Server
from benchmarks.processes import words_of

MODULES = ("redis", "rabbitmq", "jetstream", "mosquitto", "postgresql")
MAILBOXES = 10
COUNT = 2_000
PEERS = [peer for module in MODULES for peer in of_module(module)]

pytestmark = [
    pytest.mark.timeout(180),  # RabbitMQ takes half a minute to start on a busy machine
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked at through /proc"),
]


class Running:
    """A server, and what of it is to be closed."""

    def __init__(self, peer: Peer, folder: Path) -> None:
        self.peer = peer
        self.server: Server = peer.start(folder)
        self._serves = True
        self._numbers = itertools.count()
        self._clients: list[Client] = []

    def client(self) -> Client:
        client = self.peer.client(self.server.endpoint, next(self._numbers))
        self._clients.append(client)
        client.prepare(MAILBOXES)
        return client

    def forget(self, client: Client) -> None:
        """It is closed already."""
        self._clients.remove(client)

    def stop(self) -> None:
        """Also a second time."""
        try:
            while self._clients:
                self._clients.pop().close()
        finally:
            if self._serves:
                self._serves = False
                self.server.stop()


@pytest.fixture(scope="module", params=PEERS, ids=lambda peer: peer.key)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    peer: Peer = request.param
    if (why := peer.missing()) is not None:
        pytest.skip(why)
    running = Running(peer, tmp_path_factory.mktemp(peer.key))
    yield running
    running.stop()


def spread(count: int) -> list[Message]:
    return [Message(n % MAILBOXES, b"%07d" % n) for n in range(count)]


def drained(running: Running, expected: int) -> int:
    reader = running.client()
    reader.open_mailboxes(MAILBOXES)
    return reader.drain(MAILBOXES, expected)


def test_several_clients_prepare_at_a_time(running: Running) -> None:
    """The first of the module: nothing is there yet."""
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(running.client) for _ in range(4)]:
            future.result(60)


def test_what_is_sent_in_lots_is_drained(running: Running) -> None:
    running.client().send(spread(COUNT))
    assert drained(running, COUNT) == COUNT


def test_what_is_sent_call_by_call_is_drained(running: Running) -> None:
    running.client().send_each(spread(COUNT))
    assert drained(running, COUNT) == COUNT


def test_bodies_of_a_mebibyte_get_through(running: Running) -> None:
    body = bytes(1 << 20)
    running.client().send([Message(n % MAILBOXES, body) for n in range(40)])
    assert drained(running, 40) == 40


def test_what_was_drained_does_not_come_again(running: Running) -> None:
    sender = running.client()
    sender.send(spread(MAILBOXES))
    assert drained(running, MAILBOXES) == MAILBOXES
    sender.send(spread(MAILBOXES))
    assert drained(running, MAILBOXES) == MAILBOXES


def test_what_is_sent_to_all_is_in_every_mailbox(running: Running) -> None:
    running.client().send_to_all(b"to all", MAILBOXES)
    assert drained(running, MAILBOXES) == MAILBOXES


@pytest.mark.parametrize("mailbox", [0, 7])
def test_a_follower_gets_what_is_sent_in_order_and_at_its_time(running: Running, mailbox: int) -> None:
    count = 200
    found: list[tuple[float, bytes]] = []
    ready, stop = threading.Event(), threading.Event()

    def got(body: bytes) -> None:
        found.append((time.monotonic(), body))
        if len(found) == count:
            stop.set()

    follower, sender = running.client(), running.client()
    thread = threading.Thread(target=follower.follow, args=(mailbox, got, ready.set, stop))
    thread.start()
    try:
        assert ready.wait(30)
        start = time.monotonic() + 0.1
        due = [start + n / 1_000 for n in range(count)]
        sender.send_at((at, Message(mailbox, b"%d" % n)) for n, at in enumerate(due))
        assert stop.wait(30)
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    assert [body for _, body in found] == [b"%d" % n for n in range(count)]
    assert all(came >= at for (came, _), at in zip(found, due, strict=True))


def test_a_follower_to_whom_nothing_comes_ends_when_told(running: Running) -> None:
    ready, stop = threading.Event(), threading.Event()
    found: list[bytes] = []
    thread = threading.Thread(target=running.client().follow, args=(1, found.append, ready.set, stop))
    thread.start()
    assert ready.wait(30)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert found == []


def test_what_was_followed_is_acknowledged(running: Running) -> None:
    ready, stop = threading.Event(), threading.Event()
    follower, sender = running.client(), running.client()
    thread = threading.Thread(target=follower.follow, args=(2, lambda _: stop.set(), ready.set, stop))
    thread.start()
    assert ready.wait(30)
    sender.send([Message(2, b"followed")])
    thread.join(30)
    assert not thread.is_alive()
    left = looked_at(running, 2, 10)
    assert left in (0, None)
    if left is None:
        follower.close()  # what it had and didn't acknowledge would be there again
        running.forget(follower)
        assert drained(running, 1) == 0


def test_looking_at_a_mailbox_takes_nothing(running: Running) -> None:
    running.client().send([Message(3, b"look")] * 20)
    assert looked_at(running, 3, 10) in (10, None)
    assert looked_at(running, 3, 10) in (10, None)
    assert drained(running, 20) == 20


def looked_at(running: Running, mailbox: int, count: int) -> int | None:
    """How many of so many messages are seen; None where none can be."""
    try:
        return running.client().newest(mailbox, count)
    except NotOffered:
        return None


def test_the_server_says_what_it_is_and_takes(running: Running) -> None:
    assert running.peer.version()[0].isdigit()
    assert running.server.data_bytes() > 0 or not running.peer.durable
    pids = running.server.pids()
    assert pids
    assert all(any(words_of(pid)) for pid in pids.values())


def test_a_stopped_server_leaves_no_process(running: Running) -> None:
    """The last of the module: it stops what the others used."""
    running.client().send(spread(100))
    pids = running.server.pids()
    running.stop()
    # One whose parent is gone has no command line from its end on, until init has taken note of it.
    assert [name for name, pid in pids.items() if any(words_of(pid))] == []
    assert running.server.pids() == {}


STARTER = """
import sys
from pathlib import Path
from benchmarks.peers import by_key
print(*by_key(sys.argv[1]).start(Path(sys.argv[2])).pids().values(), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(find("setpriv") is None, reason="no setpriv: apt-get install util-linux")
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.key)
def test_a_server_ends_with_whoever_started_it(peer: Peer, tmp_path: Path) -> None:
    if (why := peer.missing()) is not None:
        pytest.skip(why)
    command = [sys.executable, "-c", STARTER, peer.key, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        pids = [int(word) for word in starter.stdout.readline().split()]
        starter.kill()
    assert pids
    deadline, pause = time.monotonic() + 60, threading.Event()
    while (left := [pid for pid in pids if any(words_of(pid))]) and time.monotonic() < deadline:
        pause.wait(0.05)
    assert left == []
