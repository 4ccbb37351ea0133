"""One client's part, in a process of its own: what the benchmark's own bookkeeping costs falls on nobody else.

    python -m benchmarks.player ROLE.json

It connects and prepares, prints `{"ready": true}`, waits for a line on stdin, plays, and prints what came of it as one
line of JSON: a `Report`. Then it keeps its connections until stdin ends, so that whoever measures can look at the
server's processes as they were. stderr is for people.
"""

from __future__ import annotations

import itertools
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from benchmarks.figures import percentile
from benchmarks.peers import by_key
from benchmarks.peers.peer import Client, Message, NotOffered
from benchmarks.schedule import due

WARM_MESSAGES: Final = 2_000
"""Sent before anything is timed: connections, caches, code that runs for the first time."""

LOT_MESSAGES_MAX: Final = 200_000
LOT_BYTES_MAX: Final = 64 << 20
"""Given to one call of `send`: more would only take memory."""

BODIES: Final = 64
"""Different ones: nothing may gain by seeing the same bytes again and again."""

STAMP: Final = struct.Struct("!dI")
"""When a message was due (`time.monotonic()`, which all processes of a machine share), and which it is."""

WARM_S: Final = 1.0
"""Of an open loop, before its latencies count."""

LOST_S: Final = 20.0
"""Nothing has come for so long: what is missing won't come."""


