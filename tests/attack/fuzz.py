"""Feeds decoders and cores with hostile inputs by the million, and stops at the first find.

    python -m tests.attack.fuzz --inputs 10000000 [--seed N] [--seconds S]
    python -m tests.attack.fuzz --seed N --cycle C          one cycle again: how a find is replayed

A cycle is 20,000 inputs for one house. At its end everybody falls silent, and the house must be at rest; then it is
torn down, and the process must hold no more memory than it did after the first cycles. A find is an exception that is
not RemoteProtocolError, an unanswered good client, something left in the core, or memory that grows.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from tests.attack.house import READERS, Find, House
from tests.attack.mutate import Frames, Mutator, vectors

CYCLE: Final = 20_000
GOOD_EVERY: Final = 500
STORE_INPUTS: Final = 500

WARM_CYCLES: Final = 3
"""Caches, interned strings and the allocator's arenas are full after these."""

BLOCKS_GROWTH_MAX: Final = 5_000
"""Python objects more than after the warm cycles, whatever the number of inputs: noise, not a leak."""

RSS_GROWTH_MIB_MAX: Final = 24
"""The same for the process: what C code holds."""

DIRECTIONS: Final = ["client→broker"] * 8 + list(READERS)


class Finding(msgspec.Struct):
    """What went wrong, and the input after which it did."""

    cycle: int
    at: int
    direction: str
    frames: Frames
    error: BaseException


class Tally(msgspec.Struct):
    """A run so far."""

    inputs: int = 0
    handled: int = 0
    read: Counter[str] = msgspec.field(default_factory=Counter)
    good: int = 0
    began_at: float = 0.0
    blocks: list[int] = msgspec.field(default_factory=list)
    rss_mib: list[float] = msgspec.field(default_factory=list)


def rss_mib() -> float:
    """What this process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def run_cycle(seed: int, cycle: int, inputs: int, tally: Tally, make: Callable[[], House] = House) -> Finding | None:
    """One house, attacked; the finding, if there is one. The same seed and cycle are the same inputs."""
    house = make()
    mutator, random = Mutator(f"{seed}:{cycle}", vectors()), Random(f"{seed}:{cycle}")
    at, direction, frames = 0, "", []
    try:
        for at in range(inputs):
            direction = random.choice(DIRECTIONS)
            frames = mutator.frames(direction)
            house.feed(direction, frames)
            if at % GOOD_EVERY == 0:
                house.ask_as_the_good_client()
                tally.good += 1
        direction, frames = "", []
        house.fall_silent()
        house.let_the_store_go_bad([mutator.frames("store→broker") for _ in range(STORE_INPUTS)])
    except Exception as error:  # noqa: BLE001  any at all is what is looked for
        return Finding(cycle, at, direction, frames, error)
    finally:
        tally.inputs += inputs
        tally.handled += house.handled
        tally.read += house.read
    return None


def look_at_memory(tally: Tally) -> None:
    """Note what is held now, between two houses. Raises Find if it has grown."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # glibc keeps what was freed between what was not
        ctypes.CDLL(None).malloc_trim(0)
    tally.blocks.append(sys.getallocatedblocks())
    tally.rss_mib.append(rss_mib())
    if len(tally.blocks) <= WARM_CYCLES:
        return
    blocks = tally.blocks[-1] - max(tally.blocks[:WARM_CYCLES])
    mib = tally.rss_mib[-1] - max(tally.rss_mib[:WARM_CYCLES])
    if blocks > BLOCKS_GROWTH_MAX or mib > RSS_GROWTH_MIB_MAX:
        raise Find(f"memory grows: {blocks} objects and {mib:.1f} MiB more than after the first cycles")


def fuzz(seed: int, inputs: int, seconds: float, say: Callable[[str], None]) -> tuple[Tally, Finding | None]:
    """Cycle after cycle, until so many inputs, so many seconds, or a find."""
    tally = Tally(began_at=time.monotonic())
    cycle = 0
    while tally.inputs < inputs and time.monotonic() - tally.began_at < seconds:
        finding = run_cycle(seed, cycle, min(CYCLE, inputs - tally.inputs), tally)
        if finding is None:
            try:
                look_at_memory(tally)
            except Find as error:
                finding = Finding(cycle, CYCLE, "", [], error)
        if finding is not None:
            return tally, finding
        if cycle % 25 == 0:
            say(progress(tally))
        cycle += 1
    return tally, None


def progress(tally: Tally) -> str:
    """One line on how far a run has come."""
    rate = tally.inputs / max(0.001, time.monotonic() - tally.began_at)
    return (
        f"{tally.inputs:>12,} inputs  {rate:>8,.0f}/s  {tally.read['decoded']:>11,} decoded  "
        f"{tally.handled:>11,} handled  {tally.good:>7,} good answers  {tally.blocks[-1]:>9,} objects  "
        f"{tally.rss_mib[-1]:>6.1f} MiB"
    )


def report(finding: Finding, seed: int) -> str:
    """How to see it again."""
    frames = " | ".join(frame[:100].hex() or "-" for frame in finding.frames) or "(after the cycle)"
    return (
        f"FOUND {type(finding.error).__name__}: {finding.error}\n"
        f"  cycle {finding.cycle}, input {finding.at}, {finding.direction}: {frames}\n"
        f"  again: python -m tests.attack.fuzz --seed {seed} --cycle {finding.cycle}"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attack.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cycle", type=int, help="only this one, with the traceback of what it finds")
    given = parser.parse_args(arguments)
    if given.cycle is not None:
        again = run_cycle(given.seed, given.cycle, CYCLE, Tally())
        if again is not None:
            print(report(again, given.seed))
            raise again.error
        return 0
    tally, finding = fuzz(given.seed, given.inputs, given.seconds, lambda line: print(line, flush=True))
    if tally.blocks:
        print(progress(tally))
    print("refused: " + ", ".join(f"{code} {n:,}" for code, n in sorted(tally.read.items()) if code != "decoded"))
    if finding is not None:
        print(report(finding, given.seed))
        return 1
    print(f"nothing found in {tally.inputs:,} inputs, seed {given.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
