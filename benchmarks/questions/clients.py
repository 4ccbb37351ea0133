"""What does a connected client cost, that says nothing?"""

from __future__ import annotations

import contextlib
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final

import msgspec

from benchmarks.local_server import ROOT
from benchmarks.peers.restante import Place
from benchmarks.processes import end
from benchmarks.questions.question import Column, Question, Sample, Sizes
from benchmarks.stage import Failed, Stage

CROWD: Final = 2_000
"""Sockets of one process: each takes two descriptors, of which a process may have 20,000 on many machines."""

CONNECT_S: Final = 60.0
CONNECTS_PER_S_MIN: Final = 10.0
"""Slower than that is a failure, even on a machine where much else runs."""

SETTLE_S: Final = 2.0
WATCH_PART: Final = 2.0
"""The idle time that is watched, in rounds' seconds."""


def ask(stage: Stage, sizes: Sizes) -> Iterator[Sample]:
    place = msgspec.json.decode(stage.server.endpoint, type=Place)
    before = stage.usage().resident_bytes["broker"]
    crowds: list[subprocess.Popen[bytes]] = []
    count = 0
    try:
        for target in sizes.clients:
            while count < target:
                size = min(CROWD, target - count)
                crowds.append(_crowd(place, size))
                count += size
            _pause(SETTLE_S)
            began, used = time.monotonic(), stage.usage()
            _pause(sizes.seconds * WATCH_PART)
            now = stage.usage()
            cpu = now.since(used)["broker"] / (time.monotonic() - began)
            held = now.resident_bytes["broker"]
            values = {"each": (held - before) / target, "broker": float(held), "cpu": cpu * 100}
            yield Sample(question="clients", peer=stage.peer.key, point=str(target), values=values)
    finally:
        for crowd in crowds:
            with contextlib.suppress(BrokenPipeError):
                assert crowd.stdin is not None
                crowd.stdin.close()
        for crowd in crowds:
            end(crowd, 5.0)
            assert crowd.stdout is not None
            crowd.stdout.close()


def _crowd(place: Place, count: int) -> subprocess.Popen[bytes]:
    """A process with so many clients, all logged in. Raises Failed."""
    crowd = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.crowd", place.address, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
    )
    assert crowd.stdin is not None
    assert crowd.stdout is not None
    try:
        crowd.stdin.write(place.senders[0].encode() + b"\n")
        crowd.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(crowd.stdout, selectors.EVENT_READ)
            if not selector.select(CONNECT_S + count / CONNECTS_PER_S_MIN) or not crowd.stdout.readline():
                raise Failed(f"{count} more clients could not connect")
    except BaseException:
        end(crowd, 1.0)
        raise
    return crowd


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


QUESTION = Question(
    key="clients",
    title="Idle connected clients",
    method="Clients with CURVE, logged in, each with a ping every 30 s; Restante alone. The broker's resident memory"
    " beyond what it held without them, by their number, and its processor time while nothing happens.",
    axis="clients",
    columns=(
        Column(key="each", header="memory each", unit="bytes"),
        Column(key="broker", header="the broker", unit="bytes", plotted=False),
        Column(key="cpu", header="processor, idle", unit="%", plotted=False),
    ),
    ask=ask,
    fresh=True,
    only=("restante",),
)
