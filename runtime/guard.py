"""What libzmq holds for one client, bounded in bytes; libzmq itself bounds envelopes.

Two ways lead past its high-water marks. An envelope may have any number of frames, and all of them are held until the
last has come, which it need not: one client, before it has said who it is, filled a gigabyte in four seconds. And
10,000 answers of four megabytes may wait for a client that asks and never reads.

The kernel knows the truth about a connection, whatever its peer says: how many bytes it has received, and how many of
those sent to it the other side has acknowledged (`TCP_INFO`). The guard compares that with what the service took from
the connection, and gave to it::

    received − taken  >  UNTAKEN_BYTES_MAX        an envelope without end; STRANGER_BYTES_MAX before a login
    given − acked     >  UNREAD_BYTES_MAX         a client that does not read
    both, over all    >  CONNECTIONS_BYTES_MAX    many of them: the largest goes first

Such a connection is shut down. A thread looks twenty times a second, and then only if the process has grown: usually
it reads one number. What a connection may come to hold beyond its limit is thus bounded by constants
(`held_bytes_max`): by how much the process grows unseen, and by what libzmq's one I/O thread takes in, from all
connections together, between two looks. Twice a minute it looks in any case, for connections from which nothing comes
any more, or never did: libzmq would keep them for ever, and they would use up the descriptors that others need. Where
there is no `TCP_INFO` (other systems than Linux) nothing is guarded.

The counts are of the loop's thread, the allowances of the looking one. ZMTP and CURVE add to what is sent, so that
counts and kernel drift apart; whatever a look finds in a peer's favour is taken back at once, or it could be saved up.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from restante.wire import limits

#: The process must have grown by this much since it was last found in order, before connections are looked at; and by
#: an eighth, so that a server to which ten thousand connect looks twenty times, not a hundred.
GROWTH_BYTES: Final = 8 << 20
#: Connections remembered, before those that are closed are looked for.
REMEMBERED: Final = 1_024
#: Seconds between two looks in any case. With ten thousand connections one takes 0.1 s.
SWEEP_S: Final = 30.0
#: Seconds between two looks at the process's size. One costs 0.1 ms, a three-hundredth of a core.
LOOK_S: Final = 0.05
#: What libzmq's I/O thread takes off the lines and decrypts in a second, at most; 0.6 GiB were measured.
INTAKE_BYTES_S: Final = 1 << 30
#: What ZMTP and CURVE add to a frame, at most, in bytes.
FRAME_OVERHEAD: Final = 48

_COUNTERS: Final = struct.Struct("=QQ")
_COUNTERS_AT: Final = 120  # tcpi_bytes_acked, tcpi_bytes_received in struct tcp_info (Linux 4.2)
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def growth_bytes_max(size: int) -> int:
    """By how much a process of that size may grow before connections are looked at."""
    return max(GROWTH_BYTES, size // 8)


def held_bytes_max(limit: int, size: int) -> int:
    """How much more than before a process of that size holds, at most, of a connection that may hold `limit`.

    In decrypting, libzmq holds a frame twice. A machine that lets the looking thread wait makes it more, by as much as
    its I/O thread is let run meanwhile.
    """
    unseen = growth_bytes_max(size + limit)
    return limit + unseen + round(INTAKE_BYTES_S * LOOK_S) + 2 * limits.FRAME_BYTES_MAX


class Connection(msgspec.Struct):
    """What went over one connection, as the service sees it."""

    descriptor: int
    inode: int
    """Of the socket: a descriptor's number is used again, this is not while the socket lives."""
    heard_at: float
    """Monotonic seconds: of its last envelope, or of the look that first found it."""
    taken: int = 0
    given: int = 0
    taken_back: int = 0
    """Counted as taken, and never received."""
    added: int = 0
    """Acknowledged, and never counted as given."""

    def excess(self, acked: int, received: int, *, idle: bool, trusted: bool) -> Excess:
        """What libzmq holds for it. Called by the looking thread alone, which read the kernel's counts before."""
        taken, given = self.taken, self.given
        self.taken_back = max(self.taken_back, taken - received)
        self.added = max(self.added, acked - given)
        untaken = received - (taken - self.taken_back)
        return Excess(self.descriptor, self.inode, untaken, given + self.added - acked, idle, trusted)


class Excess(msgspec.Struct, frozen=True):
    """What libzmq holds for one connection."""

    descriptor: int
    inode: int
    untaken: int
    unread: int
    idle: bool
    """Nothing came from it for longer than from any that has a session."""
    trusted: bool
    """Somebody has logged in over it."""

    @property
    def total(self) -> int:
        return self.untaken + self.unread

    @property
    def too_much(self) -> bool:
        untaken_max = limits.UNTAKEN_BYTES_MAX if self.trusted else limits.STRANGER_BYTES_MAX
        too_many = self.untaken > untaken_max or self.unread > limits.UNREAD_BYTES_MAX
        return too_many or self.idle