class Role(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What to play. Not every part needs every field."""

    part: Literal["send", "drain", "pace", "follow", "fan_out", "look"]
    peer: str
    endpoint: str
    number: int = 0
    mailboxes: int = 1_000
    body_bytes: int = 256
    each: bool = False
    """Whether every message is a call of its own."""
    count: int = 0
    """Messages; 0: as many as take about `seconds`, by the rate of the warm-up."""
    warm: int = WARM_MESSAGES
    seconds: float = 0.0
    rate: float = 0.0
    times: int = 0


class Report(msgspec.Struct, kw_only=True):
    """What came of it. Times are seconds."""

    count: int = 0
    """Messages that count: sent and acknowledged, or received."""
    warm: int = 0
    """Messages sent before those."""
    seconds: float = 0.0
    began: float = 0.0
    """By `time.monotonic()`, to be held against other processes'."""
    cpu_s: float = 0.0
    """Of this process, in those seconds."""
    values: list[float] = []
    """Each time something was done, in order."""
    percentiles: dict[str, float] = {}
    not_offered: str = ""
    """Why the peer can't do this."""


class Timed:
    """Wall and CPU time of what is done within."""

    def __enter__(self) -> Timed:
        self._cpu, self.began = time.process_time(), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, self.cpu_s = time.monotonic() - self.began, time.process_time() - self._cpu

    def report(self, count: int, *, warm: int = 0, values: list[float] | None = None) -> Report:
        return Report(
            count=count, warm=warm, seconds=self.seconds, began=self.began, cpu_s=self.cpu_s, values=values or []
        )


def messages(count: int, mailboxes: int, body_bytes: int) -> list[Message]:
    """So many, one mailbox after the other."""
    bodies = [os.urandom(body_bytes) for _ in range(min(BODIES, max(1, LOT_BYTES_MAX // body_bytes)))]
    return [
        Message(to, body)
        for to, body in itertools.islice(zip(itertools.cycle(range(mailboxes)), itertools.cycle(bodies)), count)
    ]


# --- the parts: what is done before the start, and what after it --------------------------------------------


def send(client: Client, role: Role) -> Callable[[], Report]:
    """Send, and wait for every answer."""
    give = client.send_each if role.each else client.send
    began = time.monotonic()
    if role.warm:
        give(messages(role.warm, role.mailboxes, role.body_bytes))
    rate = role.warm / (time.monotonic() - began)
    count = role.count or max(1, round(rate * role.seconds))
    size = min(count, LOT_MESSAGES_MAX, max(1, LOT_BYTES_MAX // role.body_bytes))
    lot = messages(size, role.mailboxes, role.body_bytes)

    def play() -> Report:
        with Timed() as timed:
            for _ in range(count // size):
                give(lot)
            if count % size:
                give(lot[: count % size])
        return timed.report(count, warm=role.warm)

    return play


def drain(client: Client, role: Role) -> Callable[[], Report]:
    """Take out and acknowledge all there is."""
    client.open_mailboxes(role.mailboxes)

    def play() -> Report:
        with Timed() as timed:
            count = client.drain(role.mailboxes, role.count)
        return timed.report(count)

    return play


def pace(client: Client, role: Role) -> Callable[[], Report]:
    """Send to one mailbox at a fixed rate; each body says when it was due."""

    def schedule() -> Iterator[tuple[float, Message]]:
        filling = bytes(max(0, role.body_bytes - STAMP.size))
        for n, at in enumerate(due(role.rate, WARM_S + role.seconds, time.monotonic() + 0.1)):
            yield at, Message(0, STAMP.pack(at, n) + filling)

    def play() -> Report:
        with Timed() as timed:
            client.send_at(schedule())
        return timed.report(round(role.rate * (WARM_S + role.seconds)))

    return play


def fan_out(client: Client, role: Role) -> Callable[[], Report]:
    """One message to everybody, several times."""
    body = os.urandom(role.body_bytes)
    client.send_to_all(body, role.mailboxes)

    def play() -> Report:
        values = []
        with Timed() as timed:
            for _ in range(role.times):
                began = time.monotonic()
                client.send_to_all(body, role.mailboxes)
                values.append(time.monotonic() - began)
        return timed.report(role.times, warm=1, values=values)

    return play


def look(client: Client, role: Role) -> Callable[[], Report]:
    """See a page of a mailbox, of several in turn. The first look at each connects, and is not timed."""
    boxes = range(0, role.mailboxes, max(1, role.mailboxes // 10))
    for box in boxes:
        client.newest(box, role.count)

    def play() -> Report:
        values, found = [], 0
        with Timed() as timed:
            for box in itertools.islice(itertools.cycle(boxes), role.times):
                began = time.monotonic()
                found += client.newest(box, role.count)
                values.append(time.monotonic() - began)
        return timed.report(found, values=values)

    return play


def follow(client: Client, role: Role, ready: Callable[[], None]) -> Report:
    """Subscribe to one mailbox, and see how old each message is when it comes, from when it was due."""
    ages: list[float] = []
    seen: set[int] = set()
    first = last_at = 0.0
    stop = threading.Event()

    def got(body: bytes) -> None:
        nonlocal first, last_at
        last_at = time.monotonic()
        due_at, n = STAMP.unpack_from(body)
        if n in seen:
            return  # once more, as at-least-once allows
        seen.add(n)
        first = first or due_at
        if due_at >= first + WARM_S:
            ages.append(last_at - due_at)
        if len(seen) == role.count:
            stop.set()

    def watch() -> None:
        while not stop.wait(1.0):
            if time.monotonic() - (last_at or began + LOST_S) > LOST_S:
                stop.set()

    began = time.monotonic()
    cpu = time.process_time()
    threading.Thread(target=watch, daemon=True).start()
    client.follow(0, got, ready, stop)
    if len(seen) < role.count:
        raise RuntimeError(f"of {role.count} messages {len(seen)} came")
    ages.sort()
    percentiles = {f"p{percent:g}": percentile(ages, percent) for percent in (50, 99, 99.9)} | {"max": ages[-1]}
    return Report(count=len(ages), began=began, cpu_s=time.process_time() - cpu, percentiles=percentiles)


PARTS: Final = {"send": send, "drain": drain, "pace": pace, "fan_out": fan_out, "look": look}


# --- the process --------------------------------------------------------------------------------------------


def say(what: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


def play(client: Client, role: Role) -> Report:
    """Play the part, when told to."""
    try:
        client.prepare(role.mailboxes)
        if role.part == "follow":
            return follow(client, role, lambda: say({"ready": True}))
        part = PARTS[role.part](client, role)
        say({"ready": True})
        if not sys.stdin.buffer.readline():
            raise SystemExit(1)  # whoever wanted it is gone
        return part()
    except NotOffered as why:
        return Report(not_offered=str(why) or "not offered")


def main() -> int:
    role = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Role)
    try:
        client = by_key(role.peer).client(role.endpoint, role.number)
    except NotOffered as why:
        say(Report(not_offered=str(why)))
        return 0
    try:
        say(play(client, role))
        while sys.stdin.buffer.readline():
            pass
    finally:
        client.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
