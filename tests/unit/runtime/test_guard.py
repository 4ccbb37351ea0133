"""The guard cuts who makes libzmq hold too much, nobody else, and is not to be fooled by descriptors used again."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator

import pytest

from restante.wire import limits
from runtime.guard import Excess, Guard, _shut_down
from tests.e2e.server import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a connection has received")

LIMIT = 50_000
KEPT = b"x" * (LIMIT + 1)
"""What the kernel holds of a connection that nobody reads from."""


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UNTAKEN_BYTES_MAX", LIMIT)
    monkeypatch.setattr(limits, "UNREAD_BYTES_MAX", LIMIT)
    monkeypatch.setattr(limits, "STRANGER_BYTES_MAX", 5_000)
    monkeypatch.setattr(limits, "CONNECTIONS_BYTES_MAX", 10 * LIMIT)


class Line:
    """One connection to a server's port: our end, and the client's."""

    ours: socket.socket

    def __init__(self, listener: socket.socket, number: int, *, instead_of: Line | None = None) -> None:
        self.theirs = socket.create_connection(listener.getsockname(), timeout=5)
        if instead_of is not None:
            instead_of.ours.close()  # the next descriptor is this one
        self.ours, _ = listener.accept()
        self.id = b"%d" % number

    @property
    def descriptor(self) -> int:
        return self.ours.fileno()

    def arrives(self, data: bytes) -> None:
        """The client says it, and the kernel has it."""
        self.theirs.sendall(data)
        with socket.socket(fileno=os.dup(self.descriptor)) as one:
            wait_for(lambda: len(one.recv(len(data), socket.MSG_PEEK)) == len(data), "it arrives")

    @property
    def is_cut(self) -> bool:
        self.theirs.settimeout(0.05)
        try:
            return self.theirs.recv(1) == b""
        except TimeoutError:
            return False


class Desk:
    """A server's port, guarded."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.cut: list[Excess] = []
        self.now = 1_000.0
        self.trusted: set[bytes] = set()
        self.guard = Guard(self.listener.getsockname()[1], self.cut.append, self.trusted.__contains__, lambda: self.now)
        self.lines: list[Line] = []

    def line(self, *, known: bool = True, instead_of: Line | None = None) -> Line:
        line = Line(self.listener, len(self.lines), instead_of=instead_of)
        self.lines.append(line)
        if known:
            self.trusted.add(line.id)
            self.guard.took(line.id, line.descriptor, 0, 0)
        return line


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    for line in desk.lines:
        line.theirs.close()
        line.ours.close()
    desk.listener.close()


def test_a_stranger_whose_first_envelope_has_no_end_is_cut(desk: Desk) -> None:
    stranger, other = desk.line(known=False), desk.line()
    stranger.arrives(KEPT)
    other.arrives(b"x" * 1_000)
    assert desk.guard.look() == 1
    assert (stranger.is_cut, other.is_cut) == (True, False)
    assert desk.cut[0].untaken == len(KEPT)


def test_before_a_login_much_less_is_too_much(desk: Desk) -> None:
    stranger, known = desk.line(), desk.line()
    desk.trusted.remove(stranger.id)
    for line in (stranger, known):
        line.arrives(b"x" * 6_000)
    assert desk.guard.look() == 1
    assert (stranger.is_cut, known.is_cut) == (True, False)


def test_what_the_service_took_is_not_held(desk: Desk) -> None:
    line = desk.line()
    line.arrives(KEPT)
    desk.guard.took(line.id, line.descriptor, len(KEPT), 3)
    assert desk.guard.look() == 0
    assert not line.is_cut


def test_an_allowance_cannot_be_saved_up(desk: Desk) -> None:
    line = desk.line()
    desk.guard.took(line.id, line.descriptor, 0, 1_000_000)  # counted for overhead that there was not
    assert desk.guard.look() == 0
    line.arrives(KEPT)
    assert desk.guard.look() == 1


def test_who_is_given_much_and_reads_nothing_is_cut(desk: Desk) -> None:
    line = desk.line()
    desk.guard.gave(line.id, LIMIT + 1)
    assert desk.guard.look() == 1
    assert line.is_cut
    assert desk.cut[0].unread > LIMIT


def test_who_reads_is_not(desk: Desk) -> None:
    line = desk.line()
    for _ in range(5):
        desk.guard.gave(line.id, LIMIT)
        line.ours.sendall(b"x" * LIMIT)
        left = LIMIT
        while left:
            left -= len(line.theirs.recv(left))
        wait_for(lambda: not desk.guard._excesses()[0].unread, "all is acknowledged")
        assert desk.guard.look() == 0


def test_of_many_that_are_too_much_together_the_largest_goes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_BYTES_MAX", 50_000)
    lines = [desk.line() for _ in range(3)]
    for line, size in zip(lines, (10_000, 45_000, 25_000), strict=True):
        line.arrives(b"x" * size)
    assert desk.guard.look() == 1
    assert [line.is_cut for line in lines] == [False, True, False]


def test_a_connection_that_never_says_anything_is_cut(desk: Desk) -> None:
    silent = desk.line(known=False)
    assert desk.guard.look() == 0
    desk.now += limits.GREETING_S_MAX - 1
    late = desk.line(known=False)
    assert desk.guard.look() == 0
    desk.now += 2
    assert desk.guard.look() == 1
    assert (silent.is_cut, late.is_cut) == (True, False)
    assert desk.cut[0].idle


def test_one_from_which_nothing_comes_any_more_is_cut_after_its_session_is_over(desk: Desk) -> None:
    gone, alive = desk.line(), desk.line()
    desk.now += limits.CONNECTION_IDLE_S_MAX - 1
    assert desk.guard.look() == 0
    desk.guard.took(alive.id, alive.descriptor, 20, 2)
    desk.now += 2
    assert desk.guard.look() == 1
    assert (gone.is_cut, alive.is_cut) == (True, False)
    assert limits.CONNECTION_IDLE_S_MAX > limits.HEARTBEAT_S * limits.SILENCES_MAX


def test_connections_that_are_closed_are_forgotten(desk: Desk) -> None:
    line = desk.line()
    line.ours.close()
    desk.guard.look()
    assert desk.guard._by_id == {}


def test_a_connection_under_a_used_descriptor_is_another(desk: Desk) -> None:
    first = desk.line()
    desk.guard.took(first.id, first.descriptor, 10 * LIMIT, 0)
    descriptor = first.descriptor
    second = desk.line(known=False, instead_of=first)
    assert second.descriptor == descriptor
    second.arrives(KEPT)
    assert desk.guard.look() == 1, "the allowance was the first one's"


def test_a_descriptor_that_is_another_s_by_now_is_not_shut_down(desk: Desk) -> None:
    line = desk.line()
    assert not _shut_down(line.descriptor, 1)
    assert not _shut_down(10**6, 1)
    assert not line.is_cut


def test_other_ports_are_none_of_its_business(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        line = Line(elsewhere, 9)
        line.arrives(KEPT)
        assert desk.guard.look() == 0
        line.theirs.close()
        line.ours.close()


def test_its_thread_looks_when_the_process_has_grown_and_ends_when_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The process that runs all tests is so large that whatever a test holds lies in what was freed before.
    size = [100 << 20]
    monkeypatch.setattr("runtime.guard._process_bytes", lambda: size[0])
    desk.line(known=False).arrives(KEPT)
    desk.guard.start()
    size[0] += 64 << 20
    wait_for(lambda: len(desk.cut) == 1, "it is cut")
    desk.guard.stop()
    assert not desk.guard._thread.is_alive()
