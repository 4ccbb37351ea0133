"""What goes wrong when: drawn from a seed, before the run."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from msgspec import Struct

CLIENTS: Final = "clients"
"""The link between clients and the broker."""

NET: Final = ("delay", "stall", "cut", "half_open", "refuse")

GAP_S: Final = {"service": 3.0, "person": 3.5, "stop": 5.0, "restart": 12.0, "net": 1.5}
"""Between two mishaps of a kind, on the average. `chat serve` gives up on a service that dies twenty times without
ever running for ten seconds: four that take turns are far from it."""

SETTLE_S: Final = 2.0
"""Before the first mishap: something is to be under way."""


class Mishap(Struct, frozen=True):
    """One thing that goes wrong: at a time, with whom or on which link, for how long."""

    at: float
    kind: str
    whom: str
    seconds: float = 0.0


class Deck:
    """Cards dealt in a random order, all of them before any comes again: nobody is spared by chance."""

    def __init__(self, dice: Random, cards: Sequence[str]) -> None:
        self._dice, self._cards = dice, cards
        self._left: list[str] = []

    def deal(self) -> str:
        if not self._left:
            self._left = self._dice.sample(self._cards, len(self._cards))
        return self._left.pop()


class Planner:
    """Draws one mishap after the other. `links` are dealt as often as they are listed."""

    def __init__(self, seed: int, services: Sequence[str], people: Sequence[str], links: Sequence[str]) -> None:
        self._dice = Random(seed)
        self._killed, self._restarted = Deck(self._dice, services), Deck(self._dice, services)
        self._people = Deck(self._dice, people)
        self._stopped = Deck(self._dice, [*services, *services, *people])
        self._links, self._net = Deck(self._dice, links), Deck(self._dice, NET)

    def times(self, gap_s: float, seconds: float) -> list[float]:
        """When something happens, at random, that often on the average."""
        times, at = list[float](), SETTLE_S + self._dice.expovariate(1 / gap_s)
        while at < seconds:
            times.append(at)
            at += self._dice.expovariate(1 / gap_s)
        return times

    def mishaps(self, kind: str, at: float) -> list[Mishap]:
        """What happens then, of a kind of GAP_S: one thing, now and then two."""
        dice = self._dice
        if kind == "service":
            count = 2 if dice.random() < 0.15 else 1
            return [Mishap(at, "kill", self._killed.deal(), dice.choice([0.0, 0.2, 1.5])) for _ in range(count)]
        if kind == "person":
            return [Mishap(at, "kill", self._people.deal(), dice.choice([0.0, 0.0, 1.0]))]
        if kind == "stop":
            return [Mishap(at, "stop", self._stopped.deal(), self._length(3.0, 8.0))]
        if kind == "restart":
            return [Mishap(at, "restart", self._restarted.deal())]
        return self._outage(at)

    def _outage(self, at: float) -> list[Mishap]:
        """Something on a link. A stall ends in a cut every second time: what was sent meanwhile, which may be several
        envelopes of one stream, is lost then, and has to go again in its order.
        """
        outage = Mishap(at, self._net.deal(), self._links.deal(), self._length(3.0, 12.0))
        if outage.kind != "stall" or self._dice.random() < 0.5:
            return [outage]
        return [outage, Mishap(at + 0.9 * outage.seconds, "cut", outage.whom)]

    def _length(self, most: float, long: float) -> float:
        """Short as a rule; one in eight is longer than a link's silence may be."""
        dice = self._dice
        return dice.uniform(most, long) if dice.random() < 0.125 else dice.uniform(0.1, most)


def draw(
    seed: int, seconds: float, services: Sequence[str], people: Sequence[str], links: Sequence[str]
) -> list[Mishap]:
    """The mishaps of a round, in their order."""
    planner = Planner(seed, services, people, links)
    mishaps = [
        mishap
        for kind, gap_s in GAP_S.items()
        for at in planner.times(gap_s, seconds)
        for mishap in planner.mishaps(kind, at)
    ]
    return sorted(mishaps, key=lambda mishap: mishap.at)
