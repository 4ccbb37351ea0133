"""What a question is: what it asks, how a peer is put to it, and how its answers are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from msgspec import Struct

from benchmarks.peers.peer import MAILBOXES, Peer
from benchmarks.stage import Stage

Unit = Literal["/s", "ms", "bytes", "µs", "%", "×", "count"]


class Sizes(Struct, frozen=True, kw_only=True):
    """How much is done: of a full run, a quick one, or a test's."""

    rounds: int
    mailboxes: int = MAILBOXES
    seconds: float
    """What a rate is measured for."""
    count: int = 0
    """Messages instead, where a test wants few."""
    memory: int = 1 << 30
    """Bytes of free memory that are at hand when something is measured (`quiet`): what the fastest peer writes."""
    pace_seconds: float
    rates: tuple[int, ...] = (100, 1_000, 5_000)
    fan_outs: int
    growth: tuple[int, ...]
    growth_s: float
    """For a peer to grow from one size to the next: one that would take longer stops there, and the table says so."""
    clients: tuple[int, ...]
    bodies: tuple[int, ...] = (16, 256, 4 << 10, 64 << 10, 1 << 20)
    commands: int
    only: dict[str, tuple[str, ...]] = {}
    """Of some questions, by key: the peers that there is time for."""


FULL = Sizes(
    rounds=3,
    seconds=3.0,
    pace_seconds=5.0,
    fan_outs=20,
    growth=(10_000, 100_000, 1_000_000, 10_000_000),
    growth_s=300.0,
    clients=(100, 1_000, 10_000),
    commands=30,
)
QUICK = Sizes(
    rounds=1,
    seconds=1.0,
    pace_seconds=1.5,
    fan_outs=5,
    growth=(10_000, 100_000, 1_000_000),
    growth_s=25.0,
    clients=(100, 1_000, 2_000),
    bodies=(16, 4 << 10, 1 << 20),
    commands=10,
    only={"growth": ("restante", "redis", "sqlite")},  # the others would take minutes each
)


class Sample(Struct, frozen=True, kw_only=True):
    """One measurement of one round."""

    question: str
    peer: str
    """Its key; what is measured beside peers ("bare imports") has one of its own."""
    point: str = ""
    """Where on the question's axis: "1000" a second, "4096" bytes."""
    values: dict[str, float]
    """By column. Seconds, bytes, messages a second."""
    round: int = 0


class Column(Struct, frozen=True, kw_only=True):
    """A column of a question's table, and how its values are written."""

    key: str
    header: str
    unit: Unit
    plotted: bool = True
    """Whether there is a plot of it."""


class Question(Struct, frozen=True, kw_only=True):
    """What is asked of every peer.

    Those that are not `fresh` are asked of one server, one after the other, in as many rounds as there are; a fresh
    one gets a server of its own, once.
    """

    key: str
    """For the command line and files: "latency"."""
    title: str
    method: str
    """How it is measured, in a few sentences."""
    axis: str = ""
    """What points are, for a question that is asked at several: "messages a second"."""
    columns: tuple[Column, ...]
    """What is answered. Values that have no column here (processes) are listed in one of their own."""
    ask: Callable[[Stage, Sizes], Iterator[Sample]]
    """Put it to a peer. Raises NotOffered, or what went wrong; what was given before counts."""
    fresh: bool = False
    only: tuple[str, ...] = ()
    """The peers, by key, that it is about; () is all."""
    not_for: tuple[str, ...] = ()
    """Those that it would tell nothing about."""

    def is_for(self, peer: Peer, sizes: Sizes) -> bool:
        """Whether a peer is asked."""
        allowed = (self.only, sizes.only.get(self.key, ()))
        return all(peer.key in some for some in allowed if some) and peer.key not in self.not_for
