"""What a run has found, with all that one needs to know to believe it: the shape of `results.json`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from benchmarks.figures import Figure, figure, size
from benchmarks.peers.peer import Peer
from benchmarks.questions.question import Sample

IN_MEMORY = frozenset({"tmpfs", "ramfs"})


class Measured(Struct, frozen=True):
    """A peer, as it was measured."""

    key: str
    name: str
    promise: str
    durable: bool
    version: str


class Note(Struct, frozen=True):
    """What a figure is missing for."""

    kind: Literal["missing", "not offered", "failed", "interrupted"]
    peer: str
    question: str
    text: str


class Machine(Struct, frozen=True):
    """What it ran on."""

    processor: str
    cores: int
    memory_bytes: int
    system: str
    python: str
    file_system: str
    """Of the folder the data was in."""

    @property
    def text(self) -> str:
        return (
            f"{self.cores} cores of {self.processor}, {size(self.memory_bytes)} memory, {self.system},"
            f" Python {self.python}, {self.file_system}"
        )


class Results(Struct):
    """A whole run."""

    date: str
    machine: Machine
    quick: bool
    rounds: int
    peers: list[Measured]
    samples: list[Sample] = []
    notes: list[Note] = []
    seconds: float = 0.0

    def note(self, kind: Literal["missing", "not offered", "failed", "interrupted"], *rest: str) -> None:
        """Keep a note, once."""
        found = Note(kind, *rest)
        if found not in self.notes:
            self.notes.append(found)

    def figures(self, question: str, column: str) -> dict[tuple[str, str], Figure]:
        """What the rounds say, by peer and point."""
        values: dict[tuple[str, str], list[float]] = {}
        for sample in self.samples:
            if sample.question == question and column in sample.values:
                values.setdefault((sample.peer, sample.point), []).append(sample.values[column])
        return {place: figure(found) for place, found in values.items()}

    def name_of(self, key: str) -> str:
        """How it is called in tables: a peer's name, else what was measured beside peers."""
        return next((peer.name for peer in self.peers if peer.key == key), key)


def measured(peer: Peer) -> Measured:
    return Measured(peer.key, peer.name, peer.promise, peer.durable, peer.version())


def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


def this_machine(folder: Path) -> Machine:
    """What this is, without a name that somebody could find it by."""
    release = platform.freedesktop_os_release().get("PRETTY_NAME", "") if hasattr(platform, "uname") else ""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=f"{platform.system()} {platform.release()} ({release})" if release else platform.system(),
        python=platform.python_version(),
        file_system=file_system(folder),
    )


def file_system(folder: Path) -> str:
    """The kind that a folder is on: where it is memory, no promise about a disk means anything."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    resolved = folder.resolve()
    within = [(len(mount[1]), mount[2]) for mount in mounts if resolved.is_relative_to(mount[1])]
    return max(within, default=(0, "unknown"))[1]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def points(samples: Iterable[Sample], question: str) -> list[str]:
    """The points of a question's axis, ascending; [""] where it has none."""
    found = {sample.point for sample in samples if sample.question == question}
    return sorted(found, key=lambda point: float(point) if point else 0.0)


def encode(results: Results) -> bytes:
    """As JSON that a diff shows line by line."""
    return msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n"
