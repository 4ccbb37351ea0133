"""What passes arrives as it was sent; each mishap does what it says, and no more."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator

import pytest

from tests.e2e.server import wait_for
from tests.torture.proxy import BUFFER_BYTES, Proxy

SOON_S = 10.0


class Line:
    """A connection through a proxy: its near end, and its far one."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(SOON_S)
        self.port = proxy.add("line", self.server.getsockname()[1])
        self.near, self.far = self.connect()

    def connect(self) -> tuple[socket.socket, socket.socket]:
        near = socket.create_connection(("127.0.0.1", self.port), SOON_S)
        far, _ = self.server.accept()
        far.settimeout(SOON_S)
        return near, far

    def close(self) -> None:
        for end in (self.near, self.far, self.server):
            end.close()


@pytest.fixture
def line() -> Iterator[Line]:
    with Proxy(seed=1) as proxy, contextlib.closing(Line(proxy)) as line:
        yield line


def read(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := end.recv(size - len(data))):
        data += more
    return data


def is_over(end: socket.socket) -> bool:
    """Whether a connection ended, in whatever way."""
    try:
        return end.recv(1 << 20) == b""
    except ConnectionResetError:
        return True


def is_refused(port: int) -> bool:
    """Whether a new connection ends at once."""
    try:
        with socket.create_connection(("127.0.0.1", port), SOON_S) as late:
            return is_over(late)
    except ConnectionResetError:  # before we had it
        return True


def is_silent(end: socket.socket) -> bool:
    """Whether there is nothing to read now."""
    end.setblocking(False)
    try:
        end.recv(1)
        return False
    except BlockingIOError:
        return True
    finally:
        end.settimeout(SOON_S)


def test_bytes_pass_both_ways_as_they_are(line: Line) -> None:
    sent = bytes(range(256)) * 4_096  # more than is buffered on the way
    assert len(sent) > BUFFER_BYTES
    for one, other in ((line.near, line.far), (line.far, line.near)):
        one.setblocking(False)
        rest, got = sent, b""
        while len(got) < len(sent):
            with contextlib.suppress(BlockingIOError):
                rest = rest[one.send(rest) :] if rest else rest
            got += other.recv(1 << 16)
        one.settimeout(SOON_S)
        assert got == sent
    assert line.proxy.counts["line connections"] == 1


def test_what_was_sent_before_the_end_arrives_and_then_the_end(line: Line) -> None:
    line.near.sendall(b"last words")
    line.near.close()
    assert read(line.far, 100) == b"last words"


def test_delay_is_late_and_in_order(line: Line) -> None:
    assert line.proxy.delay("line", latency_s=0.2, for_s=60) == 1
    began = time.monotonic()
    line.near.sendall(b"one ")
    line.near.sendall(b"two")
    assert read(line.far, 7) == b"one two"
    assert time.monotonic() - began >= 0.2


def test_stall_lets_nothing_pass_until_it_is_healed(line: Line) -> None:
    assert line.proxy.stall("line", for_s=60) == 1
    line.near.sendall(b"held")
    other_near, other_far = line.connect()
    with other_near, other_far:
        other_near.sendall(b"new")
        assert read(other_far, 3) == b"new"  # by now the older line's bytes would have passed too
    assert is_silent(line.far)
    line.proxy.heal()
    assert read(line.far, 4) == b"held"


def test_stall_ends_by_itself(line: Line) -> None:
    line.proxy.stall("line", for_s=0.1)
    line.near.sendall(b"held")
    assert read(line.far, 4) == b"held"


def test_cut_ends_both_ends_in_the_middle(line: Line) -> None:
    line.proxy.stall("line", for_s=60)
    sent = b"x" * 1_000
    line.near.sendall(sent)
    wait_for(lambda: line.proxy.cut("line") == 1, "there is a connection to cut")
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while more := line.far.recv(4096):
            got += more
    assert len(got) < len(sent)
    assert sent.startswith(got)
    assert is_over(line.near)
    assert line.proxy.cut("line") == 0
    assert line.proxy.counts["line cuts"] == 1


def test_half_open_tells_one_end_and_not_the_other(line: Line) -> None:
    assert line.proxy.half_open("line", for_s=60) == 1
    ends = {line.near, line.far}
    (gone,) = select.select(ends, [], [], SOON_S)[0]
    (left,) = ends - {gone}
    assert is_over(gone)
    for _ in range(20):
        left.sendall(b"to nowhere" * 1_000)  # it is taken
    assert is_silent(left)
    line.proxy.heal()
    assert is_over(left)


def test_half_open_ends_after_its_time(line: Line) -> None:
    line.proxy.half_open("line", for_s=0.1)
    assert is_over(line.near)
    assert is_over(line.far)


def test_refuse_lets_nobody_in_and_leaves_who_is(line: Line) -> None:
    line.proxy.refuse("line", for_s=60)
    assert is_refused(line.port)
    line.near.sendall(b"still here")
    assert read(line.far, 10) == b"still here"


def test_a_server_that_is_gone_refuses_through_the_proxy(line: Line) -> None:
    line.server.close()
    assert is_refused(line.port)
    assert line.proxy.counts["line connections"] == 1


def test_a_link_can_lead_elsewhere(line: Line) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(SOON_S)
        line.proxy.aim("line", other.getsockname()[1])
        with socket.create_connection(("127.0.0.1", line.port), SOON_S):
            other.accept()[0].close()