class Guard:
    """Watches the connections that come in on `port`, from :meth:`start` to :meth:`stop`.

    `took` and `gave` belong to the loop's thread; the looking is another's. `cut` is told of each connection that was
    shut down, and `trusts` is asked whether somebody has logged in over one, in that other thread.
    """

    def __init__(
        self,
        port: int,
        cut: Callable[[Excess], None],
        trusts: Callable[[bytes], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._port = port
        self._cut = cut
        self._trusts = trusts
        self._clock = clock
        self._by_id: dict[bytes, Connection] = {}
        self._silent: dict[int, float] = {}
        """Connections from which nothing ever came, by inode, and when each was first seen."""
        self._size = 0
        self._remembered = REMEMBERED
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="guard", daemon=True)

    def start(self) -> None:
        """Begin to look, where this system tells what is needed."""
        if sys.platform == "linux":
            self._size = _process_bytes()
            self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    # --- what the service tells ---------------------------------------------------------------------------

    def took(self, routing_id: bytes, descriptor: int, size: int, frames: int) -> None:
        """An envelope of so many bytes and frames was taken from a connection."""
        connection = self._by_id.get(routing_id)
        if connection is None:
            connection = self._by_id[routing_id] = Connection(descriptor, _inode(descriptor), 0.0)
        connection.heard_at = self._clock()
        connection.taken += size + frames * FRAME_OVERHEAD

    def gave(self, routing_id: bytes, size: int) -> None:
        """So many bytes were given to libzmq for a connection."""
        connection = self._by_id.get(routing_id)
        if connection is not None:
            connection.given += size

    # --- looking ------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        sweep_at = self._clock() + SWEEP_S
        while not self._ended.wait(LOOK_S):
            size = _process_bytes()
            grown = size - self._size > growth_bytes_max(self._size)
            sweep = self._clock() >= sweep_at
            if grown or sweep or len(self._by_id) > self._remembered:
                cut = self.look()
                sweep_at = self._clock() + SWEEP_S
                self._remembered = max(REMEMBERED, 2 * len(self._by_id))
                if not cut:
                    self._size = size
            elif size < self._size:
                self._size = size

    def look(self) -> int:
        """Compare every connection with what the kernel knows; how many were shut down."""
        found = sorted(self._excesses(), key=lambda excess: excess.total, reverse=True)
        total = sum(excess.total for excess in found)
        cut = 0
        for excess in found:
            if not excess.too_much and total <= limits.CONNECTIONS_BYTES_MAX:
                continue
            total -= excess.total
            if _shut_down(excess.descriptor, excess.inode):
                cut += 1
                self._cut(excess)
        return cut

    def _excesses(self) -> list[Excess]:
        """One for each connection that is open; what is known of others is forgotten."""
        known = self._by_id.copy()
        by_inode = {connection.inode: (routing_id, connection) for routing_id, connection in known.items()}
        found, silent, open_inodes = [], self._silent, set()
        self._silent = {}
        now = self._clock()
        for descriptor, inode in _sockets():
            counters = self._counters(descriptor)
            if counters is None:
                continue
            open_inodes.add(inode)
            routing_id, connection = by_inode.get(inode, (b"", None))
            idle_s_max = limits.CONNECTION_IDLE_S_MAX
            if connection is None:
                connection, idle_s_max = Connection(descriptor, inode, silent.get(inode, now)), limits.GREETING_S_MAX
                self._silent[inode] = connection.heard_at
            idle = now - connection.heard_at > idle_s_max
            found.append(connection.excess(*counters, idle=idle, trusted=self._trusts(routing_id)))
        for routing_id, connection in known.items():
            if connection.inode not in open_inodes:
                self._by_id.pop(routing_id, None)
        return found

    def _counters(self, descriptor: int) -> tuple[int, int] | None:
        """Bytes acknowledged by the other side, and received from it; None if it is no connection of ours."""
        try:
            with socket.socket(fileno=os.dup(descriptor)) as one:
                if one.family not in (socket.AF_INET, socket.AF_INET6) or one.getsockname()[1] != self._port:
                    return None
                one.getpeername()
                info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _COUNTERS_AT + _COUNTERS.size)
        except OSError:
            return None
        if len(info) < _COUNTERS_AT + _COUNTERS.size:
            return None
        acked, received = _COUNTERS.unpack_from(info, _COUNTERS_AT)
        return acked, received


def _process_bytes() -> int:
    """What the process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _inode(descriptor: int) -> int:
    try:
        return os.fstat(descriptor).st_ino
    except OSError:  # closed meanwhile
        return -1


def _sockets() -> list[tuple[int, int]]:
    """This process's sockets: descriptor and inode."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  names are all that is wanted, of ten thousand
        with contextlib.suppress(OSError):
            place = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
            if place.startswith("socket:["):
                found.append((int(name), int(place[8:-1])))
    return found


def _shut_down(descriptor: int, inode: int) -> bool:
    """Shut a connection down, unless the descriptor is another's by now; a copy can't become that while we look."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return False
    with socket.socket(fileno=copy) as one:
        if os.fstat(copy).st_ino != inode:
            return False
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
    return True
