"""Results that were not measured, for what is made of results."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.peer import Client, Server
from benchmarks.questions.question import Column, Question, Sample, Sizes
from benchmarks.results import Machine, Measured, Results
from benchmarks.stage import Stage

MACHINE = Machine("a processor", 2, 8 << 30, "Linux", "3.11", "ext4")


def ask_nothing(_stage: Stage, _sizes: Sizes) -> Iterator[Sample]:
    yield from ()


RATE = Question(
    key="rate",
    title="How <fast>?",
    method="By looking.",
    columns=(Column(key="rate", header="a second", unit="/s"),),
    ask=ask_nothing,
)
AGE = Question(
    key="age",
    title="How old?",
    method="By asking.",
    axis="messages a second",
    columns=(Column(key="p50", header="p50", unit="ms"), Column(key="p99", header="p99", unit="ms", plotted=False)),
    ask=ask_nothing,
)


def results(*samples: Sample) -> Results:
    peers = [
        Measured("restante", "Restante", "Synced | twice.", durable=True, version="1"),
        Measured("other", "Other & Sons", "Nothing.", durable=False, version="2"),
    ]
    return Results("2026-01-02", MACHINE, quick=False, rounds=3, peers=peers, samples=list(samples))


def rate(peer: str, *values: float) -> list[Sample]:
    return [Sample(question="rate", peer=peer, values={"rate": v}, round=n) for n, v in enumerate(values)]


class FakeServer:
    """Nothing that runs."""

    endpoint = "nowhere"

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def pids(self) -> dict[str, int]:
        return {}

    def data_bytes(self) -> int:
        return 0

    def stop(self) -> None:
        self._told.append("stopped")


class FakePeer:
    """A peer whose server starts, or not."""

    name = "Fake"
    promise = "None."
    durable = False

    def __init__(self, key: str = "fake", *, missing: str | None = None, breaks: bool = False) -> None:
        self.key = key
        self.told: list[str] = []
        self._missing = missing
        self._breaks = breaks

    def missing(self) -> str | None:
        return self._missing

    def version(self) -> str:
        return "0"

    def start(self, folder: Path) -> Server:
        assert list(folder.iterdir()) == []
        if self._breaks:
            raise RuntimeError("it would not")
        self.told.append("started")
        return FakeServer(self.told)

    def client(self, endpoint: str, number: int) -> Client:
        raise AssertionError("players are processes of their own: here nobody plays")
