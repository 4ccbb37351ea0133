"""Back-pressure: a store that stands still, and readers that do not read. Memory stays bounded, whoever must wait is
told how long, nothing is lost or doubled, and nobody else notices.
"""

from __future__ import annotations

import itertools
import os
import secrets
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from restante.wire import envelopes as e
from restante.wire import limits
from tests.attack.peers import Peer
from tests.e2e.memory import rss_mib
from tests.e2e.server import Server, wait_for

pytestmark = pytest.mark.timeout(180)

SENDERS = 10
ENVELOPES = 20
CONTENT = 1 << 20
"""Ten senders with twenty envelopes of a megabyte: 200 MiB, more than the broker may hold."""

ALL_BYTES = SENDERS * ENVELOPES * CONTENT
WAITING_BYTES = ALL_BYTES - limits.BROKER_BYTES_MAX
assert ENVELOPES * CONTENT < limits.UNTAKEN_BYTES_MAX, "else senders are cut off"

BOUND_MIB = (limits.BROKER_BYTES_MAX * 2 + WAITING_BYTES + limits.BATCH_BYTES_MAX + CONTENT) / 2**20 + 32
"""The stated bound: contents held, once in the core and once in the batches that wait in the socket to the store; what
has come in from all senders and is not handled yet; a batch while it is put together; and what the allocator keeps."""


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Pusher:
    """A sender that keeps as much on the way as it may, and repeats what is refused as the protocol says."""

    def __init__(self, address: str, name: str) -> None:
        self.peer = Peer(address)
        self.peer.log_in(name)
        self.name = name
        self.ids = [secrets.token_bytes(16) for _ in range(ENVELOPES)]
        self.content = [b"%s-%d " % (name.encode(), n) + bytes(CONTENT - 20) for n in range(ENVELOPES)]
        self.refusals: list[e.Error] = []
        self._requests: dict[int, int] = {}
        self.next = 1
        self.sent = 0
        self.wait_until = 0.0

    def step(self) -> None:
        """Send what may be sent, and read what has come."""
        while time.monotonic() >= self.wait_until and self.next <= ENVELOPES and len(self._requests) < ENVELOPES:
            self._push(self.next)
            self.next += 1
        while (heard := self.peer.hear(0.0)) is not None:
            self._heard(heard[0])

    def _push(self, n: int) -> None:
        item = e.Item(id=self.ids[n - 1], to=[self.name], size=len(self.content[n - 1]))
        request = e.Send.of(self.peer.next_id(), b"s" * 16, n, [item])
        self._requests[request.id] = n
        self.peer.say(request, self.content[n - 1])

    def _heard(self, got: e.ToClient) -> None:
        if isinstance(got, e.Sent):
            n = self._requests.pop(got.id)
            assert got.results[0].seq, got
            self.sent += 1
        elif isinstance(got, e.Error):
            assert got.id is not None, got
            n = self._requests.pop(got.id)
            if got.code != "gap":
                self.refusals.append(got)
            assert got.retry_after_ms is not None, got
            self.wait_until = max(self.wait_until, time.monotonic() + got.retry_after_ms / 1_000)
            self.next = min(self.next, n)


def step_all(pushers: list[Pusher]) -> None:
    for pusher in pushers:
        pusher.step()
    time_passes = threading.Event()
    time_passes.wait(0.002)


def until(pushers: list[Pusher], condition: object, what: str, wait_s: float = 60.0) -> None:
    assert callable(condition)

    def look() -> bool:
        step_all(pushers)
        return bool(condition())

    wait_for(look, what, wait_s=wait_s)


@pytest.fixture
def pushers(own_server: Server) -> Iterator[list[Pusher]]:
    """The senders, logged in."""
    with ExitStack() as ends:
        made = list[Pusher]()
        for n in range(SENDERS):
            made.append(Pusher(own_server.address, f"sender{n}"))
            ends.callback(made[-1].peer.close)
        yield made


def test_a_store_that_stands_still_holds_up_senders_and_loses_nothing(
    own_server: Server, pushers: list[Pusher]
) -> None:
    """BROKER_BYTES_MAX, SESSION_BYTES_MAX; [N3] [N4] [R5]"""
    pids = own_server.pids()
    highest = before = rss_mib(pids["broker"])
    with stopped(pids["store"]):
        deadline = time.monotonic() + 12  # past the time after which the broker takes the store for gone

        def long_enough() -> bool:
            nonlocal highest
            highest = max(highest, rss_mib(pids["broker"]))
            return time.monotonic() > deadline

        until(pushers, long_enough, "twelve seconds go by")
        assert sum(pusher.sent for pusher in pushers) == 0
        told = [pusher.name for pusher in pushers if pusher.refusals]
        assert len(told) >= SENDERS // 4, f"of 200 MiB the broker may hold 128, and only {told} were told"
        codes = {refusal.code for pusher in pushers for refusal in pusher.refusals}
        assert "busy" in codes
        assert codes <= {"busy", "unavailable"}, codes
    print(f"the broker held {highest - before:.0f} MiB more, allowed {BOUND_MIB:.0f}; refused: {sorted(codes)}")
    assert highest - before < BOUND_MIB
    until(pushers, lambda: all(pusher.sent == ENVELOPES for pusher in pushers), "all is sent", wait_s=90)
    assert own_server.pids() == pids
    for pusher in pushers:
        assert mailbox(pusher) == pusher.ids, "lost, doubled or out of order"


