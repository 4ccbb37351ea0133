"""TCP in between that goes wrong on demand: it delays, stalls, cuts and half-opens what runs through it.

One thread serves any number of links, each a listening port and where it leads. What comes is passed on in order, byte
by byte the same, until a mishap:

    delay       what passes is late by so much, for a while
    stall       nothing passes for a while, and then all of it
    cut         connections end with a reset at both ends, in the middle of what was under way
    half_open   one end is closed, the other isn't told: what it says is taken and vanishes, for a while
    refuse      new connections are closed at once, for a while
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from random import Random
from typing import Final, Self

BUFFER_BYTES: Final = 256 << 10
"""Bytes of one direction that wait here; past it the sender's own buffers fill, as behind a slow line."""

READ_BYTES: Final = 64 << 10
CONNECT_S: Final = 0.5
COMMAND_S: Final = 10.0

_RESET: Final = struct.pack("ii", 1, 0)


class Flow:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.size = 0
        self.ended = False
        self.blocked = False

    def take(self, due: float) -> bool:
        """Read what is there. False if the connection is over."""
        try:
            data = self.source.recv(READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.ended = not data
        if data:
            self.waiting.append((due, data))
            self.size += len(data)
        return True

    def give(self, now: float) -> bool:
        """Pass on what is due. False if the connection is over."""
        self.blocked = False
        while self.waiting and self.waiting[0][0] <= now and not self.blocked:
            due, data = self.waiting.popleft()
            try:
                sent = self.sink.send(data)
            except BlockingIOError:
                sent, self.blocked = 0, True
            except OSError:
                return False
            self.size -= sent
            if sent < len(data):
                self.waiting.appendleft((due, data[sent:]))
        return bool(self.waiting) or not self.ended


class Pair:
    """A connection: from whom it came, and to whom it was made."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.ends = (near, far)
        self.flows = (Flow(near, far), Flow(far, near))
        self.held_until = 0.0
        self.cut_at = math.inf
        self.left: socket.socket | None = None
        """The end that doesn't know, of a half-open one."""

    def forget(self) -> None:
        """Take what the uninformed end says, to nowhere."""
        if self.left is not None:
            with contextlib.suppress(BlockingIOError):
                while self.left.recv(READ_BYTES):
                    pass
                self.cut_at = 0.0  # it has given up by itself


class Link:
    """A listening port, where it leads, and what ails it."""

    def __init__(self, name: str, target: int) -> None:
        self.name, self.target = name, target
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.listener.setblocking(False)
        self.port = int(self.listener.getsockname()[1])
        self.pairs: list[Pair] = []
        self.delay_s = self.delay_until = self.refuse_until = 0.0

    def due(self, now: float) -> float:
        """When what comes now is passed on."""
        return now + self.delay_s if now < self.delay_until else now


class Proxy:
    """All links, and the thread that serves them."""

    def __init__(self, seed: int = 0) -> None:
        self.counts: Counter[str] = Counter()
        """By "link what": connections made, and mishaps that met any."""
        self._dice = Random(seed)
        self._links: dict[str, Link] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._commands: deque[tuple[Callable[[], int], Future[int]]] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    # --- what may be asked, from any thread ---------------------------------------------------------------

    def add(self, name: str, target: int = 0) -> int:
        """Make a link to a port of this machine; the port to connect to instead."""

        def add() -> int:
            link = self._links[name] = Link(name, target)
            self._selector.register(link.listener, selectors.EVENT_READ)
            return link.port

        return self._ask(add)

    def aim(self, name: str, target: int) -> None:
        """Lead a link somewhere else, from the next connection."""

        def aim() -> int:
            self._links[name].target = target
            return 0

        self._ask(aim)

    def delay(self, name: str, latency_s: float, for_s: float) -> int:
        """Be late; how many connections it meets now, as with all that follow."""

        def delay(link: Link, now: float) -> int:
            link.delay_s, link.delay_until = latency_s, now + for_s
            return len(link.pairs)

        return self._ail(name, "delays", delay)

    def stall(self, name: str, for_s: float) -> int:
        """Let nothing pass on the connections that there are."""

        def stall(link: Link, now: float) -> int:
            for pair in link.pairs:
                pair.held_until = max(pair.held_until, now + for_s)
            return len(link.pairs)

        return self._ail(name, "stalls", stall)

    def cut(self, name: str) -> int:
        """Reset a connection, or all of them."""

        def cut(link: Link, now: float) -> int:
            chosen = self._chosen(link)
            for pair in chosen:
                self._tear(pair)
                self._close(link, pair)
            return len(chosen)

        return self._ail(name, "cuts", cut)

    def half_open(self, name: str, for_s: float) -> int:
        """Close one end of a connection, or of all, and don't tell the other."""

        def half_open(link: Link, now: float) -> int:
            chosen = [pair for pair in self._chosen(link) if pair.left is None]
            for pair in chosen:
                gone = 1 if self._dice.random() < 0.75 else 0  # mostly it is who connected that isn't told
                self._tear(pair)
                self._end(pair.ends[gone])
                pair.left, pair.cut_at = pair.ends[1 - gone], now + for_s
            return len(chosen)

        return self._ail(name, "half-opens", half_open)

    def refuse(self, name: str, for_s: float) -> int:
        """Let nobody in."""

        def refuse(link: Link, now: float) -> int:
            link.refuse_until = now + for_s
            return 1

        return self._ail(name, "refusals", refuse)

    def heal(self) -> None:
        """From now on nothing goes wrong: what is held passes, what is half-open is cut."""

        def heal() -> int:
            for link in self._links.values():
                link.delay_until = link.refuse_until = 0.0
                for pair in list(link.pairs):
                    pair.held_until = 0.0
                    if pair.left is not None:
                        self._close(link, pair)
            return 0

        self._ask(heal)

    def stop(self) -> None:
        """End it, and all connections."""
        self._stopping = True
        os.write(self._wake_writer, b"\0")
        self._thread.join(COMMAND_S)
        for descriptor in (self._wake_reader, self._wake_writer):
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ail(self, name: str, what: str, ail: Callable[[Link, float], int]) -> int:
        met = self._ask(lambda: ail(self._links[name], time.monotonic()))
        if met:
            self.counts[f"{name} {what}"] += 1
        return met

    def _ask(self, command: Callable[[], int]) -> int:
        future: Future[int] = Future()
        self._commands.append((command, future))
        os.write(self._wake_writer, b"\0")
        return future.result(COMMAND_S)

    # --- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select(self._wait_s()):
                if key.fileobj == self._wake_reader:
                    os.read(self._wake_reader, 4096)
            while self._commands:
                command, future = self._commands.popleft()
                try:
                    future.set_result(command())
                except Exception as error:  # noqa: BLE001 - whoever asked gets it
                    future.set_exception(error)
            for link in self._links.values():
                self._serve(link, time.monotonic())
        for link in self._links.values():
            for pair in list(link.pairs):
                self._close(link, pair)
            self._end(link.listener)
        self._selector.close()

    def _wait_s(self) -> float:
        """Until something is due that no socket tells of."""
        now, soonest = time.monotonic(), 0.5
        for link in self._links.values():
            for pair in link.pairs:
                soonest = min(soonest, pair.cut_at - now)
                for flow in pair.flows:
                    if flow.waiting and not flow.blocked and pair.left is None:
                        soonest = min(soonest, max(flow.waiting[0][0], pair.held_until) - now)
        return max(0.0, soonest)

    def _serve(self, link: Link, now: float) -> None:
        self._accept(link, now)
        for pair in list(link.pairs):
            if pair.cut_at <= now:
                self._close(link, pair)
            elif not self._pass_on(link, pair, now):
                self._close(link, pair, reset=False)
            else:
                self._watch(pair)

    def _pass_on(self, link: Link, pair: Pair, now: float) -> bool:
        """False if the connection is over."""
        if pair.left is not None:
            try:
                pair.forget()
            except OSError:
                return False
            return True
        for flow in pair.flows:
            if not flow.ended and flow.size < BUFFER_BYTES and not flow.take(link.due(now)):
                return False
            if now >= pair.held_until and not flow.give(now):
                return False
        return True

    def _accept(self, link: Link, now: float) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                near, _ = link.listener.accept()
                far = None if now < link.refuse_until else self._connect(link.target)
                if far is None:
                    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    near.close()
                    continue
                for end in (near, far):
                    end.setblocking(False)
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._selector.register(end, selectors.EVENT_READ)
                link.pairs.append(Pair(near, far))
                self.counts[f"{link.name} connections"] += 1

    def _connect(self, target: int) -> socket.socket | None:
        try:
            return socket.create_connection(("127.0.0.1", target), CONNECT_S)
        except OSError:
            return None

    def _watch(self, pair: Pair) -> None:
        """Listen to what there is room for, and wait for room where there is none."""
        for end in pair.ends:
            events = 0
            for flow in pair.flows:
                if flow.source is end and not flow.ended and (flow.size < BUFFER_BYTES or end is pair.left):
                    events |= selectors.EVENT_READ
                if flow.sink is end and flow.blocked and pair.left is None:
                    events |= selectors.EVENT_WRITE
            known = end in self._selector.get_map() if end.fileno() >= 0 else False
            if known and events:
                self._selector.modify(end, events)
            elif known:
                self._selector.unregister(end)
            elif events and end.fileno() >= 0:
                self._selector.register(end, events)

    def _chosen(self, link: Link) -> list[Pair]:
        """One of the connections, or all."""
        if not link.pairs or self._dice.random() < 0.5:
            return list(link.pairs)
        return [self._dice.choice(link.pairs)]

    def _tear(self, pair: Pair) -> None:
        """Of what waits, let a part through that ends anywhere: a connection breaks in the middle of a frame."""
        for flow in pair.flows:
            rest = b"".join(data for _, data in flow.waiting)
            with contextlib.suppress(OSError):
                flow.sink.send(rest[: self._dice.randrange(len(rest) + 1)])
            flow.waiting.clear()
            flow.size = 0

    def _close(self, link: Link, pair: Pair, *, reset: bool = True) -> None:
        link.pairs.remove(pair)
        for end in pair.ends:
            self._end(end, reset=reset)

    def _end(self, end: socket.socket, *, reset: bool = True) -> None:
        """Close a socket, if it isn't closed yet. With a reset nothing more arrives, of what was sent neither."""
        if end.fileno() < 0:
            return
        if end in self._selector.get_map():
            self._selector.unregister(end)
        if reset:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.close()
