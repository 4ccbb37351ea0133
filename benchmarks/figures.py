"""Many measurements into few figures: percentiles, medians, spreads, and how a figure is written for people."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from msgspec import Struct


class Figure(Struct, frozen=True):
    """What several rounds say: their median, their least and their greatest."""

    median: float
    least: float
    greatest: float
    rounds: int

    @property
    def spread(self) -> float:
        """From the median to what lies farthest from it, as a fraction of it: 0.05 is ±5 %."""
        farthest = max(self.greatest - self.median, self.median - self.least)
        return farthest / abs(self.median) if self.median else 0.0


def figure(values: Iterable[float]) -> Figure:
    """The figure of one or more rounds. Raises ValueError for none."""
    found = sorted(values)
    if not found:
        raise ValueError("a figure needs a round")
    return Figure(statistics.median(found), found[0], found[-1], len(found))


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of values in ascending order: the least value that `percent` of them don't exceed.

    No interpolation: it is always a value that was measured. Raises ValueError for no values.
    """
    if not ordered:
        raise ValueError("a percentile needs values")
    # Rounded first: 99.9 % of 1,000 is the 999th, not what 998.9999 or 999.0000001 would make of it.
    rank = math.ceil(round(len(ordered) * percent / 100, 6))
    return ordered[min(len(ordered), max(1, rank)) - 1]


def short(value: float, digits: int = 3) -> str:
    """A figure to so many significant digits, with thousands set apart: 68200 is "68,200", 0.0123 is "0.0123"."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "—"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    return f"{rounded:,.{max(0, places)}f}"


def size(count: float) -> str:
    """Bytes for people: "1.50 MiB", and "4 KiB" where it is just that."""
    unit = "B"
    for larger in ("KiB", "MiB", "GiB"):
        if count < 1024:
            break
        count, unit = count / 1024, larger
    return f"{count:,.0f} {unit}" if count == round(count) else f"{short(count)} {unit}"


def many(count: int) -> str:
    """A round number in words: 10000 is "10 thousand"."""
    for unit, name in ((1_000_000, "million"), (1_000, "thousand")):
        if count >= unit and count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count:,}"