def mailbox(pusher: Pusher) -> list[bytes]:
    """The ids in a mailbox, in its order."""
    found: list[bytes] = []
    after = 0
    while True:
        page = pusher.peer.expect(e.Fetch(id=pusher.peer.next_id(), after=after), e.Page)
        found += [entry.id for entry in page.messages]
        after = page.through
        if not page.more:
            return found


# --- readers that do not read -----------------------------------------------------------------------------

READER = """
import sys, time
sys.path.insert(0, sys.argv[3])
from restante.wire import envelopes as e
from tests.attack.peers import Peer
peer = Peer(sys.argv[1], unread_max=4)
peer.log_in(sys.argv[2])
peer.expect(e.Subscribe(id=900, sub=1, messages=1000, bytes=4 << 20), e.Subscribed)
print("subscribed", flush=True)
delivered = size = 0
while True:
    heard = peer.hear(3600)
    if heard is not None and isinstance(heard[0], e.Deliver):
        delivered += len(heard[0].messages)
        size += len(heard[1])
        peer.say(e.Credit(sub=1, messages=delivered + 1000, bytes=size + (4 << 20)))
"""


class Reader:
    """A process that subscribes, grants credit as it reads, and acknowledges nothing."""

    def __init__(self, server: Server, name: str) -> None:
        root = str(Path(__file__).parents[2])
        command = [sys.executable, "-c", READER, server.address, name, root]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=server.env, cwd=server.folder)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"subscribed\n"

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


def never_acknowledges(server: Server, name: str) -> Reader:
    return Reader(server, name)


def stops_reading(server: Server, name: str) -> Peer:
    """Its socket's buffers fill, and then the broker's."""
    silent = Peer(server.address, unread_max=1).log_in(name)
    silent.expect(e.Subscribe(id=900, sub=1, messages=1_000, bytes=4 << 20), e.Subscribed)
    return silent


def is_stopped(server: Server, name: str) -> Reader:
    reader = Reader(server, name)
    os.kill(reader.process.pid, signal.SIGSTOP)
    return reader


PARTS, PART = 16, 512 << 10
"""Eight megabytes a measurement: twice a reader's credit."""

EXCHANGES = 8
"""Of the others, timed while a part is on its way: 128 a measurement."""

ROUNDS_MIN, ROUNDS_MAX = 5, 15


class Others:
    """Those who must not notice: one who sends, and one whose waiting is measured."""

    def __init__(self, server: Server) -> None:
        self.good, self.sender = (Peer(server.address).log_in(name) for name in ("good", "sender"))
        self._n, self._parts = itertools.count(1), itertools.count(1)

    def close(self) -> None:
        self.good.close()
        self.sender.close()

    def p99_s(self, recipient: str) -> float:
        """The 99th percentile of what a send and a page take, while somebody else is sent much."""
        found = []
        for _ in range(PARTS):
            self._begin_to_send(recipient)
            for _ in range(EXCHANGES):
                began = time.monotonic()
                assert isinstance(self.good.send("good", n=next(self._n)), e.Sent)
                self.good.expect(e.Fetch(id=self.good.next_id(), limit=1), e.Page)
                found.append(time.monotonic() - began)
            heard = self.sender.hear()
            assert heard is not None
            assert isinstance(heard[0], e.Sent)
        return statistics.quantiles(found, n=100, method="inclusive")[98]

    def _begin_to_send(self, recipient: str) -> None:
        """What comes of it must overlap with what is measured."""
        item = e.Item(id=secrets.token_bytes(16), to=[recipient], size=PART)
        request = e.Send.of(self.sender.next_id(), b"s" * 16, next(self._parts), [item])
        self.sender.say(request, bytes(PART))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("bad_reader", [never_acknowledges, stops_reading, is_stopped])
def test_a_reader_that_does_not_read_is_its_own_loss(
    own_server: Server, bad_reader: Callable[[Server, str], Reader | Peer]
) -> None:
    """[U3] [D5]: its mail stays unread, memory bounded, and nobody else notices: their p99 is within 2×.

    It is measured with and without a bad reader in turn, on the same server under the same load, and each pair gives a
    ratio. A pause of the machine's hits either of a pair as easily: were there no effect, as many ratios would be above
    1 as below, however loud the noise, and their median ends below 2. If the others do wait it is above in every round.
    """
    server, pids = own_server, own_server.pids()
    ratios: list[float] = []
    with closing(Others(server)) as others:
        others.p99_s("sender")  # the first is of a cold server
        before = rss_mib(pids["broker"])
        while len(ratios) < ROUNDS_MIN or (statistics.median(ratios) > 2 and len(ratios) < ROUNDS_MAX):
            lazy = f"lazy{len(ratios)}"  # a mailbox of its own: what it reads is no backlog of earlier rounds
            with closing(bad_reader(server, lazy)):
                with_it_s = others.p99_s(lazy)
            without_s = others.p99_s("sender")
            ratios.append(with_it_s / without_s)
            print(f"others' p99: {with_it_s * 1e3:.1f} ms with it, {without_s * 1e3:.1f} ms without")
        grown = rss_mib(pids["broker"]) - before
    print(f"{bad_reader.__name__}: {statistics.median(ratios):.2f} times, {grown:.0f} MiB more")
    assert statistics.median(ratios) <= 2, [f"{ratio:.1f}" for ratio in ratios]
    assert grown < 100
    for n in range(len(ratios)):
        with Peer(server.address) as owner:
            owner.log_in(f"lazy{n}")
            assert owner.expect(e.Overview(id=owner.next_id()), e.Account).unread == PARTS
    assert server.pids() == pids
