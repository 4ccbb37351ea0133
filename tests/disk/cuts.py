"""Power cuts by hand: `make power CUTS=20000`, or `python -m tests.disk.cuts --only store --seed 3 --cut 229`.

A round is a random workload of the store's or the accounts', done once with the power on, and then cut at every op that
it did to the disk, in rounds of every way to lose what was not synced. Exit code 1 at the first promise broken.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

from tests.disk import accounts_run, store_run
from tests.disk.platter import LOSSES, Loss
from tests.disk.runs import Violation, cuts, one_cut
from tests.disk.vfs import disk

KINDS: Final[dict[str, ModuleType]] = {"store": store_run, "accounts": accounts_run}

CUTS_A_ROUND: Final = 1_000
"""About as many as a workload has ops: each op is cut, in one way a seed."""

MEMORY: Final = Path("/dev/shm")
"""Where the files lie, if there is such a place: what a sync keeps is `Platter`'s to say, not this machine's disk's."""


def folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for one database, quick to write and to forget."""
    return tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None)


def cut_power(
    kind: str, seed: int, count: int, *, synchronous: str = "full", only: tuple[int, Loss] | None = None
) -> int:
    """Do one workload, cut it `count` times, check each; return how many ops it had. Raises Violation.

    `only` is one (op, loss) to cut instead.
    """
    of = KINDS[kind]
    with folder() as where, disk() as made:
        run = of.run(Path(where), made, seed, synchronous=synchronous)
    made_cuts = cuts(run, count) if only is None else [one_cut(run, *only)]
    for cut in made_cuts:
        with folder() as left:
            of.check(run, cut, Path(left))
    return len(run.log)


def main(argv: Sequence[str] | None = None) -> int:
    """Cut until there were enough; return 0 if all was there every time."""
    parser = argparse.ArgumentParser(prog="python -m tests.disk.cuts", description=__doc__)
    parser.add_argument("--cuts", type=int, default=2_000, help="how many, in all")
    parser.add_argument("--seed", type=int, default=0, help="of the first workload")
    parser.add_argument("--only", choices=KINDS, help="only the store's, or the accounts'")
    parser.add_argument("--cut", type=int, help="only this op of the seed's workload")
    parser.add_argument(
        "--loss", choices=LOSSES, default="all lost", help="with --cut: what goes of what wasn't synced"
    )
    parser.add_argument("--synchronous", choices=("full", "normal"), default="full", help="normal loses: see it happen")
    given = parser.parse_args(argv)
    kinds = [given.only] if given.only else list(KINDS)
    begun, done, seed = time.monotonic(), Counter[str](), given.seed
    try:
        if given.cut is not None:
            cut_power(kinds[0], seed, 1, synchronous=given.synchronous, only=(given.cut, given.loss))
            done[kinds[0]] = 1
        while given.cut is None and done.total() < given.cuts:
            for kind in kinds:
                count = min(CUTS_A_ROUND, given.cuts - done.total())
                if count > 0:
                    cut_power(kind, seed, count, synchronous=given.synchronous)
                    done[kind] += count
            seed += 1
    except Violation as violation:
        print(violation, file=sys.stderr)
        return 1
    took_s = time.monotonic() - begun
    for kind in kinds:
        print(f"{kind:>9}  {done[kind]:>9,} power cuts, nothing lost, nothing twice")
    rate = f"{done.total() / took_s:.0f} a second"
    seeds = f"seeds {given.seed} to {max(seed - 1, given.seed)}"
    print(f"{'in all':>9}  {done.total():>9,} in {took_s:.1f} s, {rate}; {seeds}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
