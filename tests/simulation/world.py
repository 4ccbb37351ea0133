"""The world of one simulation: a clock that only events move, dice with a seed, and a heap of what happens next.

Nothing in a simulated world may depend on anything but its seed: no wall clock, no hash order, no thread. Everybody
throws dice of their own (`dice(name)`), so that a change in one place does not change what befalls all others.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Final

EPOCH_US: Final = 1_790_000_000_000_000
"""Wall time at the beginning, microseconds since 1970: some day in 2026."""

STEPS_MAX: Final = 400_000
"""Events of one run. A run takes some thousands; one that takes so many chases its own tail."""

Trace = Callable[[str], None]
"""Is given a line of the transcript at a time."""


class Endless(AssertionError):
    """Events without end: somebody answers something with itself."""


class World:
    """Virtual time. `trace` gets the transcript; without one nothing is formatted."""

    def __init__(self, seed: int, trace: Trace | None = None) -> None:
        self.seed = seed
        self.now = 0.0
        """Seconds since the beginning: everybody's monotonic clock."""
        self.tracing = trace is not None
        self.steps = 0
        self._trace = trace
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    @property
    def wall_us(self) -> int:
        """A right wall clock."""
        return EPOCH_US + int(self.now * 1_000_000)

    def dice(self, name: str) -> random.Random:
        """Dice for one purpose, the same at every run of the seed."""
        return random.Random(f"{self.seed}/{name}")

    def at(self, time: float, do: Callable[[], None]) -> None:
        """Let it happen then, or now if that is past. What is due at the same time happens in the order of asking."""
        self._count += 1
        heapq.heappush(self._heap, (max(time, self.now), self._count, do))

    def after(self, delay_s: float, do: Callable[[], None]) -> None:
        """Let it happen so much later."""
        self.at(self.now + delay_s, do)

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass until then, or until it is done: whether it was. Raises Endless."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, do = heapq.heappop(self._heap)
            self.steps += 1
            if self.steps > STEPS_MAX:
                raise Endless(f"{STEPS_MAX} events, and no end at {self.now:.3f} s")
            do()
            if done():
                return True
        self.now = max(self.now, until)
        return done()

    def say(self, who: str, what: str) -> None:
        """Write a line of the transcript. Ask `tracing` before formatting what is large."""
        if self._trace is not None:
            self._trace(f"{self.now:10.4f}  {who:<9} {what}")
